//! A valid schedule of a periodic task, and the jobs that it defers.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::database::statements::defer::NewJob;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::periodic::cron::Cron;

/// The argument that contains the tick of a job, in Unix seconds.
pub(super) const TIMESTAMP: &str = "timestamp";

/// What to do with ticks missed while no worker was running, or while the machine was suspended.
///
/// Default: [`Procrastinate`](Self::Procrastinate). A tick is deferred only once, and not after a later tick of the
/// same schedule. A worker defers at most the last thousand missed ticks of a schedule.
///
/// If the database is away when a tick is due, the worker retries until the tick is `max_delay` old. This does not
/// count as missed.
///
/// # Example
///
/// ```
/// use procrastinate::{MissedTicks, PeriodicTask, task};
///
/// #[task]
/// async fn wake_up() {}
///
/// let punctual = PeriodicTask::new::<wake_up>("0 7 * * *").missed(MissedTicks::Skip);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedTicks {
    /// Uses Procrastinate's rule. A worker that starts defers the latest missed tick if it is no older than
    /// `max_delay`. A worker that was suspended defers all ticks it missed, however old.
    #[default]
    Procrastinate,
    /// Skips ticks that are more than a minute late.
    Skip,
    /// Defers the latest missed tick if it is no older than `max_delay`.
    Last,
    /// Defers all missed ticks that are no older than `max_delay`, oldest first. This includes the very first start.
    All,
}

/// A valid schedule of a periodic task.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(super) cron: Cron,
    pub(super) periodic_id: String,
    /// The job without the tick among its arguments.
    pub(super) job: NewJob,
    pub(super) max_delay: TimeDelta,
    pub(super) missed: MissedTicks,
}

impl Schedule {
    pub(crate) fn task_name(&self) -> &str {
        &self.job.task_name
    }

    pub(crate) fn periodic_id(&self) -> &str {
        &self.periodic_id
    }

    pub(crate) fn queue(&self) -> &str {
        &self.job.queue
    }

    pub(crate) fn queueing_lock(&self) -> Option<&str> {
        self.job.queueing_lock.as_deref()
    }

    /// Makes the job of a tick.
    pub(crate) fn at(&self, tick: DateTime<Utc>) -> DeferPeriodicJob {
        let mut job = self.job.clone();
        if let Value::Object(args) = &mut job.args {
            args.insert(TIMESTAMP.to_owned(), tick.timestamp().into());
        }
        DeferPeriodicJob { job, periodic_id: self.periodic_id.clone(), defer_timestamp: tick.timestamp() }
    }
}

/// Checks that the schedules of a task have different names. Ticks are claimed under the task and that name.
pub(crate) fn check_distinct(schedules: &[Schedule]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match schedules.iter().find(|schedule| !seen.insert((schedule.task_name(), schedule.periodic_id()))) {
        None => Ok(()),
        Some(schedule) => Err(Error::invalid(
            "periodic_id",
            schedule.periodic_id(),
            format!("must be different for each schedule of the task \"{}\"", schedule.task_name()),
        )),
    }
}
