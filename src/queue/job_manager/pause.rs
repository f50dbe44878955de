//! Operations that pause and resume queues and tasks.

use super::operation;
use crate::database::connection::run::Run;
use crate::database::statements::flow_control::{PauseQuery, ResumeQuery};
use crate::error::Error;
use crate::validation::{check_name, check_text};

/// What is paused or limited.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Queue(String),
    Task(String),
}

impl Target {
    /// Checks the name, and returns the kind and the name as the statements take them.
    pub(super) fn check(self) -> Result<(&'static str, String), Error> {
        match self {
            Self::Queue(name) => check_name("queue name", &name).map(|()| ("queue", name)),
            Self::Task(name) => check_name("task name", &name).map(|()| ("task", name)),
        }
    }
}

/// Pauses a queue: no worker of any language starts its jobs until it is [resumed](resume_queue).
///
/// The pause takes effect with the next fetch of each worker. Jobs can still be deferred. Running jobs continue, and so
/// do those in a worker's [local buffer](crate::Worker::local_buffer). To wait for them, count them with
/// [`list_queues`](super::list_queues). The operation returns `false` if the queue was paused already. Then it only
/// replaces who paused it and why.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// Pauses a queue while the application's tables are changed:
///
/// ```no_run
/// use procrastinate::job_manager::{pause_queue, resume_queue};
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// pause_queue("invoices").by("anna").reason("new tax rates").execute_blocking(connection)?;
/// // …
/// resume_queue("invoices").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn pause_queue(name: impl Into<String>) -> Pause {
    Pause { target: Target::Queue(name.into()), by: None, reason: None, skips_ticks: false }
}

/// Pauses a task, whatever the queue of its jobs. See [`pause_queue`].
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::pause_task("send_mail").reason("the mail server is down").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn pause_task(name: impl Into<String>) -> Pause {
    Pause { target: Target::Task(name.into()), by: None, reason: None, skips_ticks: false }
}

/// The operation of [`pause_queue`] and [`pause_task`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{Pause, pause_queue};
///
/// let operation: Pause = pause_queue("mails").by("anna");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct Pause {
    target: Target,
    by: Option<String>,
    reason: Option<String>,
    skips_ticks: bool,
}

operation!(Pause -> bool);

impl Pause {
    /// Records who pauses it.
    ///
    /// # Example
    ///
    /// See [`pause_queue`].
    pub fn by(mut self, name: impl Into<String>) -> Self {
        self.by = Some(name.into());
        self
    }

    /// Records why it is paused.
    ///
    /// # Example
    ///
    /// See [`pause_queue`].
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Skips the ticks of periodic tasks during the pause. By default their jobs are deferred, and wait until the pause
    /// ends.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::pause_task("hourly_report").skip_ticks();
    /// ```
    pub fn skip_ticks(mut self) -> Self {
        self.skips_ticks = true;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let Self { target, by: paused_by, reason, skips_ticks } = self;
        let (kind, name) = target.check()?;
        check_text("name of who pauses", paused_by.as_deref())?;
        check_text("reason of the pause", reason.as_deref())?;
        run.load_one(PauseQuery { kind, name, paused_by, reason, skips_ticks }).await
    }
}

/// Resumes a paused queue, and wakes its workers. The operation returns whether the queue was paused.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// See [`pause_queue`].
pub fn resume_queue(name: impl Into<String>) -> Resume {
    Resume { target: Target::Queue(name.into()) }
}

/// Resumes a paused task, and wakes the workers of its queues. The operation returns whether the task was paused.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let was_paused = procrastinate::job_manager::resume_task("send_mail").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn resume_task(name: impl Into<String>) -> Resume {
    Resume { target: Target::Task(name.into()) }
}

/// The operation of [`resume_queue`] and [`resume_task`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{Resume, resume_queue};
///
/// let operation: Resume = resume_queue("mails");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct Resume {
    target: Target,
}

operation!(Resume -> bool);

impl Resume {
    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let (kind, name) = self.target.check()?;
        run.load_one(ResumeQuery { kind, name }).await
    }
}
