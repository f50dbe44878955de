//! The error of a task that panicked.

use std::any::Any;

use crate::support::panics;

/// The error of a task that panicked.
///
/// A panic of the task reaches its middleware as this error. The panic message and location are logged and stored with
/// the job, as any other error is. A retry strategy can choose it with
/// [`retry_on::<TaskPanicked>()`](crate::retry::RetryStrategy::retry_on).
///
/// # Example
///
/// ```
/// use procrastinate::{JobContext, Next, TaskPanicked, TaskResult};
///
/// async fn count_panics(context: JobContext, next: Next) -> TaskResult {
///     let result = next.run(context).await;
///     if let Err(error) = &result
///         && let Some(panic) = error.downcast_ref::<TaskPanicked>()
///     {
///         eprintln!("a panic at {}: {}", panic.location().unwrap_or("an unknown location"), panic.message());
///     }
///     result
/// }
/// # let middleware = procrastinate::Middleware::from(count_panics);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task panicked{}: {message}", location.as_ref().map(|at| format!(" at {at}")).unwrap_or_default())]
pub struct TaskPanicked {
    message: String,
    location: Option<String>,
}

impl TaskPanicked {
    /// The error for a panic that was just caught on this thread.
    pub(crate) fn caught(panic: &(dyn Any + Send)) -> Self {
        Self { message: panics::message(panic), location: panics::take_location() }
    }

    /// Returns the panic message.
    ///
    /// # Example
    ///
    /// See [`TaskPanicked`].
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the location of the panic, such as `src/mails.rs:7:5`. `None` if the program has replaced the panic hook
    /// that records it.
    ///
    /// # Example
    ///
    /// See [`TaskPanicked`].
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }
}
