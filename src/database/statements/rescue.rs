//! Statements that rescue the jobs of stalled workers.

use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text};
use serde_json::json;

use super::finish_and_fetch::{FETCHED, FinishedOrFetched, FinishedOrFetchedColumns};
use super::statement;
use crate::job::{Job, JobId, JobStatus};
use crate::retry::RetryDecision;
use procrastinate_schema::schema::sql_types::ProcrastinateJobStatus;

/// Running jobs of these tasks whose worker is gone.
pub(crate) struct JobsWithoutWorker {
    pub(crate) task_names: Vec<String>,
    /// Only jobs with a higher ID.
    pub(crate) after: JobId,
}

statement!(
    "find the jobs of stalled workers": JobsWithoutWorker -> FinishedOrFetched: FinishedOrFetchedColumns,
    select FETCHED from "procrastinate_diesel_jobs_without_worker_v1"(
        task_names: Array<Text> as "varchar[]", after: BigInt)
);

/// Ends the attempts of jobs whose worker died. It returns the new status of each job that still had no worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct RescueJobs {
    pub(crate) rescues: Vec<serde_json::Value>,
}

impl RescueJobs {
    /// Adds a job, which is retried if there is a decision, and fails otherwise.
    pub(crate) fn add(&mut self, job: &Job, decision: Option<&RetryDecision>, error: &str, is_deleted_if_failed: bool) {
        let (retry_at, retry_in) = decision.map_or((None, None), RetryDecision::time_or_delay);
        self.rescues.push(json!({
            "job_id": job.id,
            "attempts": job.attempts,
            "is_retried": decision.is_some(),
            "retry_at": retry_at,
            "retry_in": retry_in,
            "priority": decision.and_then(|decision| decision.priority),
            "queue_name": decision.and_then(|decision| decision.queue.as_deref()),
            "lock": decision.and_then(|decision| decision.lock.as_deref()),
            "error": error,
            "is_deleted_if_failed": is_deleted_if_failed,
        }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rescues.is_empty()
    }

    /// Returns the ID of the first job.
    pub(crate) fn first_job(&self) -> Option<JobId> {
        self.rescues.first()?.get("job_id")?.as_i64().map(JobId::from)
    }

    /// Makes a separate statement for each job.
    pub(crate) fn one_by_one(self) -> impl Iterator<Item = Self> {
        self.rescues.into_iter().map(|rescue| Self { rescues: vec![rescue] })
    }
}

/// The ID of a job, its new status, and why the database refused to change it. If there is a status and a reason, the
/// database refused only a part, such as the error.
pub(crate) type RescuedJob = (JobId, Option<JobStatus>, Option<String>);

statement!("rescue the jobs of stalled workers":
    RescueJobs -> RescuedJob: (BigInt, Nullable<ProcrastinateJobStatus>, Nullable<Text>), |statement, out| {
    out.push_sql("SELECT job_id, new_status::text, problem FROM procrastinate_diesel_rescue_jobs_v1(to_jsonb(");
    out.push_bind_param::<Array<Jsonb>, _>(&statement.rescues)?;
    out.push_sql("))");
    Ok(())
});
