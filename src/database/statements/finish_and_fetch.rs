//! Statements that store the outcomes of jobs and fetch new ones.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::deserialize::{FromSql, FromSqlRow, Queryable};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz};
use serde_json::json;

use crate::database::statements::statement;
use crate::job::{Job, JobId, JobStatus};
use crate::retry::RetryDecision;
use crate::schema::sql_types::ProcrastinateJobStatus;

/// A job that a worker has taken.
#[derive(Debug)]
pub(crate) struct FetchedJob {
    pub(crate) job: Job,
    /// Why the arguments could not be read, if so: PostgreSQL stores numbers that are too large for any of Rust's.
    /// The job has no arguments then.
    pub(crate) unreadable_args: Option<String>,
}

/// Arguments that cannot be read must not make the whole answer unreadable: the jobs in it are taken already.
#[derive(Debug, FromSqlRow)]
pub(crate) struct ArgsOrProblem(Result<serde_json::Value, String>);

impl FromSql<Jsonb, Pg> for ArgsOrProblem {
    fn from_sql(value: PgValue<'_>) -> diesel::deserialize::Result<Self> {
        // PostgreSQL sends jsonb as a version number, which is 1, and the text.
        let args = match value.as_bytes() {
            [1, text @ ..] => serde_json::from_slice(text).map_err(|error| error.to_string()),
            _ => Err("the database sent them in an unknown format".to_owned()),
        };
        Ok(Self(args))
    }
}

/// Jobs as a [`FinishedOrFetched`], up to where they come from. Of a date that Rust has no value for none is told, and the
/// status is none.
pub(crate) const SELECT_FETCHED: &str = "SELECT false, id, queue_name, task_name, priority, lock, queueing_lock, args, \
     CASE WHEN isfinite(scheduled_at) THEN scheduled_at END, attempts, abort_requested, worker_id, NULL::text FROM ";

/// Those of the given jobs that the worker is doing: to find again what an answer lost on the way had handed out.
pub(crate) struct JobsOfWorker {
    pub(crate) worker_id: i64,
    pub(crate) job_ids: Vec<JobId>,
}

statement!("load the worker's jobs": JobsOfWorker -> FinishedOrFetched: FinishedOrFetchedColumns, |statement, out| {
    out.push_sql(SELECT_FETCHED);
    out.push_sql("procrastinate_diesel_jobs_of_worker_v1(");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(", ");
    out.push_bind_param::<Array<BigInt>, _>(&statement.job_ids)?;
    out.push_sql(")");
    Ok(())
});

/// Ends the jobs that a worker has finished, and takes new ones for its free slots.
#[derive(Debug)]
pub(crate) struct FinishAndFetchJobs {
    pub(crate) worker_id: i64,
    pub(crate) finished: Vec<JobId>,
    /// Parallel to `finished`: the labels of their statuses.
    pub(crate) end_statuses: Vec<&'static str>,
    /// Jobs to put back, as the function takes them; NULL when there are none.
    pub(crate) retries: Option<serde_json::Value>,
    /// Jobs to delete at their end; `None` when there are none.
    pub(crate) deleted: Option<Vec<JobId>>,
    /// What went wrong, as the function takes it; NULL when nothing did.
    pub(crate) errors: Option<serde_json::Value>,
    /// `None`: all queues.
    pub(crate) queues: Option<Vec<String>>,
    pub(crate) free_slots: i32,
}

impl FinishAndFetchJobs {
    /// A statement that ends nothing yet.
    pub(crate) fn new(worker_id: i64, queues: Option<Vec<String>>, free_slots: usize) -> Self {
        Self {
            worker_id,
            finished: Vec::new(),
            end_statuses: Vec::new(),
            retries: None,
            deleted: None,
            errors: None,
            queues,
            free_slots: i32::try_from(free_slots).unwrap_or(i32::MAX),
        }
    }

    /// Has a job end and be deleted.
    pub(crate) fn delete(&mut self, job_id: JobId) {
        self.deleted.get_or_insert_default().push(job_id);
    }

    /// Has an error kept beside its job, of which this many attempts had ended before.
    pub(crate) fn keep_error(
        &mut self,
        job_id: JobId,
        attempts: i32,
        error: &str,
        worker_name: &str,
        duration: Duration,
    ) {
        let error = json!({
            "job_id": job_id,
            "attempts": attempts,
            "error": error,
            "worker_name": worker_name,
            "duration_seconds": duration.as_secs_f64(),
        });
        push(&mut self.errors, error);
    }

    /// Has a job end with this status.
    pub(crate) fn finish(&mut self, job_id: JobId, end_status: &'static str) {
        self.finished.push(job_id);
        self.end_statuses.push(end_status);
    }

    /// Has a job wait for another attempt, of which this many had ended before. Unless it counts, the attempt that ended is
    /// not counted.
    pub(crate) fn retry(&mut self, job_id: JobId, attempts: i32, decision: &RetryDecision, counts: bool) {
        let retry = json!({
            "job_id": job_id,
            "attempts": attempts,
            "retry_at": decision.time(),
            "priority": decision.priority,
            "queue_name": decision.queue,
            "lock": decision.lock,
            "counts": counts,
        });
        push(&mut self.retries, retry);
    }
}

fn push(array: &mut Option<serde_json::Value>, value: serde_json::Value) {
    match array {
        Some(serde_json::Value::Array(values)) => values.push(value),
        array => *array = Some(json!([value])),
    }
}

/// A row of the answer to [`FinishAndFetchJobs`], or to a statement that only finds jobs.
pub(crate) enum FinishedOrFetched {
    /// A finished job that was not this worker's any more: it was left as it is.
    Lost(JobId),
    /// A job that could not wait for another attempt: its abort was requested, or its queueing lock is taken. It failed.
    NotRetried(JobId),
    /// A job that the worker has now taken.
    Fetched(Box<FetchedJob>),
}

/// `lost` and the id are always there, the rest only for a fetched job.
pub(crate) type FinishedOrFetchedColumns = (
    Bool,
    BigInt,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Integer>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Jsonb>,
    Nullable<Timestamptz>,
    Nullable<Integer>,
    Nullable<Bool>,
    Nullable<BigInt>,
    Nullable<ProcrastinateJobStatus>,
);

type FinishedOrFetchedRow = (
    bool,
    JobId,
    Option<String>,
    Option<String>,
    Option<i32>,
    Option<String>,
    Option<String>,
    Option<ArgsOrProblem>,
    Option<DateTime<Utc>>,
    Option<i32>,
    Option<bool>,
    Option<i64>,
    Option<JobStatus>,
);

impl Queryable<FinishedOrFetchedColumns, Pg> for FinishedOrFetched {
    type Row = FinishedOrFetchedRow;

    fn build(row: FinishedOrFetchedRow) -> diesel::deserialize::Result<Self> {
        match row {
            (true, id, ..) => Ok(Self::Lost(id)),
            (false, id, .., Some(_)) => Ok(Self::NotRetried(id)),
            (
                false,
                id,
                Some(queue),
                Some(task_name),
                Some(priority),
                lock,
                queueing_lock,
                Some(args),
                scheduled_at,
                Some(attempts),
                Some(abort_requested),
                worker_id,
                None,
            ) => {
                let (args, unreadable_args) = match args.0 {
                    Ok(args) => (args, None),
                    Err(problem) => (json!({}), Some(problem)),
                };
                let job = Job {
                    id,
                    queue,
                    task_name,
                    priority,
                    lock,
                    queueing_lock,
                    args,
                    scheduled_at,
                    attempts,
                    abort_requested,
                    worker_id,
                };
                Ok(Self::Fetched(Box::new(FetchedJob { job, unreadable_args })))
            }
            (false, id, ..) => Err(format!("the fetched job {id} lacks a column").into()),
        }
    }
}

statement!("store outcomes and fetch jobs": FinishAndFetchJobs -> FinishedOrFetched: FinishedOrFetchedColumns, |statement, out| {
    out.push_sql(
        "SELECT lost, id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, attempts, \
         abort_requested, worker_id, became::text FROM procrastinate_diesel_finish_and_fetch_jobs_v1(",
    );
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(", ");
    out.push_bind_param::<Array<BigInt>, _>(&statement.finished)?;
    out.push_sql(", ");
    out.push_bind_param::<Array<Text>, _>(&statement.end_statuses)?;
    out.push_sql("::text[]::procrastinate_job_status[], ");
    out.push_bind_param::<Nullable<Array<Text>>, _>(&statement.queues)?;
    out.push_sql("::varchar[], ");
    out.push_bind_param::<Integer, _>(&statement.free_slots)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Jsonb>, _>(&statement.retries)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Array<BigInt>>, _>(&statement.deleted)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Jsonb>, _>(&statement.errors)?;
    out.push_sql(")");
    Ok(())
});
