//! A job, as a worker and a task see it, and the names of its states and events.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::BigInt;
use serde::{Deserialize, Serialize};

use crate::schema::sql_types::{ProcrastinateJobEventType, ProcrastinateJobStatus};

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
/// [`ProcrastinateJob`](crate::ProcrastinateJob).
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

/// `task[7](a=3, b="x")`: how Procrastinate writes a job.
pub(crate) struct CallString<'a> {
    pub(crate) task_name: &'a str,
    pub(crate) job_id: JobId,
    pub(crate) args: &'a serde_json::Value,
}

impl fmt::Display for CallString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]{}", self.task_name, self.job_id, Arguments(self.args))
    }
}

/// `(a=3, b="x")`: the arguments in it.
pub(crate) struct Arguments<'a>(pub(crate) &'a serde_json::Value);

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (position, (name, value)) in self.0.as_object().into_iter().flatten().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{name}={value}")?;
        }
        f.write_str(")")
    }
}

/// A PostgreSQL enum that can read a label it does not know: a newer Procrastinate may have added one.
macro_rules! labels {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident: $sql_type:ident { $( $(#[$variant_attribute:meta])* $variant:ident = $label:literal, )+ }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
        #[diesel(sql_type = $sql_type)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$variant_attribute])* $variant, )+
            /// A label that this version of the crate does not know.
            Unknown(String),
        }

        impl $name {
            /// The label in the database.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $label, )+
                    Self::Unknown(label) => label,
                }
            }
        }

        impl From<&str> for $name {
            fn from(label: &str) -> Self {
                match label {
                    $( $label => Self::$variant, )+
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(label: &str) -> Result<Self, Self::Err> {
                Ok(Self::from(label))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ToSql<$sql_type, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                out.write_all(self.as_str().as_bytes())?;
                Ok(IsNull::No)
            }
        }

        impl FromSql<$sql_type, Pg> for $name {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                Ok(Self::from(std::str::from_utf8(value.as_bytes())?))
            }
        }
    };
}

labels! {
    /// Where a job stands: the type `procrastinate_job_status`.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::JobStatus;
    ///
    /// assert_eq!(JobStatus::from("doing"), JobStatus::Doing);
    /// assert_eq!(JobStatus::Todo.to_string(), "todo");
    /// assert_eq!(JobStatus::from("paused"), JobStatus::Unknown("paused".into()));
    /// ```
    pub enum JobStatus: ProcrastinateJobStatus {
        /// It waits.
        Todo = "todo",
        /// A worker has taken it.
        Doing = "doing",
        /// Its task ended well.
        Succeeded = "succeeded",
        /// Its task ended with an error, and is not tried again.
        Failed = "failed",
        /// It was called off while it waited.
        Cancelled = "cancelled",
        /// Written by old versions of Procrastinate only.
        Aborting = "aborting",
        /// It was stopped while it ran.
        Aborted = "aborted",
    }
}

labels! {
    /// What happened to a job: the type `procrastinate_job_event_type`.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::JobEventType;
    ///
    /// assert_eq!(JobEventType::DeferredForRetry.as_str(), "deferred_for_retry");
    /// ```
    pub enum JobEventType: ProcrastinateJobEventType {
        /// It was deferred.
        Deferred = "deferred",
        /// A worker took it.
        Started = "started",
        /// An attempt failed, and it waits for the next one.
        DeferredForRetry = "deferred_for_retry",
        /// It failed for good.
        Failed = "failed",
        /// It succeeded.
        Succeeded = "succeeded",
        /// It was called off, or ended otherwise, while it waited.
        Cancelled = "cancelled",
        /// Somebody asked to abort it.
        AbortRequested = "abort_requested",
        /// It was aborted while it ran.
        Aborted = "aborted",
        /// It is scheduled: this event's time is the one it is scheduled for.
        Scheduled = "scheduled",
        /// It had failed, and waits again.
        Retried = "retried",
    }
}
