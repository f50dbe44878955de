//! Statements about periodic tasks.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz};

use crate::database::statements::defer::{ExtraOptions, InsertJobs, NewJob};
use crate::database::statements::statement;
use crate::job::JobId;

/// Defers one tick of a periodic task, unless that tick or a later one was deferred already, or its schedule does not
/// allow it.
#[derive(Debug, Clone)]
pub(crate) struct DeferPeriodicJob {
    pub(crate) job: NewJob,
    pub(crate) extras: ExtraOptions,
    pub(crate) periodic_id: String,
    /// The tick, in Unix seconds.
    pub(crate) defer_timestamp: i64,
    /// The version of the schedule in the database with which the job was made. `None` if the schedule is in the code.
    pub(crate) version: Option<i64>,
    /// The request that the job is for, if it is no tick.
    pub(crate) run_requested_at: Option<DateTime<Utc>>,
}

/// The job, if it was deferred, and what was found.
pub(crate) type DeferredOrNot = (Option<JobId>, String);

statement!(
    "defer the periodic task": DeferPeriodicJob -> DeferredOrNot: (Nullable<BigInt>, Text),
    select "job_id, outcome" from "procrastinate_diesel_defer_scheduled_job_v1"(
        job.queue: Text, job.lock: Nullable<Text>, job.queueing_lock: Nullable<Text>, job.task_name: Text,
        job.priority: Integer, periodic_id: Text, defer_timestamp: BigInt, job.args: Jsonb,
        version: Nullable<BigInt>, run_requested_at: Nullable<Timestamptz>, extras.start_before: Nullable<Timestamptz>,
        extras.limit_key: Nullable<Text>)
);

/// Defers one tick of each of several schedules, all or none. It returns a row for each.
///
/// The schedules are sorted by task and `periodic_id`, and their jobs have no queueing lock.
#[derive(Debug, Default)]
pub(crate) struct DeferPeriodicJobs {
    jobs: InsertJobs,
    periodic_ids: Vec<String>,
    defer_timestamps: Vec<i64>,
    versions: Vec<Option<i64>>,
    starts_before: Vec<Option<DateTime<Utc>>>,
    limit_keys: Vec<Option<String>>,
}

statement!(
    "defer the periodic tasks": DeferPeriodicJobs -> DeferredOrNot: (Nullable<BigInt>, Text),
    select "job_id, outcome" from "procrastinate_diesel_defer_scheduled_jobs_v1"(
        jobs.queues: Array<Text> as "varchar[]", jobs.locks: Array<Nullable<Text>>,
        jobs.task_names: Array<Text> as "varchar[]", jobs.priorities: Array<Integer>,
        periodic_ids: Array<Text> as "varchar[]", defer_timestamps: Array<BigInt>,
        jobs.args: Array<Jsonb>, versions: Array<Nullable<BigInt>>, starts_before: Array<Nullable<Timestamptz>>,
        limit_keys: Array<Nullable<Text>>)
);

impl FromIterator<DeferPeriodicJob> for DeferPeriodicJobs {
    fn from_iter<I: IntoIterator<Item = DeferPeriodicJob>>(ticks: I) -> Self {
        let mut statement = Self::default();
        let jobs = ticks.into_iter().map(|tick| {
            statement.periodic_ids.push(tick.periodic_id);
            statement.defer_timestamps.push(tick.defer_timestamp);
            statement.versions.push(tick.version);
            statement.starts_before.push(tick.extras.start_before);
            statement.limit_keys.push(tick.extras.limit_key);
            tick.job
        });
        let jobs = jobs.collect();
        Self { jobs, ..statement }
    }
}

#[cfg(feature = "testing")]
impl DeferPeriodicJobs {
    /// The ticks in their order.
    pub(crate) fn into_ticks(self) -> impl Iterator<Item = DeferPeriodicJob> {
        let schedules = self.periodic_ids.into_iter().zip(self.defer_timestamps).zip(self.versions);
        let extras = self.starts_before.into_iter().zip(self.limit_keys);
        self.jobs.into_jobs().zip(extras).zip(schedules).map(
            |((job, (start_before, limit_key)), ((periodic_id, defer_timestamp), version))| DeferPeriodicJob {
                job,
                extras: ExtraOptions { start_before, limit_key, unique: None },
                periodic_id,
                defer_timestamp,
                version,
                run_requested_at: None,
            },
        )
    }
}
