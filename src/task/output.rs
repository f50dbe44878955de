//! What a task can answer about its job, beside success and an ordinary error.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::retry::{AttemptError, RetryDecision, find_cause};

/// Why a task failed: any error.
pub type TaskError = Box<dyn StdError + Send + Sync>;

/// How a task ended, as a middleware sees it.
pub type TaskResult = Result<(), TaskError>;

/// What a task may return.
///
/// | returned | the job |
/// |---|---|
/// | `()` | succeeds |
/// | `Ok(…)` | succeeds; the value is dropped |
/// | `Err(…)` | is tried again if the task's [`retry`](Task::retry) says so, else fails; the error with all its sources goes to the log |
/// | `Err(…)` with a [`TaskControl`](crate::TaskControl) or [`JobAborted`](crate::JobAborted) in it | what that says: again at a time, again without counting this attempt, not again, aborted |
/// | nothing, it panics | as after an error; the message of the panic and its place are kept |
///
/// The error is anything that turns into a `Box<dyn Error + Send + Sync>`: an error type, `anyhow::Error`, a `String`.
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
    note = "it returns nothing, or a `Result` whose error turns into `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait TaskOutput: Send {
    /// Whether the task ended well.
    ///
    /// # Errors
    ///
    /// The task's own.
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

/// What a task says itself about its job, as an error value.
///
/// It may be the task's error type, a variant of it, or the source of it: it is found all along the chain of sources.
///
/// | answer | the job |
/// |---|---|
/// | [`TaskControl::retry_in`], [`TaskControl::retry`] | has failed, and is tried again then, whatever the task's strategy would have said; only the strategy's limit of attempts is kept |
/// | [`TaskControl::discard`] | fails for good, whatever the task's strategy says |
/// | [`TaskControl::snooze`] | waits again, and this attempt does not count |
/// | [`JobAborted`] | ends as aborted |
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::{TaskControl, task};
///
/// #[derive(Debug, thiserror::Error)]
/// enum ImportError {
///     #[error("the file cannot be read: {0}")]
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
#[must_use = "an answer does nothing until the task returns it as its error"]
pub struct TaskControl(Control);

/// Ends the job as aborted when a task returns it as its error, or as a source of its error.
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

/// What is found along a chain of sources. It is the source of what users hold, because an error that passes another one
/// through (`#[error(transparent)]`) shows the sources of that one, not that one itself.
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

/// Why a job cannot be run at all: it cannot be run later either.
#[derive(Debug)]
pub(crate) struct CannotRun(pub(crate) String);

static DO_NOT_RETRY: Control = Control { verdict: Verdict::Discard, because: None };

impl TaskControl {
    /// Another attempt after so long.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use procrastinate::TaskControl;
    /// let answer = TaskControl::retry_in(Duration::from_secs(60));
    /// assert_eq!(answer.to_string(), "the task asks for another attempt in 60s");
    /// ```
    pub fn retry_in(delay: Duration) -> Self {
        Self::retry(RetryDecision::retry_in(delay))
    }

    /// Another attempt at a time, and perhaps with another priority, queue or lock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use procrastinate::TaskControl;
    /// use procrastinate::retry::RetryDecision;
    ///
    /// let answer = TaskControl::retry(RetryDecision::retry_in(Duration::from_secs(60)).queue("slow"));
    /// ```
    pub fn retry(decision: RetryDecision) -> Self {
        Self::new(Verdict::Retry(decision))
    }

    /// Again after so long, without using up an attempt: what the task waits for is not there yet.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use procrastinate::TaskControl;
    /// let answer = TaskControl::snooze(Duration::from_secs(60)).because("the file is not there yet");
    /// ```
    pub fn snooze(delay: Duration) -> Self {
        Self::new(Verdict::Snooze(delay))
    }

    /// No other attempt: it would come to the same.
    ///
    /// ```
    /// # use procrastinate::TaskControl;
    /// let answer = TaskControl::discard().because("the customer is gone");
    /// ```
    pub fn discard() -> Self {
        Self::new(Verdict::Discard)
    }

    /// The reason: an error or a text, for the log and the job's errors.
    ///
    /// ```
    /// # use procrastinate::TaskControl;
    /// use std::error::Error;
    ///
    /// let answer = TaskControl::discard().because("the customer is gone");
    /// assert_eq!(answer.source().unwrap().to_string(), "the customer is gone");
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
    /// The answer in an error or its sources, if there is one.
    pub(crate) fn find(error: &AttemptError) -> Option<&Self> {
        find_cause(error)
    }

    /// Whether it has nothing to say that the error around it has not said.
    pub(crate) fn is_silent(&self) -> bool {
        self.because.is_none()
    }
}

impl fmt::Display for TaskControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.verdict {
            Verdict::Aborted => f.write_str("the task aborted its job"),
            Verdict::Retry(decision) => write!(f, "the task asks for another attempt {decision}"),
            Verdict::Snooze(delay) => write!(f, "the task wants to run again in {delay:?}"),
            Verdict::Discard => f.write_str("the task asks for no other attempt"),
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

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.because {
            Some(reason) => reason.fmt(f),
            None => f.write_str("it gave no reason"),
        }
    }
}

impl StdError for Control {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.because.as_ref().and_then(|reason| reason.source())
    }
}
