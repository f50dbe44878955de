//! A job as a worker and a task see it.

mod display;
pub(crate) mod interruption;

use std::fmt;

use chrono::{DateTime, Utc};

#[cfg(feature = "testing")]
pub(crate) use display::Arguments;
pub(crate) use display::CallString;
pub use procrastinate_schema::{JobEventType, JobId, JobStatus};

/// The statuses that a user can choose, in the order of a job's life.
#[cfg(any(feature = "cli", feature = "admin"))]
pub(crate) const STATUSES: [JobStatus; 6] = [
    JobStatus::Todo,
    JobStatus::Doing,
    JobStatus::Succeeded,
    JobStatus::Failed,
    JobStatus::Cancelled,
    JobStatus::Aborted,
];

/// A job that a worker has fetched.
///
/// A task gets it from its [`JobContext`](crate::JobContext). To read jobs from the database, use
/// [`ProcrastinateJob`](crate::models::ProcrastinateJob).
///
/// # Example
///
/// ```
/// fn describe(job: &procrastinate::Job) -> String {
///     format!("{job}, attempt {}", job.attempts + 1)
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// The job's ID.
    pub id: JobId,
    /// The job's queue.
    pub queue: String,
    /// The task name under which the job was deferred. It can be an alias.
    pub task_name: String,
    /// The priority. Jobs with a higher one are fetched first. Default: 0.
    pub priority: i32,
    /// The lock. Jobs that share a lock run one at a time.
    pub lock: Option<String>,
    /// The queueing lock. Only one pending job can hold it.
    pub queueing_lock: Option<String>,
    /// The arguments by name, always a JSON object.
    pub args: serde_json::Value,
    /// The earliest start time, if the job was scheduled or retried.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// The number of finished attempts: 0 while the first one runs.
    pub attempts: i32,
    /// Whether an abort had been requested when the worker fetched the job.
    pub abort_requested: bool,
    /// The worker that fetched the job, from `procrastinate_workers.id`.
    pub worker_id: Option<i64>,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", CallString { task_name: &self.task_name, job_id: self.id, args: &self.args })
    }
}
