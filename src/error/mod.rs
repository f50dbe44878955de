//! The error type of the crate.

mod conversions;
mod messages;

use std::error::Error as StdError;

use self::messages::{explain_duplicate, holder_name, join, schedule_name};
use crate::job::{JobId, JobStatus};
use crate::support::refusal;
use crate::support::text::quoted;

/// An error of this crate.
///
/// There is one type for everything, so an application needs only one `From<procrastinate::Error>`. The methods `is_…`
/// answer the most common questions. Match on the variants for details.
///
/// # Example
///
/// ```
/// # use procrastinate::{Error, JobToDefer};
/// fn explain(error: &Error) -> &'static str {
///     if error.is_already_enqueued() { "it is already pending" } else { "try again later" }
/// }
/// # let error = Error::AlreadyEnqueued { task_name: "report".into(), queueing_lock: "report-7".into() };
/// assert_eq!(explain(&error), "it is already pending");
/// ```
#[doc(alias = "ProcrastinateException")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input is invalid, such as a name that is too long, arguments that are not an object, or a date out of range.
    ///
    /// It is checked before the database is asked, so nothing was stored.
    #[error("invalid {what} {value}: {rule}")]
    Invalid {
        /// The kind of input.
        what: &'static str,
        /// The input, shortened if it is long. If it is the arguments of a job, the name of the task, because arguments
        /// may be secret.
        value: String,
        /// The rule that it breaks.
        rule: String,
    },

    /// Another pending job holds the job's queueing lock, so the job was not deferred.
    ///
    /// Your transaction is intact, and you can commit it. See also [`crate::JobToDefer::unless_enqueued`].
    #[error(
        "could not defer task \"{task_name}\": a job with the queueing lock \"{queueing_lock}\" is already pending"
    )]
    AlreadyEnqueued {
        /// The task of the job that was not deferred. In a batch, the task of the first such job.
        task_name: String,
        /// The lock that is taken.
        queueing_lock: String,
    },

    /// Another job holds the job's unique key, so the job was not deferred.
    ///
    /// It is pending or running, or has ended less than its period ago. Your transaction is intact, and you can commit
    /// it. See also [`crate::JobToDefer::unique`].
    #[error("could not defer task \"{task_name}\": {} the unique key \"{key}\"", holder_name(*job_id))]
    NotUnique {
        /// The task of the job that was not deferred. In a batch, the task of the first such job.
        task_name: String,
        /// The key that is taken.
        key: String,
        /// The job that holds it. `None` if it is another job of the batch.
        job_id: Option<JobId>,
    },

    /// There is no job with this ID, or it was deleted.
    #[error("could not {action} job {job_id}: there is no such job")]
    JobNotFound {
        /// The attempted action.
        action: &'static str,
        /// The ID that was not found.
        job_id: JobId,
    },

    /// The status of the job does not allow the action. Nothing was changed, and your transaction, if there is one, is
    /// intact.
    #[error("could not {action} job {job_id}: it is {status}, and must be {allowed}")]
    WrongStatus {
        /// The attempted action.
        action: &'static str,
        /// The job.
        job_id: JobId,
        /// The status that the job has.
        status: JobStatus,
        /// The statuses that allow the action.
        allowed: &'static str,
    },

    /// A job cannot be retried, because another pending job holds its queueing lock.
    ///
    /// Nothing was changed, and your transaction, if there is one, is intact.
    #[error(
        "could not retry job {job_id} of task \"{task_name}\": another job with its queueing lock \
         \"{queueing_lock}\" is already pending"
    )]
    QueueingLockTaken {
        /// The job that was not retried.
        job_id: JobId,
        /// The task of that job.
        task_name: String,
        /// The lock that is taken.
        queueing_lock: String,
    },

    /// There is no such schedule, or it was removed.
    #[error("could not {action} the schedule {}: there is no such schedule", schedule_name(task_name, periodic_id))]
    ScheduleNotFound {
        /// The attempted action.
        action: &'static str,
        /// The task of the schedule.
        task_name: String,
        /// The name that tells several schedules of the task apart.
        periodic_id: String,
    },

    /// A schedule was not created, because there is one in the database or the code. Your transaction is intact.
    #[error(
        "could not create the schedule {}: it is already in the {}; choose another periodic_id",
        schedule_name(task_name, periodic_id),
        if *is_in_code { "code of a program" } else { "database" }
    )]
    ScheduleExists {
        /// The task of the schedule.
        task_name: String,
        /// The name that tells several schedules of the task apart.
        periodic_id: String,
        /// Whether the schedule that exists is in the code of a program.
        is_in_code: bool,
    },

    /// A schedule in the code of a program cannot be changed or removed. Nothing was changed.
    #[error(
        "could not {action} the schedule {}: a program has it in its code (last seen {seen_at}); pause it instead",
        schedule_name(task_name, periodic_id)
    )]
    ScheduleInCode {
        /// The attempted action.
        action: &'static str,
        /// The task of the schedule.
        task_name: String,
        /// The name that tells several schedules of the task apart.
        periodic_id: String,
        /// When a worker last had the schedule in its code.
        seen_at: chrono::DateTime<chrono::Utc>,
    },

    /// The application has no task of this name.
    #[doc(alias = "TaskNotFound")]
    #[error("unknown task \"{name}\"; the tasks of this application are: {}", known.join(", "))]
    UnknownTask {
        /// The name that was not found.
        name: String,
        /// The names of the application's tasks, sorted.
        known: Vec<String>,
    },

    /// A task asked for a type of which the state has no value.
    #[error(
        "could not get a {wanted} from the state: no value of this type was added; add one with \
         App::builder(…).state(…) or app.worker().state(…). The types in the state are: {}",
        known.join(", ")
    )]
    MissingState {
        /// The name of the type.
        wanted: &'static str,
        /// The types of which there are values.
        known: Vec<&'static str>,
    },

    /// Two tasks of an application share a name or alias, or one task was added twice.
    #[doc(alias = "TaskAlreadyRegistered")]
    #[error("{}", explain_duplicate(name, tasks))]
    DuplicateTask {
        /// The name that they share.
        name: String,
        /// The types of the tasks.
        tasks: [&'static str; 2],
    },

    /// The pool returned no connection.
    #[error("could not {action}: could not get a connection: {source}")]
    Pool {
        /// The action that needed the connection.
        action: &'static str,
        /// The error of the pool.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The database has no tables or functions of the queue.
    #[error(
        "could not {action}: {source}. The queue's tables or functions were not found; run the migrations of the \
         procrastinate crate on this database, and check that search_path contains their schema"
    )]
    SchemaMissing {
        /// The attempted action.
        action: &'static str,
        /// The error of the database.
        source: diesel::result::Error,
    },

    /// The database refused a statement or could not be reached.
    #[error("could not {action}: {source}")]
    Database {
        /// The attempted action.
        action: &'static str,
        /// The error of the database.
        source: diesel::result::Error,
    },

    /// The server did not respond in time. The action may have been carried out nevertheless.
    #[error("could not {action}: the server did not respond within {timeout:?}")]
    NoAnswer {
        /// The attempted action.
        action: &'static str,
        /// The time limit.
        timeout: std::time::Duration,
    },

    /// The connection for notifications was lost or could not be established.
    #[error("could not listen for jobs: {source}")]
    Listening {
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A [test worker](crate::testing::TestWorker) cannot continue.
    #[cfg(feature = "testing")]
    #[error("could not run the test worker: {problem}")]
    Testing {
        /// The problem, and its likely cause.
        problem: String,
    },

    /// The heartbeat thread of the worker could not be started.
    #[error("could not start the worker: failed to spawn the heartbeat thread: {source}")]
    Thread {
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A migration failed. It left no changes behind. Earlier migrations stay applied.
    #[error("could not migrate the database: {source}")]
    Migration {
        /// The error of the migration runner.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The queue's migrations could not be written to a directory.
    #[error("could not write the migration {}: {source}", path.display())]
    WriteMigrations {
        /// The file or directory.
        path: std::path::PathBuf,
        /// The error of the operating system, or how the file differs.
        source: std::io::Error,
    },

    /// A worker stopped while it could not reach the database, so it could not store some outcomes.
    ///
    /// These jobs are still marked as running. They count as stalled once the worker has missed its heartbeats.
    #[error(
        "could not store the outcomes of some jobs before the worker stopped, so they are still marked as running \
         (job IDs: {}): {source}",
        join(job_ids)
    )]
    UnsavedJobs {
        /// The jobs whose outcomes were not stored.
        job_ids: Vec<JobId>,
        /// The error of the last attempt to store them.
        source: Box<Error>,
    },
}

impl Error {
    /// Returns whether a job was not deferred or not retried because another job holds its queueing lock or unique key.
    ///
    /// # Example
    ///
    /// ```
    /// # let error = procrastinate::Error::AlreadyEnqueued { task_name: "a".into(), queueing_lock: "b".into() };
    /// assert!(error.is_already_enqueued());
    /// ```
    #[must_use]
    pub fn is_already_enqueued(&self) -> bool {
        matches!(self, Self::AlreadyEnqueued { .. } | Self::QueueingLockTaken { .. } | Self::NotUnique { .. })
    }

    /// Returns whether the input was invalid, so that trying again cannot help.
    ///
    /// # Example
    ///
    /// ```
    /// let error = procrastinate::configure_task("", serde_json::json!({})).check().unwrap_err();
    /// assert!(error.is_invalid());
    /// ```
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::UnknownTask { .. } | Self::DuplicateTask { .. })
    }

    /// Returns the Diesel error behind this one, if there is one.
    ///
    /// Use it, for instance, to retry a transaction after a serialization failure.
    ///
    /// # Example
    ///
    /// ```
    /// use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
    ///
    /// fn worth_trying_again(error: &procrastinate::Error) -> bool {
    ///     matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::SerializationFailure, _)))
    /// }
    /// # let error = procrastinate::configure_task("", serde_json::json!({})).check().unwrap_err();
    /// assert!(!worth_trying_again(&error));
    /// ```
    #[must_use]
    pub fn as_diesel(&self) -> Option<&diesel::result::Error> {
        match self {
            Self::Database { source, .. } | Self::SchemaMissing { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the database understood the statement and refused it, so that it would refuse it again.
    pub(crate) fn is_refusal(&self) -> bool {
        use diesel::result::{DatabaseErrorKind as Kind, Error::DatabaseError};
        matches!(self.as_diesel(), Some(DatabaseError(kind, _))
            if !matches!(kind, Kind::ClosedConnection | Kind::UnableToSendCommand | Kind::SerializationFailure
                | Kind::ReadOnlyTransaction))
    }

    /// Whether another connection may not have this error.
    pub(crate) fn may_be_of_connection(&self) -> bool {
        matches!(self, Self::NoAnswer { .. }) || self.as_diesel().is_some_and(refusal::may_be_of_connection)
    }

    /// Whether the role has no permission for a table, function or sequence of the queue.
    #[cfg(feature = "cli")]
    pub(crate) fn says_that_permission_is_missing(&self) -> bool {
        matches!(self, Self::Database { source, .. } if refusal::says_that_permission_is_missing(source))
    }

    /// An [`Error::Invalid`] with the value in quotes, shortened if it is long.
    pub(crate) fn invalid(what: &'static str, value: impl AsRef<str>, rule: impl Into<String>) -> Self {
        Self::Invalid { what, value: quoted(value.as_ref()), rule: rule.into() }
    }

    /// The error of a statement. It distinguishes whether the queue's schema exists.
    pub(crate) fn database(action: &'static str, source: diesel::result::Error) -> Self {
        if refusal::says_that_schema_is_missing(&source) {
            Self::SchemaMissing { action, source }
        } else {
            Self::Database { action, source }
        }
    }
}
