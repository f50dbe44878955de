//! Statements that change or delete jobs.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};

use crate::database::models::ProcrastinateJob;
use crate::database::statements::statement;
use crate::job::{JobId, JobStatus};
use procrastinate_schema::schema::procrastinate_jobs;
use procrastinate_schema::schema::sql_types::ProcrastinateJobStatus;

/// Fetches the next job of the queues, or of all queues, for a worker. It returns the job, if there is one.
pub(crate) struct FetchJobQuery {
    pub(crate) queues: Option<Vec<String>>,
    pub(crate) worker_id: i64,
}

statement!("fetch a job": FetchJobQuery -> ProcrastinateJob: procrastinate_jobs::SqlType, |statement, out| {
    out.push_sql(
        "SELECT id, queue_name, task_name, priority, lock, queueing_lock, args, status::text, \
         CASE WHEN isfinite(scheduled_at) THEN scheduled_at END, attempts, abort_requested, worker_id \
         FROM procrastinate_fetch_job_v2(",
    );
    out.push_bind_param::<Nullable<Array<Text>>, _>(&statement.queues)?;
    out.push_sql("::varchar[], ");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    // If there is none, the function returns a row of NULLs.
    out.push_sql(") WHERE id IS NOT NULL");
    Ok(())
});

/// Finishes a job. It returns whether the job was finished, and its previous status, if there is such a job.
pub(crate) struct FinishJobQuery {
    pub(crate) job_id: JobId,
    pub(crate) end_status: &'static str,
    pub(crate) delete_job: bool,
}

statement!(
    "finish the job": FinishJobQuery -> (bool, Option<JobStatus>): (Bool, Nullable<ProcrastinateJobStatus>),
    select "is_finished, found_status::text" from "procrastinate_diesel_finish_job_v1"(
        job_id: BigInt, end_status: Text as "text::procrastinate_job_status", delete_job: Bool)
);

/// Cancels a job, or requests its abort. It returns the job's ID, or NULL if there was nothing to cancel.
pub(crate) struct CancelJobQuery {
    pub(crate) job_id: JobId,
    pub(crate) abort: bool,
    pub(crate) delete_job: bool,
}

statement!(
    "cancel the job": CancelJobQuery -> Option<JobId>: Nullable<BigInt>,
    select "*" from "procrastinate_cancel_job_v1"(job_id: BigInt, abort: Bool, delete_job: Bool)
);

/// Retries a job. `None` as `retry_at` means immediately.
pub(crate) struct RetryJobQuery {
    pub(crate) job_id: JobId,
    pub(crate) retry_at: Option<DateTime<Utc>>,
    pub(crate) priority: Option<i32>,
    pub(crate) queue: Option<String>,
    pub(crate) lock: Option<String>,
}

impl RetryJobQuery {
    /// The options, as the functions that retry a job take them.
    pub(crate) fn write_args<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<BigInt, _>(&self.job_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.retry_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Integer>, _>(&self.priority)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, _>(&self.queue)?;
        out.push_sql("::varchar, ");
        out.push_bind_param::<Nullable<Text>, _>(&self.lock)?;
        Ok(())
    }
}

/// The row of [`RetryJobQuery`]: the previous status, if there is such a job, the new status, if it was changed, the
/// queueing lock, if another pending job holds it, and the job's task.
pub(crate) type RetriedOrNot = (Option<JobStatus>, Option<JobStatus>, Option<String>, Option<String>);

statement!(
    "retry the job": RetryJobQuery -> RetriedOrNot:
        (Nullable<ProcrastinateJobStatus>, Nullable<ProcrastinateJobStatus>, Nullable<Text>, Nullable<Text>),
    |statement, out| {
        out.push_sql(
            "SELECT found_status::text, new_status::text, taken_queueing_lock, found_task_name \
             FROM procrastinate_diesel_retry_job_v1(",
        );
        statement.write_args(out)?;
        out.push_sql(")");
        Ok(())
    }
);

/// Deletes old jobs along their final events. It returns the number of deleted jobs, whether there are more events, and
/// the position at which it stopped.
pub(crate) struct DeleteOldJobsQuery {
    /// The labels of the statuses.
    pub(crate) statuses: Vec<&'static str>,
    pub(crate) older_than_seconds: f64,
    pub(crate) queue: Option<String>,
    /// How many final events to read. `None` means all of them.
    pub(crate) max_events: Option<i32>,
    /// The position at which an earlier step stopped.
    pub(crate) start_after: Option<serde_json::Value>,
}

statement!("delete old jobs": DeleteOldJobsQuery -> (i64, bool, serde_json::Value): (BigInt, Bool, Jsonb), |statement, out| {
    out.push_sql("SELECT deleted, has_more, stopped_at FROM procrastinate_diesel_delete_old_jobs_v1(");
    out.push_bind_param::<Array<Text>, _>(&statement.statuses)?;
    out.push_sql("::text[]::procrastinate_job_status[], make_interval(secs => ");
    out.push_bind_param::<Double, _>(&statement.older_than_seconds)?;
    out.push_sql("), ");
    out.push_bind_param::<Nullable<Text>, _>(&statement.queue)?;
    out.push_sql("::varchar, ");
    out.push_bind_param::<Nullable<Integer>, _>(&statement.max_events)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Jsonb>, _>(&statement.start_after)?;
    out.push_sql(")");
    Ok(())
});

/// Sets the earliest start time of a pending job. `None` means immediately. It returns the job's status, if there is
/// such a job, and whether it was changed.
pub(crate) struct RescheduleJobQuery {
    pub(crate) job_id: JobId,
    pub(crate) schedule_at: Option<DateTime<Utc>>,
}

statement!(
    "reschedule the job": RescheduleJobQuery -> (JobStatus, bool): (ProcrastinateJobStatus, Bool),
    |statement, out| {
        out.push_sql("WITH found AS (SELECT id, status FROM procrastinate_jobs WHERE id = ");
        out.push_bind_param::<BigInt, _>(&statement.job_id)?;
        out.push_sql(" FOR UPDATE), changed AS (UPDATE procrastinate_jobs AS job SET scheduled_at = ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&statement.schedule_at)?;
        out.push_sql(
            " FROM found WHERE job.id = found.id AND found.status = 'todo' RETURNING job.id) \
             SELECT status, EXISTS (SELECT FROM changed) FROM found",
        );
        Ok(())
    }
);

/// Deletes a job that is not running. It returns the job's previous status, if there is such a job, and whether it was
/// deleted.
pub(crate) struct DeleteJobQuery {
    pub(crate) job_id: JobId,
}

statement!(
    "delete the job": DeleteJobQuery -> (JobStatus, bool): (ProcrastinateJobStatus, Bool),
    |statement, out| {
        out.push_sql("WITH found AS (SELECT id, status FROM procrastinate_jobs WHERE id = ");
        out.push_bind_param::<BigInt, _>(&statement.job_id)?;
        out.push_sql(
            " FOR UPDATE), gone AS (DELETE FROM procrastinate_jobs AS job USING found \
             WHERE job.id = found.id AND job.status NOT IN ('doing', 'aborting') RETURNING job.id) \
             SELECT status, EXISTS (SELECT FROM gone) FROM found",
        );
        Ok(())
    }
);
