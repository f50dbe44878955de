//! What a task's result means for its job: decided here, in plain code, and stored in one place.

use std::any::Any;
use std::fmt::Write;

use crate::task::TaskError;

/// What running a job's task came to.
pub(super) enum TaskResult {
    /// It returned.
    Returned(Result<(), TaskError>),
    /// It panicked, with this message.
    Panicked(String),
}

/// How a job ends: a closed list. Each ending has its label in `procrastinate_job_status`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The task ended well.
    Succeeded,
    /// The task ended with this error, with its sources.
    Failed { error: String },
}

impl Outcome {
    /// The label of the status that the job gets.
    pub(super) fn end_status(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
        }
    }
}

/// The outcome of a job whose task came to this result.
pub(super) fn decide(result: TaskResult) -> Outcome {
    match result {
        TaskResult::Returned(Ok(())) => Outcome::Succeeded,
        TaskResult::Returned(Err(error)) => Outcome::Failed { error: with_sources(&error) },
        TaskResult::Panicked(message) => Outcome::Failed { error: format!("the task panicked: {message}") },
    }
}

/// An error and everything that it says caused it, in one line.
fn with_sources(error: &TaskError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// The message of a panic: what `panic!` was given, if that was text.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "its message is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the mail was not sent")]
    struct NotSent(#[source] std::io::Error);

    #[test]
    fn a_job_fails_with_the_error_and_all_its_sources() {
        let error = NotSent(std::io::Error::other("connection refused"));
        let outcome = decide(TaskResult::Returned(Err(error.into())));
        assert_eq!(outcome, Outcome::Failed { error: "the mail was not sent: connection refused".into() });
        assert_eq!(outcome.end_status(), "failed");
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let panic = std::panic::catch_unwind(|| panic!("no more {}", "paper")).unwrap_err();
        let outcome = decide(TaskResult::Panicked(panic_message(&*panic)));
        assert_eq!(outcome, Outcome::Failed { error: "the task panicked: no more paper".into() });
    }
}
