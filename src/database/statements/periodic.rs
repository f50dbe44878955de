//! Statements about periodic tasks.

use diesel::sql_types::{BigInt, Bool, Integer, Jsonb, Nullable, Text};

use crate::database::statements::defer::NewJob;
use crate::database::statements::statement;
use crate::job::JobId;

/// Defers one tick of a periodic task, unless that tick or a later one was deferred already.
#[derive(Debug)]
pub(crate) struct DeferPeriodicJob {
    pub(crate) job: NewJob,
    pub(crate) periodic_id: String,
    /// The tick, in Unix seconds.
    pub(crate) defer_timestamp: i64,
}

/// The job, if it was deferred, and whether its queueing lock was taken.
pub(crate) type DeferredOrTaken = (Option<JobId>, bool);

statement!(
    "defer the periodic task": DeferPeriodicJob -> DeferredOrTaken: (Nullable<BigInt>, Bool),
    select "job_id, is_queueing_lock_taken" from "procrastinate_diesel_defer_periodic_job_v1"(
        job.queue: Text, job.lock: Nullable<Text>, job.queueing_lock: Nullable<Text>, job.task_name: Text,
        job.priority: Integer, periodic_id: Text, defer_timestamp: BigInt, job.args: Jsonb)
);
