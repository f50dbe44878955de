//! A job, as a worker and a task see it.

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

pub(crate) use display::{Arguments, CallString};
pub use status::{JobEventType, JobStatus};

/// The number of a job: `procrastinate_jobs.id`.
///
/// It binds to a `BigInt` column, so an application's own table can keep it (`orders.job_id = job_id`), and it turns
/// into the `i64` that the models carry with `i64::from`.
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

/// A job that a worker has taken: what was asked for when it was deferred, and how often it was tried.
///
/// A task finds it in its [`JobContext`](crate::JobContext). To look at jobs in the database there is
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
    /// Its number.
    pub id: JobId,
    /// The queue it was deferred to.
    pub queue: String,
    /// The name under which the worker found the task.
    pub task_name: String,
    /// Higher ones go first; 0 unless set.
    pub priority: i32,
    /// Of the jobs with one lock one runs at a time.
    pub lock: Option<String>,
    /// Of the jobs with one queueing lock one waits at a time.
    pub queueing_lock: Option<String>,
    /// The arguments by name: always a JSON object.
    pub args: serde_json::Value,
    /// When it was due, if it was scheduled.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How many attempts have ended: 0 while the first one runs.
    pub attempts: i32,
    /// Whether somebody had asked to abort it when the worker took it.
    pub abort_requested: bool,
    /// The worker that took it: `procrastinate_workers.id`.
    pub worker_id: Option<i64>,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", CallString { task_name: &self.task_name, job_id: self.id, args: &self.args })
    }
}
