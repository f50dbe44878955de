//! Defers periodic tasks when they are due.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::schedule::Schedule;
use super::ticks::Ticks;
use crate::database::connection::{Connection, Connector};
use crate::queue::defer::tick::{TickOutcome, defer_periodic_job};
use crate::support::backoff::Backoff;

/// The longest sleep, so that a change of the system clock is noticed.
const LONGEST_SLEEP: TimeDelta = TimeDelta::seconds(60);

/// How long the server may take to respond.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Defers the periodic tasks of an application when they are due. Every running worker has one.
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
    connector: Connector,
    schedules: Arc<[Schedule]>,
    /// One for each schedule of the application.
    ticks: Vec<Ticks>,
    backoff: Backoff,
}

impl PeriodicDeferrer {
    pub(crate) fn new(connector: Connector, schedules: Arc<[Schedule]>) -> Self {
        let ticks = schedules.iter().map(|_| Ticks::default()).collect();
        Self { connector, schedules, ticks, backoff: Backoff::default() }
    }

    /// Defers all ticks that are due at `now`, and returns when to call again.
    ///
    /// That is the time of the next tick, but at most a minute later, and sooner after a failure. Failures are logged
    /// and retried by the next call. The first call handles missed ticks like a worker that starts at that time. See
    /// [`MissedTicks`](crate::MissedTicks).
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
        for (schedule, ticks) in self.schedules.iter().zip(&mut self.ticks) {
            ticks.follow(schedule, now);
        }
        let after = |wait| now.checked_add_signed(wait).unwrap_or(now);
        let mut again_at = after(LONGEST_SLEEP);
        if self.defer_waiting().await {
            self.backoff.reset();
        } else {
            again_at = after(TimeDelta::from_std(self.backoff.next_wait()).unwrap_or(LONGEST_SLEEP));
        }
        self.ticks.iter().filter_map(Ticks::next).fold(again_at, DateTime::min)
    }

    /// Defers the pending ticks of each schedule in order, and returns whether none is left.
    async fn defer_waiting(&mut self) -> bool {
        let mut connection = None;
        let mut is_away = None;
        let mut all_deferred = true;
        for (schedule, ticks) in self.schedules.iter().zip(&mut self.ticks) {
            while let Some(tick) = ticks.first() {
                let outcome = match &is_away {
                    // One failed attempt to get a connection is enough.
                    Some(reason) => Err(TickFailure::Away(String::clone(reason))),
                    None => defer(&self.connector, &mut connection, schedule, tick).await,
                };
                let reason = match outcome {
                    Ok(outcome) => {
                        log_outcome(schedule, tick, &outcome);
                        ticks.forget_first();
                        continue;
                    }
                    Err(TickFailure::Refused(reason)) => reason,
                    Err(TickFailure::Away(reason)) => is_away.insert(reason).clone(),
                };
                if ticks.keep_first(&reason) {
                    log_failure(schedule, tick, &reason);
                }
                all_deferred = false;
                // A later tick must not overtake this one.
                break;
            }
        }
        all_deferred
    }
}

/// Why a tick could not be deferred.
enum TickFailure {
    /// The database cannot be reached at the moment.
    Away(String),
    /// The job is invalid, or the database returned an error.
    Refused(String),
}

/// Defers one tick on the connection, or on a new one. A connection that has failed is not used again.
async fn defer(
    connector: &Connector,
    connection: &mut Option<Connection>,
    schedule: &Schedule,
    tick: DateTime<Utc>,
) -> Result<TickOutcome, TickFailure> {
    let job = schedule.at(tick).map_err(|error| TickFailure::Refused(error.to_string()))?;
    let mut taken = match connection.take() {
        Some(taken) => taken,
        None => connector.get("defer the periodic task").await.map_err(|error| TickFailure::Away(error.to_string()))?,
    };
    match timeout(ANSWER_TIMEOUT, defer_periodic_job(job, &mut taken)).await {
        Ok(Ok(outcome)) => {
            *connection = Some(taken);
            Ok(outcome)
        }
        Ok(Err(error)) => Err(TickFailure::Refused(error.to_string())),
        Err(_) => Err(TickFailure::Away(format!("the server did not respond within {ANSWER_TIMEOUT:?}"))),
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
