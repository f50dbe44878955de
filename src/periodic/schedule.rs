//! A valid schedule of a periodic task, and the jobs that it defers.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::insert::CheckedJob;
use crate::queue::defer::options::{Deadline, JobOptions, OptionsOf};
use crate::schedule::cron::Cron;
use crate::schedule::recurrence::Recurrence;
use crate::schedule::{MissedTicks, Overlap, TIMESTAMP, check_has_no_tick};
use crate::validation::invalid_args;

/// A tick with which the arguments are checked: the first second of 2026.
pub(super) const SAMPLE_TICK: i64 = 1_767_225_600;

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
    /// Only for a schedule in the code. The statement that defers a tick reads it from the row.
    pub(super) overlap: Overlap,
    /// The version of the row, for a schedule in the database.
    pub(super) version: Option<i64>,
}

impl Schedule {
    pub(crate) fn task_name(&self) -> &str {
        &self.task_name
    }

    pub(crate) fn periodic_id(&self) -> &str {
        &self.periodic_id
    }

    /// The task and the `periodic_id`. No two schedules have the same.
    pub(super) fn key(&self) -> (&str, &str) {
        (&self.task_name, &self.periodic_id)
    }

    /// Reads a schedule of the database. `max_delay` is that of the application.
    pub(super) fn from_row(
        row: &ProcrastinateSchedule,
        options_of: OptionsOf,
        max_delay: Duration,
    ) -> Result<Self, Error> {
        let Some(missed) = MissedTicks::read(&row.missed_ticks) else {
            return Err(Error::invalid("policy for missed ticks", &row.missed_ticks, "must be known to this program"));
        };
        let start_within = row.start_within_seconds.map(Duration::try_from_secs_f64).transpose().map_err(|_| {
            let seconds = row.start_within_seconds.unwrap_or_default().to_string();
            Error::invalid("start_within", seconds, "must be a number of seconds that a duration can have")
        })?;
        let schedule = Self {
            recurrence: row.recurrence()?,
            periodic_id: row.periodic_id.clone(),
            task_name: row.task_name.clone(),
            args: row.args.as_object().cloned().unwrap_or_default(),
            options: JobOptions {
                queue: row.queue_name.clone(),
                priority: row.priority,
                lock: row.lock.clone(),
                queueing_lock: row.queueing_lock.clone(),
                deadline: start_within.map(Deadline::Within),
                limit_key: row.limit_key.clone(),
                ..JobOptions::new()
            },
            options_of,
            max_delay: row.max_delay_seconds.map_or_else(
                || TimeDelta::from_std(max_delay).unwrap_or(TimeDelta::MAX),
                |seconds| TimeDelta::try_seconds(seconds).unwrap_or(TimeDelta::MAX),
            ),
            missed,
            overlap: Overlap::default(),
            version: Some(row.version),
        };
        schedule.job(SAMPLE_TICK)?;
        Ok(schedule)
    }

    /// The columns of a schedule in the code, for the table of schedules.
    pub(super) fn to_row(&self) -> Value {
        let (cron, interval_seconds) = match &self.recurrence {
            Recurrence::Cron(cron) => (Some(cron), None),
            Recurrence::Every(seconds) => (None, Some(seconds)),
        };
        let start_within = match self.options.deadline {
            Some(Deadline::Within(period)) => Some(period.as_secs_f64()),
            _ => None,
        };
        json!({
            "task_name": self.task_name,
            "periodic_id": self.periodic_id,
            "cron": cron.map(Cron::as_str),
            "interval_seconds": interval_seconds,
            "time_zone": cron.and_then(Cron::time_zone),
            "args": self.args,
            "queue_name": self.options.queue,
            "priority": self.options.priority,
            "lock": self.options.lock,
            "queueing_lock": self.options.queueing_lock,
            "start_within_seconds": start_within,
            "limit_key": self.options.limit_key,
            "missed_ticks": self.missed.as_str(),
            "max_delay_seconds": self.max_delay.num_seconds(),
            "overlap": self.overlap.as_str(),
        })
    }

    /// Makes the job of a tick.
    pub(crate) fn at(&self, tick: DateTime<Utc>) -> Result<DeferPeriodicJob, Error> {
        let defer_timestamp = tick.timestamp();
        let CheckedJob { row: job, extras, .. } = self.job(defer_timestamp)?;
        let (periodic_id, version) = (self.periodic_id.clone(), self.version);
        Ok(DeferPeriodicJob { job, extras, periodic_id, defer_timestamp, version, run_requested_at: None })
    }

    /// Makes the job of a request, at this time.
    pub(crate) fn on_request(
        &self,
        now: DateTime<Utc>,
        run_requested_at: DateTime<Utc>,
    ) -> Result<DeferPeriodicJob, Error> {
        Ok(DeferPeriodicJob { run_requested_at: Some(run_requested_at), ..self.at(now)? })
    }

    /// Makes the job of a tick, in Unix seconds. The task's options can depend on it.
    pub(super) fn job(&self, tick: i64) -> Result<CheckedJob, Error> {
        let refuse = |rule: String| invalid_args(&self.task_name, &rule);
        let mut args = Value::Object(self.args.clone());
        check_has_no_tick(&self.task_name, &args)?;
        args[TIMESTAMP] = tick.into();
        let options = (self.options_of)(&args)
            .map_err(|misfit| refuse(format!("must fit the task, with \"{TIMESTAMP}\" added, and do not{misfit}")))?;
        let options = options.overridden_by(&self.options);
        let rule = || format!("must not be set for the periodic task \"{}\"; remove it", self.task_name);
        if let Some(Deadline::Before(time)) = options.deadline {
            return Err(Error::invalid("start_before", time.to_string(), rule()));
        }
        if let Some((key, _)) = &options.unique {
            return Err(Error::invalid("unique key", key, rule()));
        }
        let job = JobToDefer::new(&self.task_name, args, options).into_checked_job()?;
        match job.row.scheduled_at {
            None => Ok(job),
            Some(scheduled_at) => Err(Error::invalid("schedule_at or schedule_in", scheduled_at.to_string(), rule())),
        }
    }
}

/// Checks that the schedules of a task have different names. Ticks are claimed under the task and that name.
pub(crate) fn check_distinct(schedules: &[Schedule]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match schedules.iter().find(|schedule| !seen.insert(schedule.key())) {
        None => Ok(()),
        Some(schedule) => Err(Error::invalid(
            "periodic_id",
            schedule.periodic_id(),
            format!("must be different for each schedule of the task \"{}\"", schedule.task_name()),
        )),
    }
}
