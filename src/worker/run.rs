//! The life of a worker: register, loop, unregister.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Options;
use super::backoff::Backoff;
use super::heartbeat::{Report, beat};
use super::listener::{channels, listen};
use super::outcome::Outcome;
use super::slots::Slots;
use crate::app::App;
use crate::connector::{DieselConnector, PooledConnection};
use crate::error::Error;
use crate::job::JobId;
use crate::manager::{
    Heartbeat, finish_and_fetch, jobs_of_worker, prune_stalled_workers, register_worker, unregister_worker,
};
use crate::queries::lifecycle::{FetchedJob, FinishAndFetchJobs};

/// How long a connection is kept with nothing to do.
const LONGEST_LULL: Duration = Duration::from_millis(100);

/// How often the loop lets the jobs that it has started go first, before it looks at what has ended.
const YIELDS_AFTER_START: usize = 4;

/// Runs a worker until it is stopped, or until there is no job left where it is not to wait.
pub(super) async fn run(app: App, options: Options, shutdown: BoxFuture<'static, ()>) -> Result<(), Error> {
    let connector = app.connector().clone();
    let worker_id = enter(&connector, &options).await?;
    tracing::info!(
        action = "start_worker",
        worker.id = worker_id,
        worker.name = %options.name,
        worker.queues = ?options.queues,
        "started worker {worker_id} ({})", options.name,
    );

    // The side tasks end when this set is dropped, at the latest when this future is.
    let mut side_tasks = JoinSet::new();
    let (worker_ids, current_worker_id) = watch::channel(worker_id);
    let (report_sender, reports) = mpsc::channel(1);
    side_tasks.spawn(beat(connector.clone(), options.update_heartbeat_interval, current_worker_id, report_sender));
    let wake = Arc::new(Notify::new());
    if options.listen_notify && options.wait {
        let (ready, is_ready) = oneshot::channel();
        side_tasks.spawn(listen(connector.clone(), channels(options.queues.as_deref()), wake.clone(), ready));
        // Register interest, then look. An error says that listening failed; polling does it then.
        let _ = is_ready.await;
    }

    let mut worker = Loop::new(connector.clone(), app, options, worker_ids, wake, reports);
    let result = worker.run(shutdown).await;
    let worker_id = worker.worker_id();
    // Both may hold a connection of the pool's, and it may have one only.
    drop(worker);
    side_tasks.shutdown().await;
    leave(&connector, worker_id).await;
    result
}

async fn enter(connector: &DieselConnector, options: &Options) -> Result<i64, Error> {
    let mut connection = connector.get("register the worker").await?;
    for stalled in prune_stalled_workers(&mut connection, options.stalled_worker_timeout).await? {
        tracing::warn!(
            action = "prune_stalled_workers",
            worker.id = stalled,
            "worker {stalled} was not heard of for {:?} and was removed",
            options.stalled_worker_timeout,
        );
    }
    register_worker(&mut connection).await
}

async fn leave(connector: &DieselConnector, worker_id: i64) {
    let left = async {
        let mut connection = connector.get("unregister the worker").await?;
        unregister_worker(&mut connection, worker_id).await
    };
    match left.await {
        Ok(()) => tracing::info!(action = "stop_worker", worker.id = worker_id, "stopped worker {worker_id}"),
        Err(error) => tracing::warn!(
            action = "stop_worker",
            worker.id = worker_id,
            "stopped worker {worker_id}, which stays registered until it is found stalled: {error}",
        ),
    }
}

/// The state of the loop. Nothing else writes any of it.
struct Loop {
    connector: DieselConnector,
    options: Options,
    slots: Slots,
    /// Written when the worker has to register anew; read by the heartbeat.
    worker_ids: watch::Sender<i64>,
    /// Whether the worker is registered, as far as is known.
    registered: bool,
    /// A connection, kept over a burst of work: taking one costs a round trip, with which the pool checks it.
    connection: Option<PooledConnection>,
    /// When to give the connection back, unless there is something to do before.
    give_back_at: Instant,
    /// Told by the listener that there may be jobs.
    wake: Arc<Notify>,
    /// Sent by the heartbeat.
    reports: mpsc::Receiver<Report>,
    /// There may be jobs to fetch.
    look: bool,
    next_poll: Instant,
    stopping_since: Option<Instant>,
    backoff: Backoff,
    /// After a failure: when to go to the database again.
    pause_until: Option<Instant>,
}

impl Loop {
    fn new(
        connector: DieselConnector,
        app: App,
        options: Options,
        worker_ids: watch::Sender<i64>,
        wake: Arc<Notify>,
        reports: mpsc::Receiver<Report>,
    ) -> Self {
        Self {
            connector,
            slots: Slots::new(app, options.clone()),
            worker_ids,
            registered: true,
            connection: None,
            give_back_at: Instant::now(),
            wake,
            reports,
            look: true,
            next_poll: Instant::now() + options.fetch_job_polling_interval,
            stopping_since: None,
            backoff: Backoff::default(),
            pause_until: None,
            options,
        }
    }

    /// Each turn does one thing: an exchange with the database if there is cause for one, else it waits for a cause.
    /// What finishes while an exchange is under way goes out in the next one.
    async fn run(&mut self, mut shutdown: BoxFuture<'static, ()>) -> Result<(), Error> {
        loop {
            self.slots.gather();
            self.look_up_from_work(&mut shutdown).await;
            if self.pause_until.is_none() && self.has_cause() {
                match self.exchange().await {
                    // Jobs that end at once do so here, and their endings go out together in the next exchange.
                    // Another thread may have taken some of them, and needs a moment longer.
                    Ok(()) => {
                        for _ in 0..YIELDS_AFTER_START {
                            tokio::task::yield_now().await;
                        }
                    }
                    Err(error) => self.pause_after(error)?,
                }
            } else if self.is_done() {
                return Ok(());
            } else {
                self.wait(&mut shutdown).await;
            }
        }
    }

    /// What [`wait`](Self::wait) would hear of, for a worker that always has something else to do.
    async fn look_up_from_work(&mut self, shutdown: &mut BoxFuture<'static, ()>) {
        if self.stopping_since.is_none() && shutdown.now_or_never().is_some() {
            self.stop();
        }
        if let Ok(report) = self.reports.try_recv() {
            self.heed(report).await;
        }
    }

    fn free_slots(&self) -> usize {
        if self.stopping_since.is_some() { 0 } else { self.slots.free() }
    }

    fn has_cause(&self) -> bool {
        !self.slots.finished().is_empty() || (self.look && self.free_slots() > 0)
    }

    fn is_done(&self) -> bool {
        let no_more_to_come = self.stopping_since.is_some() || (!self.options.wait && !self.look);
        self.slots.is_empty() && no_more_to_come
    }

    /// The one place that waits. A branch that is not taken loses nothing: ended tasks stay in their set, a wake-up and a
    /// report stay where they were sent.
    async fn wait(&mut self, shutdown: &mut BoxFuture<'static, ()>) {
        let pause = OptionFuture::from(self.pause_until.map(tokio::time::sleep_until));
        tokio::select! {
            () = self.slots.join_next(), if self.slots.is_running() => {}
            () = self.wake.notified() => self.look = true,
            () = tokio::time::sleep_until(self.give_back_at), if self.connection.is_some() => self.connection = None,
            () = tokio::time::sleep_until(self.next_poll) => self.poll(),
            Some(()) = pause => self.pause_until = None,
            Some(report) = self.reports.recv() => self.heed(report).await,
            () = shutdown, if self.stopping_since.is_none() => self.stop(),
        }
    }

    fn poll(&mut self) {
        self.look = true;
        self.next_poll = Instant::now() + self.options.fetch_job_polling_interval;
    }

    fn stop(&mut self) {
        tracing::info!(action = "stopping_worker", worker.id = self.worker_id(), "stopping; no more jobs are taken");
        self.stopping_since = Some(Instant::now());
    }

    fn worker_id(&self) -> i64 {
        *self.worker_ids.borrow()
    }

    /// Stores how jobs ended and fetches new ones, in one round trip.
    async fn exchange(&mut self) -> Result<(), Error> {
        // First, because it may change the worker's id.
        let mut connection = self.connect().await?;
        let free_slots = self.free_slots();
        let stored = self.slots.finished().len();
        let answer = finish_and_fetch(&mut connection, self.statement(free_slots)).await?;
        self.keep(connection);
        self.backoff.reset();

        self.report_lost(&answer.lost);
        self.slots.forget_finished(stored);
        if free_slots > 0 {
            // As many as there was room for: there may be more.
            self.look = answer.fetched.len() >= free_slots;
            self.next_poll = Instant::now() + self.options.fetch_job_polling_interval;
        }
        self.slots.start(answer.fetched);
        Ok(())
    }

    fn statement(&self, free_slots: usize) -> FinishAndFetchJobs {
        let mut statement = FinishAndFetchJobs {
            worker_id: self.worker_id(),
            finished: Vec::new(),
            end_statuses: Vec::new(),
            retries: None,
            queues: self.options.queues.as_deref().map(<[String]>::to_vec),
            free_slots: i32::try_from(free_slots).unwrap_or(i32::MAX),
        };
        for finished in self.slots.finished() {
            match &finished.outcome {
                Outcome::Succeeded => statement.finish(finished.job_id, "succeeded"),
                Outcome::Failed { .. } => statement.finish(finished.job_id, "failed"),
                Outcome::Retried { decision, .. } => statement.retry(finished.job_id, decision),
            }
        }
        statement
    }

    /// The connection of this burst of work. The worker is registered when it returns.
    async fn connect(&mut self) -> Result<PooledConnection, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.get("finish jobs and fetch new ones").await?,
        };
        if !self.registered {
            let worker_id = register_worker(&mut connection).await?;
            tracing::info!(action = "register_worker", worker.id = worker_id, "registered anew as worker {worker_id}");
            self.worker_ids.send_replace(worker_id);
            self.registered = true;
        }
        Ok(connection)
    }

    /// Keeps a connection that works for what comes next. One that has failed is dropped instead, and the pool sees
    /// whether it is broken.
    fn keep(&mut self, connection: PooledConnection) {
        self.connection = Some(connection);
        self.give_back_at = Instant::now() + LONGEST_LULL;
    }

    fn report_lost(&self, lost: &[JobId]) {
        let worker_id = self.worker_id();
        for finished in self.slots.finished().iter().filter(|finished| lost.contains(&finished.job_id)) {
            tracing::error!(
                action = "job_lost",
                job.id = i64::from(finished.job_id),
                worker.id = worker_id,
                "job {} has {}, but meanwhile it was taken from worker {worker_id}, so that was not stored",
                finished.job_id,
                finished.outcome.as_str(),
            );
        }
    }

    /// After a failed exchange: nothing of it is forgotten, and it is tried again after a while. Jobs that the database
    /// may have handed out in an answer that never arrived are found by the heartbeat.
    fn pause_after(&mut self, error: Error) -> Result<(), Error> {
        if says_that_worker_is_gone(&error) {
            self.declare_gone();
        }
        let given_up = self.stopping_since.is_some_and(|since| since.elapsed() > self.options.stalled_worker_timeout);
        if given_up {
            let job_ids = self.slots.finished().iter().map(|finished| finished.job_id).collect();
            return Err(Error::UnsavedJobs { job_ids, source: Box::new(error) });
        }
        let wait: Duration = self.backoff.next_wait();
        tracing::error!(
            action = "fetch_job_error",
            worker.id = self.worker_id(),
            "worker {} tries again in {wait:?}: {error}",
            self.worker_id(),
        );
        self.pause_until = Some(Instant::now() + wait);
        Ok(())
    }

    async fn heed(&mut self, report: Report) {
        if report.worker_id != self.worker_id() || !self.registered {
            return;
        }
        match report.heartbeat {
            Heartbeat::Gone => self.declare_gone(),
            Heartbeat::Alive(job_ids) => {
                let unknown: Vec<JobId> = job_ids.into_iter().filter(|id| !self.slots.holds(*id)).collect();
                if !unknown.is_empty() {
                    self.take_in_hand(unknown).await;
                }
            }
        }
    }

    /// The worker's row is gone: somebody took this worker for dead, and its jobs are not its own any more.
    fn declare_gone(&mut self) {
        tracing::error!(
            action = "worker_lost",
            worker.id = self.worker_id(),
            "worker {} was removed by somebody who took it for dead; it registers anew",
            self.worker_id(),
        );
        self.registered = false;
        self.look = true;
    }

    /// Starts jobs that the database says this worker is doing, while it knows nothing of them: the answer that handed
    /// them out was lost. No exchange is under way here, so those that are still doing are nobody else's.
    async fn take_in_hand(&mut self, job_ids: Vec<JobId>) {
        let worker_id = self.worker_id();
        match self.look_up(worker_id, job_ids).await {
            Ok(jobs) => {
                for fetched in &jobs {
                    tracing::warn!(
                        action = "job_found",
                        job.id = i64::from(fetched.job.id),
                        worker.id = worker_id,
                        "job {} was handed out in an answer that was lost on the way; it starts now",
                        fetched.job.id,
                    );
                }
                self.slots.start(jobs);
            }
            // The next heartbeat brings them again.
            Err(error) => {
                tracing::warn!(
                    action = "job_found_error",
                    worker.id = worker_id,
                    "could not look for lost jobs: {error}"
                );
            }
        }
    }

    async fn look_up(&mut self, worker_id: i64, job_ids: Vec<JobId>) -> Result<Vec<FetchedJob>, Error> {
        let mut connection = self.connect().await?;
        let jobs = jobs_of_worker(&mut connection, worker_id, job_ids).await?;
        self.keep(connection);
        Ok(jobs)
    }
}

/// A job cannot be given to a worker without a row.
fn says_that_worker_is_gone(error: &Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
    matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)))
}
