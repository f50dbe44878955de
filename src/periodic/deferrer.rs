//! Defers periodic tasks when they are due.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::schedule::Schedule;
use super::timetable::{Entry, ScheduledTasks, Timetable};
use crate::database::connection::run::Run;
use crate::database::connection::{Connection, Connector};
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::database::statements::schedules::{ListSchedulesQuery, RegisterSchedulesQuery};
use crate::error::Error;
use crate::queue::defer::tick::{TickOutcome, defer_periodic_job};
use crate::support::backoff::Backoff;

/// The longest sleep, so that a change of the system clock is noticed.
const LONGEST_SLEEP: TimeDelta = TimeDelta::seconds(60);

/// How often the schedules in the code are written to the database, so that they count as being in use.
const REGISTRATION_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// How long the server may take to respond.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Defers the periodic tasks of an application when they are due, with the schedules in its code and in the database.
/// Every running worker has one.
///
/// Use it in programs that defer jobs and run no worker, and in tests. It has no clock: you pass the time.
///
/// # Example
///
/// A program that only defers periodic tasks:
///
/// ```no_run
/// use chrono::Utc;
///
/// # async fn example(app: procrastinate::App) {
/// let mut deferrer = app.periodic_deferrer();
/// loop {
///     let again_at = deferrer.defer_due(Utc::now()).await;
///     tokio::time::sleep((again_at - Utc::now()).to_std().unwrap_or_default()).await;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct PeriodicDeferrer {
    timetable: Timetable,
    session: Session,
    /// How often to read the schedules of the database. `None` means every time.
    load_every: Option<TimeDelta>,
    /// When they were read. `None` means that they have to be read.
    loaded_at: Option<DateTime<Utc>>,
    /// Why they could not be read the last time.
    load_failure: Option<String>,
    /// When the schedules in the code were last written.
    registered_at: Option<DateTime<Utc>>,
    backoff: Backoff,
}

impl PeriodicDeferrer {
    pub(crate) fn new(connector: Connector, tasks: Arc<dyn ScheduledTasks>) -> Self {
        Self {
            timetable: Timetable::new(tasks),
            session: Session { connector, connection: None, is_away: None },
            load_every: None,
            loaded_at: None,
            load_failure: None,
            registered_at: None,
            backoff: Backoff::default(),
        }
    }

    /// Sets how often to read the schedules of the database.
    pub(crate) fn load_every(&mut self, interval: TimeDelta) {
        self.load_every = Some(interval);
    }

    /// Reads the schedules of the database the next time.
    pub(crate) fn reload(&mut self) {
        self.loaded_at = None;
    }

    /// Defers all ticks that are due at `now`, and returns when to call again.
    ///
    /// That is the time of the next tick, but at most a minute later, and sooner after a failure. Failures are logged
    /// and retried by the next call. The first call handles missed ticks like a worker that starts at that time. See
    /// [`MissedTicks`](crate::MissedTicks).
    ///
    /// Each call reads the schedules of the database. To use changes of them within a second, call it every second.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) {
    /// // Defer what would be due at the turn of the year.
    /// app.periodic_deferrer().defer_due("2027-01-01T00:00:00Z".parse().unwrap()).await;
    /// # }
    /// ```
    pub async fn defer_due(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let is_loaded = self.load(now).await;
        self.timetable.entries_mut().for_each(|entry| entry.follow(now));
        let after = |wait| now.checked_add_signed(wait).unwrap_or(now);
        let mut again_at = after(self.load_every.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP));
        if self.defer_waiting(now).await && is_loaded {
            self.backoff.reset();
        } else {
            again_at = after(TimeDelta::from_std(self.backoff.next_wait()).unwrap_or(LONGEST_SLEEP));
        }
        self.session.release();
        self.timetable.entries().filter_map(|entry| entry.ticks.next()).fold(again_at, DateTime::min)
    }

    /// Reads the schedules of the database if that is due, and returns whether they are known.
    async fn load(&mut self, now: DateTime<Utc>) -> bool {
        let is_recent = |loaded_at: DateTime<Utc>, interval| loaded_at <= now && now - loaded_at < interval;
        if self.load_every.is_some_and(|interval| self.loaded_at.is_some_and(|at| is_recent(at, interval))) {
            return true;
        }
        let is_registered = self.registered_at.is_some_and(|at| is_recent(at, REGISTRATION_INTERVAL));
        let rows_of_code = if is_registered { None } else { self.timetable.rows_of_code() };
        let load = async |connection: &mut Connection| {
            if let Some(schedules) = rows_of_code {
                connection.load_one(RegisterSchedulesQuery { schedules }).await?;
            }
            connection.load(ListSchedulesQuery { key: None }).await
        };
        match self.session.run("read the schedules", load).await {
            Ok(rows) => {
                self.timetable.update(rows.into_iter().map(|(schedule, _)| schedule));
                self.loaded_at = Some(now);
                self.load_failure = None;
                self.registered_at = if is_registered { self.registered_at } else { Some(now) };
                true
            }
            Err(Failure::Away(reason) | Failure::Refused(reason)) => {
                if self.load_failure.as_ref() != Some(&reason) {
                    tracing::warn!(
                        action = "load_schedules_error",
                        "could not read the schedules of the database, will retry: {reason}",
                    );
                }
                self.load_failure = Some(reason);
                false
            }
        }
    }

    /// Defers the pending jobs of each schedule in order, and returns whether none is left.
    async fn defer_waiting(&mut self, now: DateTime<Utc>) -> bool {
        let mut all_deferred = true;
        let mut is_outdated = false;
        for entry in self.timetable.entries_mut() {
            let progress = match run_on_request(&mut self.session, entry, now).await {
                Progress::Done => defer_ticks(&mut self.session, entry).await,
                unfinished => unfinished,
            };
            all_deferred &= progress == Progress::Done;
            is_outdated |= progress == Progress::Outdated;
        }
        if is_outdated {
            self.loaded_at = None;
        }
        all_deferred
    }
}

/// How far the jobs of a schedule were deferred.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done,
    /// Some failed, and are kept.
    Unfinished,
    /// The schedule was changed, and has to be read again.
    Outdated,
}

/// Defers the job that was requested, if any.
async fn run_on_request(session: &mut Session, entry: &mut Entry, now: DateTime<Utc>) -> Progress {
    let Some(job) = entry.requested_job(now) else { return Progress::Done };
    match session.defer(job).await {
        Ok(TickOutcome::Locked) | Err(Failure::Away(_)) => Progress::Unfinished,
        Ok(TickOutcome::Changed | TickOutcome::Conflict) => Progress::Outdated,
        Ok(outcome) => {
            log_outcome(&entry.schedule, now, &outcome);
            entry.forget_request();
            Progress::Done
        }
        Err(Failure::Refused(reason)) => {
            log_failure(&entry.schedule, now, &reason);
            Progress::Unfinished
        }
    }
}

/// Defers the pending ticks of a schedule in order.
async fn defer_ticks(session: &mut Session, entry: &mut Entry) -> Progress {
    while let Some(tick) = entry.ticks.first() {
        // A later tick must not overtake one that has failed.
        match session.defer(entry.schedule.at(tick)).await {
            Ok(TickOutcome::Changed | TickOutcome::Conflict) => return Progress::Outdated,
            Ok(TickOutcome::Locked) => {
                entry.ticks.keep_first("another transaction is changing the schedule");
                return Progress::Unfinished;
            }
            Ok(outcome) => {
                log_outcome(&entry.schedule, tick, &outcome);
                entry.ticks.forget_first();
            }
            Err(Failure::Away(reason) | Failure::Refused(reason)) => {
                if entry.ticks.keep_first(&reason) {
                    log_failure(&entry.schedule, tick, &reason);
                }
                return Progress::Unfinished;
            }
        }
    }
    Progress::Done
}

/// Why something could not be done in the database.
enum Failure {
    /// The database cannot be reached at the moment.
    Away(String),
    /// The job is invalid, or the database returned an error.
    Refused(String),
}

/// The connection of one call.
#[derive(Debug)]
struct Session {
    connector: Connector,
    connection: Option<Connection>,
    /// Why there is no connection. One failed attempt is enough.
    is_away: Option<String>,
}

impl Session {
    /// Defers one job.
    async fn defer(&mut self, job: Result<DeferPeriodicJob, Error>) -> Result<TickOutcome, Failure> {
        let job = job.map_err(|error| Failure::Refused(error.to_string()))?;
        self.run("defer the periodic task", async |connection: &mut Connection| {
            defer_periodic_job(job, connection).await
        })
        .await
    }

    /// Runs statements on the connection, or on a new one. A connection that has failed is not used again.
    async fn run<T>(
        &mut self,
        action: &'static str,
        statements: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        if let Some(reason) = &self.is_away {
            return Err(Failure::Away(reason.clone()));
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.connector.get(action).await {
                Ok(connection) => connection,
                Err(error) => return Err(self.away(error.to_string())),
            },
        };
        match timeout(ANSWER_TIMEOUT, statements(&mut connection)).await {
            Ok(Ok(result)) => {
                self.connection = Some(connection);
                Ok(result)
            }
            Ok(Err(error)) => Err(Failure::Refused(error.to_string())),
            Err(_) => Err(self.away(format!("the server did not respond within {ANSWER_TIMEOUT:?}"))),
        }
    }

    fn away(&mut self, reason: String) -> Failure {
        self.is_away = Some(reason.clone());
        Failure::Away(reason)
    }

    /// Returns the connection to the pool.
    fn release(&mut self) {
        self.connection = None;
        self.is_away = None;
    }
}

fn log_outcome(schedule: &Schedule, tick: DateTime<Utc>, outcome: &TickOutcome) {
    let (task_name, periodic_id) = (schedule.task_name(), schedule.periodic_id());
    let defer_timestamp = tick.timestamp();
    match outcome {
        TickOutcome::Deferred { job_id, queue } => tracing::info!(
            action = "periodic_task_deferred",
            job.id = i64::from(*job_id),
            job.task_name = task_name,
            job.queue = queue,
            periodic_id,
            defer_timestamp,
            "deferred the periodic task {task_name} for {tick} as job {job_id}",
        ),
        TickOutcome::AlreadyDeferred => tracing::debug!(
            action = "periodic_task_already_deferred",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            "the periodic task {task_name} was already deferred for {tick}",
        ),
        TickOutcome::QueueingLockTaken { queueing_lock } => tracing::debug!(
            action = "skip_periodic_task_queueing_lock",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            queueing_lock,
            "skipped the periodic task {task_name} for {tick}: another pending job holds its queueing lock",
        ),
        TickOutcome::Overlaps => tracing::info!(
            action = "skip_periodic_task_overlap",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            "skipped the periodic task {task_name} for {tick}: its last job is pending or running",
        ),
        TickOutcome::Paused | TickOutcome::Changed | TickOutcome::Conflict | TickOutcome::Locked => tracing::debug!(
            action = "skip_periodic_task_paused",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            "skipped the periodic task {task_name} for {tick}: its schedule was paused",
        ),
    }
}

fn log_failure(schedule: &Schedule, tick: DateTime<Utc>, reason: &str) {
    let (task_name, periodic_id) = (schedule.task_name(), schedule.periodic_id());
    tracing::error!(
        action = "periodic_task_error",
        job.task_name = task_name,
        periodic_id,
        defer_timestamp = tick.timestamp(),
        "could not defer the periodic task {task_name} for {tick}, will retry: {reason}",
    );
}
