//! Defers the jobs of calls that run at the same time in one statement.
//!
//! PostgreSQL commits transactions that have called `NOTIFY` one after the other, so that listeners receive the
//! notifications in order. Each takes a lock of the whole server and keeps it until its commit is durable
//! (`PreCommit_Notify` in PostgreSQL's source). So jobs that are deferred one by one wait for each other in any case.
//! Here they wait before they are sent, and travel together.
//!
//! At most one statement is in flight. A call that finds none starts one. All other calls wait for it, and the first of
//! them that notices its end starts the next one, for all that have come meanwhile. There is no task for this. The
//! waiting calls drive the statement together, so a call that is dropped or no longer polled delays no other.
//!
//! Because others wait for it, a statement must not wait for a transaction that may be waiting for them. If it has to
//! wait for a lock for more than a moment, or if the database refuses it, none of its jobs is stored. Each is then
//! inserted by its own call, for which no other call waits.
//!
//! For the same reason, the server must respond in time. A connection that has failed silently would otherwise hold up
//! all calls of the application.
//!
//! A lone job costs no more than an `INSERT`. Without a queueing lock, it can only wait for a lock on the table, like
//! every other job. With one, its own call inserts it.
//!
//! A job that may replace a pending one is always sent by its own call, because it may have to wait for a transaction
//! that has changed the pending job. So is one with options that few jobs have.

use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
use tokio::sync::oneshot;

use crate::database::connection::run::Run;
use crate::database::connection::{Connection, Connector};
use crate::database::statements::Statement;
use crate::database::statements::defer::{ExtraOptions, InsertEachJob, InsertJob, InsertJobs, LivingHolders};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
use crate::queue::defer::insert::{CheckedJob, NamesOfJob, insert_or_find, insert_or_find_silently};
use crate::support::json::approximate_size;
use crate::support::shared_future::{SharedFuture, WeakSharedFuture};

/// How many jobs a statement has at most.
const MOST_JOBS: usize = 1_000;

/// How many bytes the arguments of a statement's jobs have at most, unless it has only one job.
const MOST_BYTES: usize = 4 << 20;

/// How long the server may take to respond, while other calls wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Defers jobs one by one for an application, on connections from its pool.
#[derive(Clone)]
pub(crate) struct ConcurrentDefers(Arc<Shared>);

struct Shared {
    connector: Connector,
    state: Mutex<State>,
    /// Cloned for each call that inserts its job itself.
    alone: Arc<()>,
}

#[derive(Default)]
struct State {
    /// The calls whose jobs are not part of a statement yet. There are no more than callers, so this needs no limit.
    waiting: VecDeque<Call>,
    in_flight: WeakSharedFuture,
}

/// A waiting call.
struct Call {
    job: CheckedJob,
    size: usize,
    sender: oneshot::Sender<Answer>,
}

/// What a call learns about its job.
enum Answer {
    /// The job was inserted or the pending one found. There is none if the queueing lock is taken.
    Done(Result<Option<Deferred>, Error>),
    /// Nothing was stored. The call inserts the job itself, on this connection or on another one.
    Alone { job: CheckedJob, connection: Option<Connection>, alone: Arc<()> },
}

impl ConcurrentDefers {
    pub(crate) fn new(connector: Connector) -> Self {
        Self(Arc::new(Shared { connector, state: Mutex::default(), alone: Arc::default() }))
    }

    /// Inserts the job, or finds or replaces the pending one, and logs it.
    pub(crate) async fn insert_or_find(&self, job: CheckedJob) -> Result<Deferred, Error> {
        if job.is_special() {
            let mut connection = self.0.connector.get(InsertJob::ACTION).await?;
            return insert_or_find(job, &mut connection).await;
        }
        let names = NamesOfJob::of(&job.row);
        match self.answer(job).await {
            Answer::Done(result) => names.conclude(result?),
            Answer::Alone { job, connection, alone: _alone } => {
                let mut connection = match connection {
                    Some(connection) => connection.without_time_limit(),
                    None => self.0.connector.get(InsertJob::ACTION).await?,
                };
                insert_or_find(job, &mut connection).await
            }
        }
    }

    /// Waits for the answer, and drives the statements until it is there.
    async fn answer(&self, job: CheckedJob) -> Answer {
        let (sender, mut answer) = oneshot::channel();
        let size = approximate_size(&job.row.args);
        self.0.state().waiting.push_back(Call { job, size, sender });
        loop {
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Empty) => self.statement().await,
                Err(oneshot::error::TryRecvError::Closed) => {
                    let source = "the statement for several jobs panicked".into();
                    return Answer::Done(Err(Error::Pool { action: InsertJob::ACTION, source }));
                }
            }
        }
    }

    /// The statement in flight, or a new one for the waiting calls.
    fn statement(&self) -> SharedFuture {
        let mut state = self.0.state();
        state.in_flight.upgrade().unwrap_or_else(|| {
            let shared = self.0.clone();
            let statement = SharedFuture::new(async move { shared.run_statement().await });
            state.in_flight = statement.downgrade();
            statement
        })
    }
}

impl fmt::Debug for ConcurrentDefers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrentDefers").finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Code that holds the lock does not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a statement for the calls that have come by the time when there is a connection.
    async fn run_statement(&self) {
        let present = self.state().waiting.len();
        let mut connection = match self.connector.get_limited(InsertJob::ACTION, LONGEST_WAIT).await {
            Ok(connection) => connection,
            Err(error) => {
                // Calls that have come since then have not waited as long as the pool allows.
                let calls: Vec<_> = self.state().waiting.drain(..present).collect();
                return fail(calls.into_iter().map(|call| call.sender).collect(), error);
            }
        };
        let mut calls = self.state().take_calls();
        let is_plain = matches!(&*calls, [call] if call.job.row.queueing_lock.is_none());
        let is_lone = calls.len() == 1 && Arc::strong_count(&self.alone) == 1;
        if is_plain || connection.is_in_transaction() {
            for Call { job, sender, .. } in calls {
                send(sender, Answer::Done(insert_or_find_silently(job, &mut connection).await));
            }
        } else if let Some(Call { job, sender, .. }) = calls.pop_if(|_| is_lone) {
            send(sender, self.alone(job, Some(connection)));
        } else if !calls.is_empty() {
            let (senders, jobs): (Vec<_>, _) = calls.into_iter().map(|call| (call.sender, call.job)).unzip();
            match self.insert_each(jobs, &mut connection).await {
                Ok(answers) => senders.into_iter().zip(answers).for_each(|(sender, answer)| send(sender, answer)),
                Err(error) => fail(senders, error),
            }
        }
    }

    fn alone(&self, job: CheckedJob, connection: Option<Connection>) -> Answer {
        Answer::Alone { job, connection, alone: self.alone.clone() }
    }

    /// Inserts jobs of several calls in one statement, and returns the answer for each.
    async fn insert_each(&self, jobs: Vec<CheckedJob>, connection: &mut Connection) -> Result<Vec<Answer>, Error> {
        let (options, rows): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.if_enqueued, job.row)).unzip();
        let rows: Arc<InsertJobs> = Arc::new(rows.into_iter().collect());
        let result = connection.load(InsertEachJob { jobs: rows.clone() }).await;
        let rows = Arc::unwrap_or_clone(rows).into_jobs();
        let jobs = options.into_iter().zip(rows).map(|(if_enqueued, row)| {
            // The calls send jobs with further options themselves.
            CheckedJob { row, if_enqueued, extras: ExtraOptions::default() }
        });
        let ids = match result {
            Ok(ids) => ids,
            Err(error) if was_rolled_back(&error) => {
                tracing::debug!(action = "jobs_deferred_alone", "each job of a statement is deferred alone: {error}");
                return Ok(jobs.map(|job| self.alone(job, None)).collect());
            }
            Err(error) => return Err(error),
        };
        let jobs: Vec<_> = jobs.zip(ids).collect();
        let holders = holders(&jobs, connection).await;
        let answer = |(job, id): (CheckedJob, Option<JobId>)| {
            let holder = job.row.queueing_lock.as_ref().and_then(|lock| holders.get(lock));
            match (id, job.if_enqueued, holder) {
                (Some(id), ..) => Answer::Done(Ok(Some(Deferred::New(id)))),
                (None, IfEnqueued::Fail, _) => Answer::Done(Ok(None)),
                (None, IfEnqueued::Keep, Some(id)) => Answer::Done(Ok(Some(Deferred::Kept(*id)))),
                // The holder has started meanwhile.
                (None, ..) => self.alone(job, None),
            }
        };
        Ok(jobs.into_iter().map(answer).collect())
    }
}

impl State {
    /// Takes the calls for the next statement, without those that were dropped.
    fn take_calls(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        let mut bytes = 0;
        while let Some(call) = self.waiting.front() {
            let is_dropped = call.sender.is_closed();
            if !is_dropped {
                bytes += call.size;
                if !calls.is_empty() && (calls.len() == MOST_JOBS || bytes > MOST_BYTES) {
                    break;
                }
            }
            calls.extend(self.waiting.pop_front().filter(|_| !is_dropped));
        }
        calls
    }
}

/// Finds the pending jobs that are kept instead of those without an ID, by their queueing locks. An error is left to
/// the calls, which then try alone.
async fn holders(jobs: &[(CheckedJob, Option<JobId>)], connection: &mut Connection) -> HashMap<String, JobId> {
    let kept = jobs.iter().filter(|(job, id)| id.is_none() && job.if_enqueued == IfEnqueued::Keep);
    let queueing_locks: Vec<_> = kept.filter_map(|(job, _)| job.row.queueing_lock.clone()).collect();
    if queueing_locks.is_empty() {
        return HashMap::new();
    }
    connection.load(LivingHolders { queueing_locks }).await.unwrap_or_default().into_iter().collect()
}

/// Whether the server has responded with an error, so that certainly nothing was stored.
fn was_rolled_back(error: &Error) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(error.as_diesel(), Some(DatabaseError(kind, _)) if !matches!(kind, ClosedConnection | UnableToSendCommand))
}

/// Gives the answer to a call, unless it was dropped.
fn send(sender: oneshot::Sender<Answer>, answer: Answer) {
    let _ = sender.send(answer);
}

/// Gives the error to each of the calls.
fn fail(senders: Vec<oneshot::Sender<Answer>>, error: Error) {
    let copy = copies(error);
    senders.into_iter().for_each(|sender| send(sender, Answer::Done(Err(copy()))));
}

/// Makes errors like this one, which says that there is no connection, that it has broken, or that the server does not
/// respond.
fn copies(error: Error) -> Box<dyn Fn() -> Error + Send> {
    match error {
        Error::Pool { action, source } => {
            let source: Arc<dyn StdError + Send + Sync> = source.into();
            Box::new(move || Error::Pool { action, source: Box::new(source.clone()) })
        }
        Error::NoAnswer { action, timeout } => Box::new(move || Error::NoAnswer { action, timeout }),
        Error::Database { action, source: DatabaseError(kind, information) } => {
            let message = information.message().to_owned();
            Box::new(move || Error::database(action, DatabaseError(kind, Box::new(message.clone()))))
        }
        other => {
            let other = Arc::new(other);
            Box::new(move || Error::Pool { action: InsertJob::ACTION, source: Box::new(other.clone()) })
        }
    }
}
