//! Decides what the end of an attempt means for its job. The decision is pure code, and the result is stored elsewhere.

use std::error::Error as StdError;
use std::time::Duration;

use crate::database::statements::finish_and_fetch::LONGEST_ERROR;
use crate::job::Job;
use crate::job::interruption::{AbortReason, Interrupted, TimedOut};
use crate::retry::{AttemptError, Rescue, Retry, RetryDecision, StalledJobPolicy};
use crate::support::causes;
use crate::support::text::storable;
use crate::task::output::{Control, TaskResult, Verdict};

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Completion {
    /// The task or its middleware returned or panicked.
    Returned(TaskResult),
    /// The task was cancelled at an await point, because it was asked to abort.
    Cancelled,
}

/// The settings of a task that matter when an attempt ends.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskPolicy {
    pub(super) retry: Retry,
    pub(super) stalled: StalledJobPolicy,
    pub(super) timeout: Option<Duration>,
}

/// What happens to a job after an attempt. This list is complete. Each error is a text that includes all sources.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The task succeeded.
    Succeeded,
    /// The task failed with this error and will not be retried.
    Failed { error: String },
    /// The task failed with this error and will be retried.
    Retried { error: String, decision: RetryDecision },
    /// The task was asked to abort or aborted itself, and will not be retried.
    Aborted { error: String },
    /// The task was aborted because of its worker, and will be retried.
    Interrupted { error: String, decision: RetryDecision },
    /// The task asked to run again later, and this attempt does not count.
    Snoozed { error: String, decision: RetryDecision },
    /// The worker stopped before the task started.
    NotStarted,
}

impl Outcome {
    /// The outcome in a few words, for the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Retried { .. } => "failed, will be retried",
            Self::Aborted { .. } => "aborted",
            Self::Interrupted { .. } => "interrupted, will be retried",
            Self::Snoozed { .. } => "snoozed",
            Self::NotStarted => "not started",
        }
    }

    /// The outcome in one word, for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Retried { .. } => "retried",
            Self::Aborted { .. } => "aborted",
            Self::Interrupted { .. } => "interrupted",
            Self::Snoozed { .. } => "snoozed",
            Self::NotStarted => "not_started",
        }
    }

    /// Returns the error to store with the job, if the attempt counts and did not succeed.
    pub(super) fn error_to_keep(&self) -> Option<&str> {
        match self {
            Self::Failed { error }
            | Self::Retried { error, .. }
            | Self::Aborted { error }
            | Self::Interrupted { error, .. } => Some(error),
            Self::Succeeded | Self::Snoozed { .. } | Self::NotStarted => None,
        }
    }
}

/// Decides the outcome of an attempt from its end, and from the reason for which it was asked to abort, if any.
pub(super) fn decide(ended: Completion, abort_reason: Option<AbortReason>, job: &Job, policy: &TaskPolicy) -> Outcome {
    let error = match ended {
        Completion::Returned(Ok(())) => return Outcome::Succeeded,
        Completion::Cancelled => return stopped(abort_reason, None, job, policy),
        Completion::Returned(Err(error)) => error,
    };
    let text = with_sources(&*error);
    match (Control::find(&*error).map(|control| &control.verdict), abort_reason) {
        (Some(Verdict::Aborted), _) | (_, Some(AbortReason::Timeout)) => stopped(abort_reason, Some(text), job, policy),
        (Some(Verdict::Discard), _) => Outcome::Failed { error: text },
        (Some(Verdict::Snooze(delay)), _) => {
            Outcome::Snoozed { error: text, decision: RetryDecision::retry_in(*delay) }
        }
        (Some(Verdict::Retry(decision)), _) => {
            let is_over = !policy.retry.is_never() && policy.retry.is_last_attempt(job);
            retried(text, Some(decision.clone()).filter(|_| !is_over))
        }
        (None, _) => retried(text, policy.retry.decide(&*error, job)),
    }
}

/// Decides the outcome of a task that was aborted. `text` is the error that the task itself returned.
fn stopped(reason: Option<AbortReason>, text: Option<String>, job: &Job, policy: &TaskPolicy) -> Outcome {
    let because = |cause: &AttemptError| match &text {
        Some(text) => limited(&format!("{cause}: {text}")),
        None => cause.to_string(),
    };
    match reason {
        None => Outcome::Aborted { error: text.unwrap_or_default() },
        Some(AbortReason::UserRequest) => {
            Outcome::Aborted { error: text.unwrap_or_else(|| "an abort of the job was requested".to_owned()) }
        }
        Some(AbortReason::Timeout) => {
            let error = TimedOut { timeout: policy.timeout.unwrap_or_default() };
            retried(because(&error), policy.retry.decide(&error, job))
        }
        Some(AbortReason::Shutdown) => {
            let error = Interrupted::Shutdown;
            match policy.retry.decide(&error, job).filter(|decision| decision.check().is_ok()) {
                Some(decision) => Outcome::Interrupted { error: because(&error), decision },
                None => Outcome::Aborted { error: because(&error) },
            }
        }
        Some(AbortReason::WorkerLost) => {
            let error = Interrupted::WorkerLost;
            match policy.stalled.decide(error, job, &policy.retry) {
                Some(Rescue::Retry(decision)) => Outcome::Interrupted { error: because(&error), decision },
                Some(Rescue::Fail) | None => Outcome::Failed { error: because(&error) },
            }
        }
    }
}

/// Retries the job if there is a valid decision to do so. Otherwise the job has failed.
fn retried(error: String, decision: Option<RetryDecision>) -> Outcome {
    let Some(decision) = decision else { return Outcome::Failed { error } };
    match decision.check() {
        Ok(()) => Outcome::Retried { error, decision },
        Err(refusal) => Outcome::Failed { error: format!("{error}; could not retry the job: {refusal}") },
    }
}

/// Formats an error and all of its sources in one line.
fn with_sources(error: &AttemptError) -> String {
    let adds_nothing = |cause: &&(dyn StdError + 'static)| cause.downcast_ref().is_some_and(Control::has_no_reason);
    let mut text = error.to_string();
    for cause in causes::chain(error).skip(1).take_while(|cause| !adds_nothing(cause)) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    limited(&text)
}

/// Makes a text storable, and limits its length.
fn limited(text: &str) -> String {
    storable(text, LONGEST_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;
    use crate::retry::{RetryPolicy, RetryStrategy};
    use crate::task::output::{JobAborted, TaskControl};

    #[derive(Debug, thiserror::Error)]
    #[error("the mail was not sent")]
    struct NotSent(#[source] std::io::Error);

    fn not_sent() -> Completion {
        Completion::Returned(Err(NotSent(std::io::Error::other("connection refused")).into()))
    }

    fn failed_with(control: TaskControl) -> Completion {
        Completion::Returned(Err(control.into()))
    }

    /// A job with this many previous attempts.
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
            worker_id: Some(1),
        }
    }

    fn policy(retry: impl Into<Retry>) -> TaskPolicy {
        TaskPolicy { retry: retry.into(), timeout: Some(Duration::from_secs(30)), ..TaskPolicy::default() }
    }

    fn never() -> TaskPolicy {
        policy(false)
    }

    #[test]
    fn a_job_fails_with_the_error_and_all_its_sources() {
        let outcome = decide(not_sent(), None, &job(0), &never());
        assert_eq!(outcome, Outcome::Failed { error: "the mail was not sent: connection refused".into() });
    }

    #[test]
    fn a_long_error_is_truncated_and_characters_that_cannot_be_stored_are_replaced() {
        let error = format!("a\0{}", "ä".repeat(LONGEST_ERROR));
        let Outcome::Failed { error } = decide(Completion::Returned(Err(error.into())), None, &job(0), &never()) else {
            panic!("the job did not fail");
        };
        assert!(error.starts_with("a\u{FFFD}ä") && error.len() < LONGEST_ERROR + 30, "{}", error.len());
        assert!(error.ends_with("ä… (10004 bytes more)"), "{}", &error[error.len() - 40..]);
    }

    #[test]
    fn a_failed_job_is_retried_up_to_the_limit_of_its_strategy() {
        let policy = policy(RetryStrategy::new().max_attempts(2).wait(3));
        for attempts in [0, 1] {
            let Outcome::Retried { decision, .. } = decide(not_sent(), None, &job(attempts), &policy) else {
                panic!("attempt {attempts} was not retried");
            };
            assert_eq!(decision, RetryDecision::retry_in(Duration::from_secs(3)));
        }
        assert!(matches!(decide(not_sent(), None, &job(2), &policy), Outcome::Failed { .. }));
        assert_eq!(decide(Completion::Returned(Ok(())), None, &job(0), &policy), Outcome::Succeeded);
    }

    #[test]
    fn an_invalid_retry_decision_fails_the_job_with_the_reason() {
        struct Odd(RetryDecision);
        impl RetryPolicy for Odd {
            fn decide(&self, _: &AttemptError, _: &Job) -> Option<RetryDecision> {
                Some(self.0.clone())
            }
        }
        let soon = RetryDecision::retry_in(Duration::MAX);
        assert!(matches!(decide(not_sent(), None, &job(0), &policy(Odd(soon.clone()))), Outcome::Retried { .. }));
        for (odd, expected) in [
            (soon.clone().queue("q".repeat(129)), "at most 128 bytes"),
            (soon.clone().lock("l".repeat(2_601)), "at most 2600 bytes"),
            (RetryDecision::retry_at(chrono::DateTime::<chrono::Utc>::MAX_UTC), "from 1970 to 9999"),
        ] {
            let Outcome::Failed { error } = decide(not_sent(), None, &job(0), &policy(Odd(odd))) else {
                panic!("the job was retried");
            };
            assert!(error.contains("the mail was not sent") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_strategy_can_check_the_type_of_the_error_and_of_its_sources() {
        let only = |strategy: RetryStrategy| {
            matches!(decide(not_sent(), None, &job(0), &policy(strategy)), Outcome::Retried { .. })
        };
        assert!(only(RetryStrategy::new().retry_on::<NotSent>()));
        assert!(only(RetryStrategy::new().retry_on::<std::io::Error>()));
        assert!(only(RetryStrategy::new().retry_on::<std::fmt::Error>().retry_on::<std::io::Error>()));
        assert!(!only(RetryStrategy::new().retry_on::<std::fmt::Error>()));
        assert!(!only(RetryStrategy::new().retry_if(|error| error.to_string().contains("timed out"))));
    }

    #[test]
    fn a_task_can_request_a_retry_within_the_limit_of_its_strategy() {
        let minute = || failed_with(TaskControl::retry_in(Duration::from_secs(60)).because("busy"));
        let expected = RetryDecision::retry_in(Duration::from_secs(60));
        for (policy, attempts, is_retried) in [
            (never(), 0, true),
            (never(), 1_000, true),
            (policy(2), 1, true),
            (policy(2), 2, false),
            (policy(RetryStrategy::new().retry_if(|_| false)), 0, true),
        ] {
            match decide(minute(), None, &job(attempts), &policy) {
                Outcome::Retried { error, decision } if is_retried => {
                    assert_eq!(decision, expected);
                    assert_eq!(error, "the task requested a retry in 60s: busy");
                }
                Outcome::Failed { .. } if !is_retried => {}
                other => panic!("{other:?} with {policy:?} after {attempts}"),
            }
        }
    }

    #[test]
    fn a_task_can_discard_or_snooze_its_job() {
        #[derive(Debug, thiserror::Error)]
        enum Mixed {
            #[error(transparent)]
            Through(#[from] TaskControl),
            #[error("wrapped")]
            Around(#[source] TaskControl),
        }
        let policy = policy(true);
        let no_more = TaskControl::discard().because("the customer is gone");
        let error = "the task discarded its job: the customer is gone".to_owned();
        let through = Completion::Returned(Err(Mixed::from(no_more).into()));
        assert_eq!(decide(through, None, &job(0), &policy), Outcome::Failed { error });

        let around = Completion::Returned(Err(Mixed::Around(TaskControl::snooze(Duration::from_secs(5))).into()));
        let Outcome::Snoozed { decision, .. } = decide(around, None, &job(0), &policy) else {
            panic!("the job was not snoozed");
        };
        assert_eq!(decision, RetryDecision::retry_in(Duration::from_secs(5)));
    }

    #[test]
    fn an_abort_by_a_user_wins_over_a_retry_and_one_by_shutdown_does_not() {
        let aborted = || Completion::Returned(Err(JobAborted.into()));
        for ended in [aborted, || Completion::Cancelled] {
            let outcome = |reason, policy| decide(ended(), Some(reason), &job(0), &policy);
            assert!(matches!(outcome(AbortReason::UserRequest, policy(true)), Outcome::Aborted { .. }));
            assert!(matches!(outcome(AbortReason::Shutdown, policy(true)), Outcome::Interrupted { .. }));
            assert!(matches!(outcome(AbortReason::Shutdown, never()), Outcome::Aborted { .. }));
            // The shutdown of the worker is not an error of the task.
            let only_io = RetryStrategy::new().retry_on::<std::io::Error>();
            assert!(matches!(outcome(AbortReason::Shutdown, policy(only_io)), Outcome::Interrupted { .. }));
        }
        // A task can abort its own job.
        assert!(matches!(decide(aborted(), None, &job(0), &policy(true)), Outcome::Aborted { .. }));
        // A task that succeeds in spite of the abort request has succeeded.
        let ended = Completion::Returned(Ok(()));
        assert_eq!(decide(ended, Some(AbortReason::UserRequest), &job(0), &never()), Outcome::Succeeded);
    }

    #[test]
    fn a_task_that_exceeds_its_timeout_fails_as_with_any_error() {
        let ended = || Completion::Cancelled;
        let outcome = decide(ended(), Some(AbortReason::Timeout), &job(0), &never());
        assert_eq!(outcome, Outcome::Failed { error: "the task exceeded its timeout of 30s".into() });
        let once = |strategy: RetryStrategy| decide(ended(), Some(AbortReason::Timeout), &job(0), &policy(strategy));
        assert!(matches!(once(RetryStrategy::new().retry_on::<TimedOut>()), Outcome::Retried { .. }));
        assert!(matches!(once(RetryStrategy::new().retry_on::<NotSent>()), Outcome::Failed { .. }));
        // Blocking code notices the abort request and returns an error of its choice.
        let outcome = decide(not_sent(), Some(AbortReason::Timeout), &job(0), &never());
        let error = "the task exceeded its timeout of 30s: the mail was not sent: connection refused".into();
        assert_eq!(outcome, Outcome::Failed { error });
    }

    #[test]
    fn the_stalled_policy_decides_about_a_job_of_a_worker_that_lost_its_lease() {
        let outcome = |stalled, retry: bool, attempts| {
            let policy = TaskPolicy { stalled, ..policy(retry) };
            decide(Completion::Cancelled, Some(AbortReason::WorkerLost), &job(attempts), &policy)
        };
        assert!(matches!(outcome(StalledJobPolicy::Retry, false, 0), Outcome::Interrupted { .. }));
        assert!(matches!(outcome(StalledJobPolicy::Retry, false, 3), Outcome::Failed { .. }));
        assert!(matches!(outcome(StalledJobPolicy::Retry, true, 3), Outcome::Interrupted { .. }));
        assert!(matches!(outcome(StalledJobPolicy::Fail, true, 0), Outcome::Failed { .. }));
    }
}
