//! The results of a task, and the values with which a task controls its own job.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::retry::{AttemptError, RetryDecision, find_cause};

/// The error of a failed task. Any error type converts into it.
pub type TaskError = Box<dyn StdError + Send + Sync>;

/// The result of a task, as middleware sees it.
pub type TaskResult = Result<(), TaskError>;

/// A value that a task can return.
///
/// | returned | effect on the job |
/// |---|---|
/// | `()` | succeeds |
/// | `Ok(…)` | succeeds; the value is dropped |
/// | `Err(…)` | is retried if the task's [`retry`](crate::Task::retry) says so, otherwise it fails; the error with all its sources is logged |
/// | `Err(…)` that contains a [`TaskControl`](crate::TaskControl) or [`JobAborted`](crate::JobAborted) | as that value says: retried at a time, snoozed, failed without a retry, or aborted |
/// | nothing, because the task panics | as after an error, which is a [`TaskPanicked`](crate::TaskPanicked) |
///
/// The error type must convert into `Box<dyn Error + Send + Sync>`: an error type, `anyhow::Error`, a `String` and so
/// on. Put any other type that implements `Display` into a [`WrappedError`](crate::WrappedError).
/// [`#[task]`](macro@crate::task) does that for you.
///
/// # Example
///
/// ```
/// use procrastinate::TaskOutput;
///
/// assert!(Ok::<i64, String>(8).into_result().is_ok());
/// assert_eq!(Err::<(), _>("no paper").into_result().unwrap_err().to_string(), "no paper");
/// ```
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    note = "return nothing, or a `Result` whose error converts into `Box<dyn std::error::Error + Send + Sync>`",
    note = "`procrastinate::WrappedError` makes an error of any type that implements `Display` and `Debug`"
)]
pub trait TaskOutput: Send {
    /// Returns whether the task succeeded.
    ///
    /// # Errors
    ///
    /// The error of the task.
    fn into_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), TaskError> {
        Ok(())
    }
}

impl<T: Send, E: Into<TaskError> + Send> TaskOutput for Result<T, E> {
    fn into_result(self) -> Result<(), TaskError> {
        self.map(drop).map_err(Into::into)
    }
}

/// An error value with which a task decides about its own job.
///
/// Return it as the error of the task, or as a variant or source of it. The worker searches the whole chain of sources.
///
/// | value | effect on the job |
/// |---|---|
/// | [`TaskControl::retry_in`], [`TaskControl::retry`] | retried at that time, whatever the task's strategy says; only the strategy's limit of attempts applies |
/// | [`TaskControl::discard`] | fails without a retry, whatever the task's strategy says |
/// | [`TaskControl::snooze`] | runs again after the delay, and this attempt does not count |
/// | [`JobAborted`] | ends as `aborted` |
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::{TaskControl, task};
///
/// #[derive(Debug, thiserror::Error)]
/// enum ImportError {
///     #[error("could not read the file {0}")]
///     Unreadable(String),
///     #[error(transparent)]
///     Control(#[from] TaskControl),
/// }
///
/// #[task(retry = 5)]
/// async fn import(file: String) -> Result<(), ImportError> {
///     if file.is_empty() {
///         return Err(TaskControl::discard().because("no file was named").into());
///     }
///     if file.ends_with(".part") {
///         return Err(TaskControl::snooze(Duration::from_secs(60)).into());
///     }
///     Err(ImportError::Unreadable(file))
/// }
/// # let job = import("a.part".into());
/// ```
#[derive(Debug)]
#[must_use = "this does nothing unless the task returns it as its error"]
pub struct TaskControl(Control);

/// An error that ends the job as `aborted`. A task returns it as its error, or as a source of its error.
///
/// # Example
///
/// ```
/// use procrastinate::{JobAborted, JobContext, task};
///
/// #[task(pass_context)]
/// fn count(context: JobContext) -> Result<(), JobAborted> {
///     for _ in 0..1_000 {
///         if context.should_abort() {
///             return Err(JobAborted);
///         }
///     }
///     Ok(())
/// }
/// # let job = count();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobAborted;

/// The value that is found in a chain of sources. It is the source of the public types, because a transparent error
/// (`#[error(transparent)]`) exposes the sources of the inner error and hides the inner error itself.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) verdict: Verdict,
    because: Option<Box<AttemptError>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Aborted,
    Retry(RetryDecision),
    Snooze(Duration),
    Discard,
}

static ABORTED: Control = Control { verdict: Verdict::Aborted, because: None };

/// An error for a job that can never run, so a retry cannot help.
#[derive(Debug)]
pub(crate) struct CannotRun(pub(crate) String);

/// An error for a job that cannot run now, and runs again later.
#[derive(Debug)]
pub(crate) struct CannotRunYet {
    reason: String,
    control: Control,
}

impl CannotRunYet {
    pub(crate) fn new(reason: String, delay: Duration) -> Self {
        Self { reason, control: Control { verdict: Verdict::Snooze(delay), because: None } }
    }
}

static DO_NOT_RETRY: Control = Control { verdict: Verdict::Discard, because: None };

impl TaskControl {
    /// Retries the job after a delay.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use procrastinate::TaskControl;
    /// let control = TaskControl::retry_in(Duration::from_secs(60));
    /// assert_eq!(control.to_string(), "the task requested a retry in 60s");
    /// ```
    pub fn retry_in(delay: Duration) -> Self {
        Self::retry(RetryDecision::retry_in(delay))
    }

    /// Retries the job at a given time, optionally with a different priority, queue or lock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use procrastinate::TaskControl;
    /// use procrastinate::retry::RetryDecision;
    ///
    /// let control = TaskControl::retry(RetryDecision::retry_in(Duration::from_secs(60)).queue("slow"));
    /// ```
    pub fn retry(decision: RetryDecision) -> Self {
        Self::new(Verdict::Retry(decision))
    }

    /// Runs the job again after a delay, without counting this attempt. Use it if something the task needs is not ready
    /// yet.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use procrastinate::TaskControl;
    /// let control = TaskControl::snooze(Duration::from_secs(60)).because("the file is not there yet");
    /// ```
    pub fn snooze(delay: Duration) -> Self {
        Self::new(Verdict::Snooze(delay))
    }

    /// Fails the job without a retry. Use it if another attempt cannot succeed.
    ///
    /// ```
    /// # use procrastinate::TaskControl;
    /// let control = TaskControl::discard().because("the customer is gone");
    /// ```
    pub fn discard() -> Self {
        Self::new(Verdict::Discard)
    }

    /// Adds a reason, which is an error or a text. It is logged, and stored with the job except after a snooze.
    ///
    /// ```
    /// # use procrastinate::TaskControl;
    /// use std::error::Error;
    ///
    /// let control = TaskControl::discard().because("the customer is gone");
    /// assert_eq!(control.source().unwrap().to_string(), "the customer is gone");
    /// ```
    pub fn because(mut self, reason: impl Into<Box<AttemptError>>) -> Self {
        self.0.because = Some(reason.into());
        self
    }

    fn new(verdict: Verdict) -> Self {
        Self(Control { verdict, because: None })
    }
}

impl Control {
    /// Returns the control value in an error or its sources.
    pub(crate) fn find(error: &AttemptError) -> Option<&Self> {
        find_cause(error)
    }

    /// Whether it adds nothing to the error around it.
    pub(crate) fn has_no_reason(&self) -> bool {
        self.because.is_none()
    }
}

impl fmt::Display for TaskControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.verdict {
            Verdict::Aborted => f.write_str("the task aborted its job"),
            Verdict::Retry(decision) => write!(f, "the task requested a retry {decision}"),
            Verdict::Snooze(delay) => write!(f, "the task snoozed its job for {delay:?}"),
            Verdict::Discard => f.write_str("the task discarded its job"),
        }
    }
}

impl StdError for TaskControl {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl fmt::Display for JobAborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task aborted its job")
    }
}

impl StdError for JobAborted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&ABORTED)
    }
}

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for CannotRun {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&DO_NOT_RETRY)
    }
}

impl fmt::Display for CannotRunYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl StdError for CannotRunYet {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.control)
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.because {
            Some(reason) => reason.fmt(f),
            None => f.write_str("no reason given"),
        }
    }
}

impl StdError for Control {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.because.as_ref().and_then(|reason| reason.source())
    }
}
