//! A job as a worker and a task see it.

mod display;
pub(crate) mod interruption;
mod status;

use std::fmt;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::BigInt;
use serde::{Deserialize, Serialize};

#[cfg(feature = "testing")]
pub(crate) use display::Arguments;
pub(crate) use display::CallString;
pub use status::{JobEventType, JobStatus};

/// The ID of a job, from `procrastinate_jobs.id`.
///
/// It binds to a `BigInt` column, so your own table can store it (`orders.job_id = job_id`). `i64::from` converts it
/// into the `i64` that the models use.
///
/// # Example
///
/// ```
/// use procrastinate::JobId;
///
/// let id = JobId::from(42);
/// assert_eq!(id, 42);
/// assert_eq!(id.to_string(), "42");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = BigInt)]
#[serde(transparent)]
pub struct JobId(i64);

impl From<i64> for JobId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl From<JobId> for i64 {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl PartialEq<i64> for JobId {
    fn eq(&self, other: &i64) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ToSql<BigInt, Pg> for JobId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<BigInt, Pg>::to_sql(&self.0, out)
    }
}

impl FromSql<BigInt, Pg> for JobId {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        FromSql::<BigInt, Pg>::from_sql(value).map(Self)
    }
}

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
