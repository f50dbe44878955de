//! A valid schedule of a periodic task, and the jobs that it defers.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::database::statements::defer::NewJob;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::periodic::recurrence::Recurrence;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::options::{JobOptions, OptionsOf};
use crate::validation::invalid_args;

/// The argument that contains the tick of a job, in Unix seconds.
const TIMESTAMP: &str = "timestamp";

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
    pub(super) recurrence: Recurrence,
    pub(super) periodic_id: String,
    pub(super) task_name: String,
    /// The arguments without the tick.
    pub(super) args: Map<String, Value>,
    /// The options that override the task's.
    pub(super) options: JobOptions,
    pub(super) options_of: OptionsOf,
    pub(super) max_delay: TimeDelta,
    pub(super) missed: MissedTicks,
}

impl Schedule {
    pub(crate) fn task_name(&self) -> &str {
        &self.task_name
    }

    pub(crate) fn periodic_id(&self) -> &str {
        &self.periodic_id
    }

    /// Makes the job of a tick.
    pub(crate) fn at(&self, tick: DateTime<Utc>) -> Result<DeferPeriodicJob, Error> {
        let defer_timestamp = tick.timestamp();
        let job = self.job(defer_timestamp)?;
        Ok(DeferPeriodicJob { job, periodic_id: self.periodic_id.clone(), defer_timestamp })
    }

    /// Makes the job of a tick, in Unix seconds. The task's options can depend on it.
    pub(super) fn job(&self, tick: i64) -> Result<NewJob, Error> {
        let refuse = |rule: String| invalid_args(&self.task_name, &rule);
        let mut args = self.args.clone();
        if args.insert(TIMESTAMP.to_owned(), tick.into()).is_some() {
            return Err(refuse(format!("must not contain \"{TIMESTAMP}\", which is the tick of the periodic task")));
        }
        let args = Value::Object(args);
        let options = (self.options_of)(&args)
            .map_err(|misfit| refuse(format!("must fit the task, with \"{TIMESTAMP}\" added, and do not{misfit}")))?;
        let job = JobToDefer::new(&self.task_name, args, options).configure(&self.options).into_new_job()?;
        match job.scheduled_at {
            None => Ok(job),
            Some(scheduled_at) => {
                let rule = format!("must not be set for the periodic task \"{}\"; remove it", self.task_name);
                Err(Error::invalid("schedule_at or schedule_in", scheduled_at.to_string(), rule))
            }
        }
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
