//! The statuses and events of a job: enums of the database.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};

use crate::schema::sql_types::{ProcrastinateJobEventType, ProcrastinateJobStatus};

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
