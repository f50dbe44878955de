//! Statements of a worker's and a job's life.

use chrono::{DateTime, Utc};
use diesel::deserialize::{FromSql, FromSqlRow, Queryable};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use serde_json::json;

use crate::job::{Job, JobId};
use crate::queries::statement;
use crate::retry::RetryDecision;

/// Enters a worker. The answer: its id.
pub(crate) struct RegisterWorker;

statement!(RegisterWorker -> i64: BigInt, |_, out| {
    out.push_sql("SELECT worker_id FROM procrastinate_register_worker_v1()");
    Ok(())
});

/// Removes a worker. The answer: one row.
pub(crate) struct UnregisterWorker {
    pub(crate) worker_id: i64,
}

statement!(UnregisterWorker -> bool: Bool, |statement, out| {
    out.push_sql("SELECT true FROM procrastinate_unregister_worker_v1(");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(")");
    Ok(())
});

/// Removes the workers that have not been heard of for so long. The answer: their ids.
pub(crate) struct PruneStalledWorkers {
    pub(crate) seconds_since_heartbeat: f64,
}

statement!(PruneStalledWorkers -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(");
    out.push_bind_param::<Double, _>(&statement.seconds_since_heartbeat)?;
    out.push_sql(")");
    Ok(())
});

/// Says that a worker is alive. The answer: the jobs it is doing as far as the database knows and a NULL; no row at all
/// when the worker is not registered any more.
pub(crate) struct UpdateHeartbeat {
    pub(crate) worker_id: i64,
}

statement!(UpdateHeartbeat -> Option<JobId>: Nullable<BigInt>, |statement, out| {
    out.push_sql("SELECT job_id FROM procrastinate_diesel_update_heartbeat_v1(");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(")");
    Ok(())
});

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

/// Those of the given jobs that the worker is doing: to find again what an answer lost on the way had handed out.
pub(crate) struct JobsOfWorker {
    pub(crate) worker_id: i64,
    pub(crate) job_ids: Vec<JobId>,
}

statement!(JobsOfWorker -> FinishedOrFetched: FinishedOrFetchedColumns, |statement, out| {
    out.push_sql(
        "SELECT false, id, queue_name, task_name, priority, lock, queueing_lock, args, \
         CASE WHEN isfinite(scheduled_at) THEN scheduled_at END, attempts, abort_requested, worker_id \
         FROM procrastinate_diesel_jobs_of_worker_v1(",
    );
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
    /// `None`: all queues.
    pub(crate) queues: Option<Vec<String>>,
    pub(crate) free_slots: i32,
}

impl FinishAndFetchJobs {
    /// Has a job end with this status.
    pub(crate) fn finish(&mut self, job_id: JobId, end_status: &'static str) {
        self.finished.push(job_id);
        self.end_statuses.push(end_status);
    }

    /// Has a job wait for another attempt.
    pub(crate) fn retry(&mut self, job_id: JobId, decision: &RetryDecision) {
        let retry = json!({
            "job_id": job_id,
            "retry_at": decision.time(),
            "priority": decision.priority,
            "queue_name": decision.queue,
            "lock": decision.lock,
        });
        match &mut self.retries {
            Some(serde_json::Value::Array(retries)) => retries.push(retry),
            retries => *retries = Some(json!([retry])),
        }
    }
}

/// A row of the answer to [`FinishAndFetchJobs`], or to [`JobsOfWorker`], where none is lost.
pub(crate) enum FinishedOrFetched {
    /// A finished job that was not this worker's any more: it was left as it is.
    Lost(JobId),
    /// A job that the worker has now taken.
    Fetched(Box<FetchedJob>),
}

/// `lost` and the id are always there, the rest only for a fetched job.
type FinishedOrFetchedColumns = (
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
);

impl Queryable<FinishedOrFetchedColumns, Pg> for FinishedOrFetched {
    type Row = FinishedOrFetchedRow;

    fn build(row: FinishedOrFetchedRow) -> diesel::deserialize::Result<Self> {
        match row {
            (true, id, ..) => Ok(Self::Lost(id)),
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
                Some(worker_id),
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

statement!(FinishAndFetchJobs -> FinishedOrFetched: FinishedOrFetchedColumns, |statement, out| {
    out.push_sql(
        "SELECT lost, id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, attempts, \
         abort_requested, worker_id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(",
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
    out.push_sql(")");
    Ok(())
});
