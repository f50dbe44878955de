//! Statements about periodic tasks.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Jsonb, Nullable, Text, Timestamptz};

use crate::database::statements::defer::{ExtraOptions, NewJob};
use crate::database::statements::statement;
use crate::job::JobId;

/// Defers one tick of a periodic task, unless that tick or a later one was deferred already, or its schedule does not
/// allow it.
#[derive(Debug)]
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
