//! The crate's one error type.

use std::error::Error as StdError;

use crate::job::{JobId, JobStatus};

/// What can go wrong in this crate.
///
/// One type for everything, so that one `From<procrastinate::Error>` in an application covers all of it. The
/// `is_…` questions answer what callers usually want to know; match on the variants for the details.
///
/// # Example
///
/// ```
/// # use procrastinate::{Error, JobToDefer};
/// fn explain(error: &Error) -> &'static str {
///     if error.is_already_enqueued() { "it is on its way already" } else { "try again later" }
/// }
/// # let error = Error::AlreadyEnqueued { task_name: "report".into(), queueing_lock: "report-7".into() };
/// assert_eq!(explain(&error), "it is on its way already");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something that was asked for cannot be: a name that is too long, arguments that are not an object, a date out
    /// of range. Found before the database was asked, so nothing was stored.
    #[error("invalid {what} {value}: {rule}")]
    Invalid {
        /// Which input.
        what: &'static str,
        /// The input as it came, shortened where it is long.
        value: String,
        /// The rule that it breaks.
        rule: String,
    },

    /// The queueing lock of the job is held by a job that waits already, so the job was not deferred.
    ///
    /// The caller's transaction, if there is one, is intact: other than a violated constraint, this can be ignored and
    /// the transaction committed.
    #[error(
        "task \"{task_name}\" was not deferred: a job with the queueing lock \"{queueing_lock}\" is waiting already"
    )]
    AlreadyEnqueued {
        /// The task of the job that was not deferred; of a batch, of its first job with that queueing lock.
        task_name: String,
        /// The lock that is taken.
        queueing_lock: String,
    },

    /// There is no job of this number: it was deleted, or never was.
    #[error("could not {action} job {job_id}: there is no such job")]
    JobNotFound {
        /// What was being done.
        action: &'static str,
        /// The number that was asked for.
        job_id: JobId,
    },

    /// The job is in a status in which this cannot be done with it. Nothing was changed, and the caller's transaction, if
    /// there is one, is intact.
    #[error("could not {action} job {job_id}: it is {status}, and must be {allowed}")]
    WrongStatus {
        /// What was being done.
        action: &'static str,
        /// The job.
        job_id: JobId,
        /// The status that it has.
        status: JobStatus,
        /// The statuses in which it can be done.
        allowed: &'static str,
    },

    /// A job cannot be put back to wait, because another one that waits holds its queueing lock. Nothing was changed, and
    /// the caller's transaction, if there is one, is intact.
    #[error(
        "job {job_id} of task \"{task_name}\" was not put back to wait: another job with its queueing lock \
         \"{queueing_lock}\" is waiting already"
    )]
    QueueingLockTaken {
        /// The job that was to wait.
        job_id: JobId,
        /// Its task.
        task_name: String,
        /// The lock that is taken.
        queueing_lock: String,
    },

    /// No task of this name was given to the application.
    #[error("there is no task \"{name}\" in this application; it knows: {}", known.join(", "))]
    UnknownTask {
        /// The name that was asked for.
        name: String,
        /// The names of the application's tasks, sorted.
        known: Vec<String>,
    },

    /// A task asked for a value that nobody put into the state.
    #[error(
        "there is no value of the type {wanted} in the state; give it with App::builder(…).state(…) or \
         app.worker().state(…). There are: {}",
        known.join(", ")
    )]
    MissingState {
        /// The type's name.
        wanted: &'static str,
        /// The types of which there are values.
        known: Vec<&'static str>,
    },

    /// Two tasks of one application have the same name or alias, so a job's name would not say which one to run; or one
    /// task was added twice.
    #[error("{}", explain_duplicate(name, tasks))]
    DuplicateTask {
        /// The name they share.
        name: String,
        /// Their types.
        tasks: [&'static str; 2],
    },

    /// The pool gave no connection.
    #[error("could not {action}: no connection from the pool: {source}")]
    Pool {
        /// What the connection was wanted for.
        action: &'static str,
        /// What the pool said.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The tables or functions of the queue are not there.
    #[error(
        "could not {action}: {source}. The queue's tables or functions were not found: run the migrations of the \
         procrastinate crate on this database, and check that search_path names their schema"
    )]
    SchemaMissing {
        /// What was being done.
        action: &'static str,
        /// The database's answer.
        source: diesel::result::Error,
    },

    /// The database refused a statement or could not be reached.
    #[error("could not {action}: {source}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The database's answer.
        source: diesel::result::Error,
    },

    /// The server did not answer in time. What was asked of it may have been done.
    #[error("could not {action}: the server did not answer within {timeout:?}")]
    NoAnswer {
        /// What was asked of it.
        action: &'static str,
        /// How long the answer was waited for.
        timeout: std::time::Duration,
    },

    /// The connection on which jobs are listened for was lost, or could not be made.
    #[error("could not listen for jobs: {source}")]
    Listening {
        /// What went wrong.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A [test worker](crate::testing::TestWorker) cannot go on.
    #[cfg(feature = "testing")]
    #[error("the test worker cannot go on: {problem}")]
    Testing {
        /// Why, and what may be the cause.
        problem: String,
    },

    /// The worker's own thread could not be started.
    #[error("the worker was not started: there is no thread to be had for its heartbeat: {source}")]
    Thread {
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A migration failed; nothing of that migration was kept, and those before it stay applied.
    #[error("could not migrate the database: {source}")]
    Migration {
        /// What the migration's runner said.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The queue's migrations could not be written into a directory.
    #[error("could not write the migration {}: {source}", path.display())]
    WriteMigrations {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the operating system said, or how the file differs.
        source: std::io::Error,
    },

    /// A worker was stopped while the database could not be reached, so it could not store how some jobs ended.
    ///
    /// They are still marked as running. Once the worker's heartbeat is overdue they count as stalled.
    #[error(
        "the worker stopped, but how these jobs ended could not be stored, and they are still marked as running \
         (job ids: {}): {source}",
        join(job_ids)
    )]
    UnsavedJobs {
        /// The jobs, whose tasks have ended.
        job_ids: Vec<JobId>,
        /// Why it failed the last time.
        source: Box<Error>,
    },
}

impl Error {
    /// Whether a job was not deferred, or not put back to wait, because one with its queueing lock is waiting already.
    ///
    /// # Example
    ///
    /// ```
    /// # let error = procrastinate::Error::AlreadyEnqueued { task_name: "a".into(), queueing_lock: "b".into() };
    /// assert!(error.is_already_enqueued());
    /// ```
    #[must_use]
    pub fn is_already_enqueued(&self) -> bool {
        matches!(self, Self::AlreadyEnqueued { .. } | Self::QueueingLockTaken { .. })
    }

    /// Whether the input was at fault, so that trying again cannot help.
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

    /// The error of Diesel behind this one, if there is one: for instance to see whether the transaction should be
    /// tried again after a serialization failure.
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

    /// An [`Error::Invalid`], with the value in quotes and cut where it is long.
    /// Whether the database understood the statement and refused it, so that it would refuse it again.
    pub(crate) fn is_refusal(&self) -> bool {
        use diesel::result::{DatabaseErrorKind as Kind, Error::DatabaseError};
        matches!(self.as_diesel(), Some(DatabaseError(kind, _))
            if !matches!(kind, Kind::ClosedConnection | Kind::UnableToSendCommand | Kind::SerializationFailure))
    }

    pub(crate) fn invalid(what: &'static str, value: impl AsRef<str>, rule: impl Into<String>) -> Self {
        const LONGEST: usize = 150;
        let value = value.as_ref();
        let shown = if value.chars().count() > LONGEST {
            let start: String = value.chars().take(LONGEST).collect();
            format!("{start:?}…")
        } else {
            format!("{value:?}")
        };
        Self::Invalid { what, value: shown, rule: rule.into() }
    }

    /// The error of a statement, told apart by whether the queue's schema is there at all.
    pub(crate) fn database(action: &'static str, source: diesel::result::Error) -> Self {
        if says_that_schema_is_missing(&source) {
            Self::SchemaMissing { action, source }
        } else {
            Self::Database { action, source }
        }
    }
}

/// Diesel does not hand out SQLSTATE codes. An undefined table, function or type is known by the place in the statement
/// that the server points at, which our functions' own messages lack, and by a name of ours in the message: both are
/// the same in every language of the server.
/// So that a transaction which only uses this crate can have its error type: what Diesel says of `BEGIN`, `COMMIT` and the
/// application's own statements becomes an [`Error::Database`].
///
/// ```no_run
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
/// # use procrastinate::task;
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
///
/// # async fn example(connection: &mut AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// connection
///     .transaction(async |connection| {
///         welcome(1).defer(connection).await?;
///         welcome(2).defer(connection).await
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
impl From<diesel::result::Error> for Error {
    fn from(source: diesel::result::Error) -> Self {
        Self::database("run the transaction", source)
    }
}

fn says_that_schema_is_missing(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
    match error {
        DatabaseError(DatabaseErrorKind::Unknown, information) => {
            information.statement_position().is_some() && information.message().contains("procrastinate_")
        }
        diesel::result::Error::SerializationError(source) => source.to_string().contains("procrastinate_"),
        _ => false,
    }
}

fn explain_duplicate(name: &str, [one, other]: &[&'static str; 2]) -> String {
    if one == other {
        return format!("the task \"{name}\" ({one}) was added twice");
    }
    format!(
        "two tasks are named \"{name}\", {one} and {other}: give one of them another name with #[task(name = \"…\")], or \
         a namespace with #[task(namespace = \"…\")]"
    )
}

fn join(job_ids: &[JobId]) -> String {
    job_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
