//! A periodic task that was checked: when it comes round, and the job that it becomes then.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::database::statements::defer::NewJob;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::periodic::cron::Cron;

/// The argument that tells a job its tick, in Unix seconds.
pub(super) const TIMESTAMP: &str = "timestamp";

/// What happens to the ticks for which no worker was there: while all workers were stopped, while the machine slept, when
/// the clock was set forward.
///
/// However many workers there are, a tick is deferred once; and none is once a later one was. Of one schedule a worker
/// defers at most a thousand missed ticks at a time, the last ones. A tick that came in time, but could not be deferred
/// because the database was away, is none of these: it is tried again until it is `max_delay` old.
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
pub enum MissedTicks {
    /// As Procrastinate does: a worker that starts defers the last tick, if it is at most `max_delay` old; one that was
    /// held up defers all that it has missed since, however old.
    #[default]
    Procrastinate,
    /// A tick that is more than a minute late is left out.
    Skip,
    /// The last one is deferred, if it is at most `max_delay` old.
    Last,
    /// All are deferred that are at most `max_delay` old, oldest first; at the very first start too.
    All,
}

/// A periodic task that was checked.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(super) cron: Cron,
    pub(super) periodic_id: String,
    /// The job, but for the tick among its arguments.
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

    /// The job of a tick.
    pub(crate) fn at(&self, tick: DateTime<Utc>) -> DeferPeriodicJob {
        let mut job = self.job.clone();
        if let Value::Object(args) = &mut job.args {
            args.insert(TIMESTAMP.to_owned(), tick.timestamp().into());
        }
        DeferPeriodicJob { job, periodic_id: self.periodic_id.clone(), defer_timestamp: tick.timestamp() }
    }
}

/// Checks that each schedule of a task has a name of its own: by task and name a tick is claimed.
pub(crate) fn check_distinct(schedules: &[Schedule]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match schedules.iter().find(|schedule| !seen.insert((schedule.task_name(), schedule.periodic_id()))) {
        None => Ok(()),
        Some(schedule) => Err(Error::invalid(
            "periodic_id",
            schedule.periodic_id(),
            format!("the task \"{}\" has two schedules of that name; give each one its own", schedule.task_name()),
        )),
    }
}
