//! The statuses and events of a job. Both are enums in the database.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};

use crate::schema::sql_types::{ProcrastinateJobEventType, ProcrastinateJobStatus};

/// Declares a PostgreSQL enum that accepts unknown labels, because a newer Procrastinate may add some.
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
            /// Returns the label in the database.
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
    /// The status of a job, from the type `procrastinate_job_status`.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate_schema::JobStatus;
    ///
    /// assert_eq!(JobStatus::from("doing"), JobStatus::Doing);
    /// assert_eq!(JobStatus::Todo.to_string(), "todo");
    /// assert_eq!(JobStatus::from("paused"), JobStatus::Unknown("paused".into()));
    /// ```
    pub enum JobStatus: ProcrastinateJobStatus {
        /// Pending.
        Todo = "todo",
        /// Running: a worker has fetched it.
        Doing = "doing",
        /// Finished without an error.
        Succeeded = "succeeded",
        /// Finished with an error, and not retried.
        Failed = "failed",
        /// Cancelled while it was pending.
        Cancelled = "cancelled",
        /// Written only by old versions of Procrastinate.
        Aborting = "aborting",
        /// Aborted while it was running.
        Aborted = "aborted",
    }
}

labels! {
    /// An event in the life of a job, from the type `procrastinate_job_event_type`.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate_schema::JobEventType;
    ///
    /// assert_eq!(JobEventType::DeferredForRetry.as_str(), "deferred_for_retry");
    /// ```
    pub enum JobEventType: ProcrastinateJobEventType {
        /// The job was deferred.
        Deferred = "deferred",
        /// A worker fetched the job.
        Started = "started",
        /// An attempt failed, and the job is pending again.
        DeferredForRetry = "deferred_for_retry",
        /// The job failed and is not retried.
        Failed = "failed",
        /// The job succeeded.
        Succeeded = "succeeded",
        /// The job was cancelled, or finished otherwise, while it was pending.
        Cancelled = "cancelled",
        /// An abort of the job was requested.
        AbortRequested = "abort_requested",
        /// The job was aborted while it was running.
        Aborted = "aborted",
        /// The job was scheduled. The time of this event is the time for which it was scheduled.
        Scheduled = "scheduled",
        /// The job had failed, and was retried manually.
        Retried = "retried",
    }
}
