//! What a task's result means for its job: decided here, in plain code, and stored in one place.

use std::any::Any;
use std::fmt::Write;

use crate::job::Job;
use crate::retry::{Retry, RetryDecision};
use crate::task::TaskError;

/// The error of a task that panicked, with the panic's message.
#[derive(Debug, thiserror::Error)]
#[error("the task panicked: {0}")]
pub(super) struct Panicked(pub(super) String);

/// How an attempt ends: a closed list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The task ended well.
    Succeeded,
    /// The task ended with this error, with its sources, and is not tried again.
    Failed { error: String },
    /// The task ended with this error, with its sources, and is tried again.
    Retried { error: String, decision: RetryDecision },
}

impl Outcome {
    /// What became of the job, for the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Retried { .. } => "failed, to be tried again",
        }
    }
}

/// The outcome of a job whose task came to this result.
pub(super) fn decide(result: Result<(), TaskError>, job: &Job, retry: &Retry) -> Outcome {
    let Err(error) = result else { return Outcome::Succeeded };
    let text = with_sources(&error);
    match retry.decide(&*error, job) {
        None => Outcome::Failed { error: text },
        Some(decision) => match decision.check() {
            Ok(()) => Outcome::Retried { error: text, decision },
            Err(refusal) => {
                Outcome::Failed { error: format!("{text}; and it cannot be retried as decided: {refusal}") }
            }
        },
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
    use std::time::Duration;

    use super::*;
    use crate::job::JobId;
    use crate::retry::RetryStrategy;

    #[derive(Debug, thiserror::Error)]
    #[error("the mail was not sent")]
    struct NotSent(#[source] std::io::Error);

    fn not_sent() -> Result<(), TaskError> {
        Err(NotSent(std::io::Error::other("connection refused")).into())
    }

    /// A job of which this many attempts have ended.
    fn job(attempts: i32) -> Job {
        Job {
            id: JobId::from(1),
            queue: "q".into(),
            task_name: "t".into(),
            priority: 0,
            lock: None,
            queueing_lock: None,
            args: serde_json::json!({}),
            scheduled_at: None,
            attempts,
            abort_requested: false,
            worker_id: 1,
        }
    }

    #[test]
    fn a_job_fails_with_the_error_and_all_its_sources() {
        let outcome = decide(not_sent(), &job(0), &Retry::default());
        assert_eq!(outcome, Outcome::Failed { error: "the mail was not sent: connection refused".into() });
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let panic = std::panic::catch_unwind(|| panic!("no more {}", "paper")).unwrap_err();
        let outcome = decide(Err(Panicked(panic_message(&*panic)).into()), &job(0), &Retry::default());
        assert_eq!(outcome, Outcome::Failed { error: "the task panicked: no more paper".into() });
    }

    #[test]
    fn a_failed_job_is_retried_as_often_as_its_strategy_says() {
        let retry = Retry::from(RetryStrategy::new().max_attempts(2).wait(3));
        for attempts in [0, 1] {
            let Outcome::Retried { decision, .. } = decide(not_sent(), &job(attempts), &retry) else {
                panic!("attempt {attempts} was not retried");
            };
            assert_eq!(decision, RetryDecision::retry_in(Duration::from_secs(3)));
        }
        assert!(matches!(decide(not_sent(), &job(2), &retry), Outcome::Failed { .. }));
        assert_eq!(decide(Ok(()), &job(0), &retry), Outcome::Succeeded);
    }

    #[test]
    fn a_decision_that_the_database_would_refuse_fails_the_job_and_says_why() {
        struct Odd(RetryDecision);
        impl crate::retry::BaseRetryStrategy for Odd {
            fn get_retry_decision(&self, _: &crate::retry::AttemptError, _: &Job) -> Option<RetryDecision> {
                Some(self.0.clone())
            }
        }
        let soon = RetryDecision::retry_in(Duration::MAX);
        assert!(matches!(decide(not_sent(), &job(0), &Retry::from(Odd(soon.clone()))), Outcome::Retried { .. }));
        for (odd, expected) in [
            (soon.clone().queue("q".repeat(129)), "and 128 are allowed"),
            (soon.clone().lock("l".repeat(2_601)), "and 2600 are allowed"),
            (RetryDecision::retry_at(chrono::DateTime::<chrono::Utc>::MAX_UTC), "from 1970 to 9999"),
        ] {
            let Outcome::Failed { error } = decide(not_sent(), &job(0), &Retry::from(Odd(odd))) else {
                panic!("it is retried, and should not be");
            };
            assert!(error.contains("the mail was not sent") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_strategy_can_look_at_the_type_of_the_error_and_of_its_sources() {
        let only = |strategy: RetryStrategy| {
            matches!(decide(not_sent(), &job(0), &Retry::from(strategy)), Outcome::Retried { .. })
        };
        assert!(only(RetryStrategy::new().retry_exception::<NotSent>()));
        assert!(only(RetryStrategy::new().retry_exception::<std::io::Error>()));
        assert!(only(RetryStrategy::new().retry_exception::<std::fmt::Error>().retry_exception::<std::io::Error>()));
        assert!(!only(RetryStrategy::new().retry_exception::<std::fmt::Error>()));
        assert!(!only(RetryStrategy::new().retry_if(|error| error.to_string().contains("timed out"))));
    }
}
