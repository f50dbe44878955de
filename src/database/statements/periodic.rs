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

statement!("defer the periodic task": DeferPeriodicJob -> DeferredOrTaken: (Nullable<BigInt>, Bool), |statement, out| {
    let job = &statement.job;
    out.push_sql("SELECT job_id, is_queueing_lock_taken FROM procrastinate_diesel_defer_periodic_job_v1(");
    out.push_bind_param::<Text, _>(&job.queue)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, _>(&job.lock)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, _>(&job.queueing_lock)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, _>(&job.task_name)?;
    out.push_sql(", ");
    out.push_bind_param::<Integer, _>(&job.priority)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, _>(&statement.periodic_id)?;
    out.push_sql(", ");
    out.push_bind_param::<BigInt, _>(&statement.defer_timestamp)?;
    out.push_sql(", ");
    out.push_bind_param::<Jsonb, _>(&job.args)?;
    out.push_sql(")");
    Ok(())
});
