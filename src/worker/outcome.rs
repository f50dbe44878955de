//! What the end of an attempt means for its job: decided here, in plain code, and stored in one place.

use std::time::Duration;

use crate::job::Job;
use crate::job::interruption::{AbortReason, Interrupted, TimedOut};
use crate::retry::{AttemptError, Rescue, Retry, RetryDecision, StalledJobPolicy};
use crate::task::output::{Control, TaskResult, Verdict};

/// The longest text of an error that is kept, in bytes.
const LONGEST_ERROR: usize = 10_000;

/// The error of a task that panicked, with the panic's message and its place.
#[derive(Debug, thiserror::Error)]
#[error("the task panicked{}: {message}", place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default())]
pub(super) struct Panicked {
    pub(super) message: String,
    pub(super) place: Option<String>,
}

/// How the run of a task came to its end.
#[derive(Debug)]
pub(super) enum Completion {
    /// By itself.
    Returned(TaskResult),
    /// It was told to stop, and was cancelled at an await point.
    Cancelled,
}

/// What a task was declared with that matters at its end.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskPolicy {
    pub(super) retry: Retry,
    pub(super) stalled: StalledJobPolicy,
    pub(super) timeout: Option<Duration>,
}

/// What becomes of a job after an attempt: a closed list. Each error is a text with all its sources.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The task ended well.
    Succeeded,
    /// The task ended with this error, and is not tried again.
    Failed { error: String },
    /// The task ended with this error, and is tried again.
    Retried { error: String, decision: RetryDecision },
    /// The task was told to stop, or stopped itself, and is not tried again.
    Aborted { error: String },
    /// The task was stopped because of what happened to the worker, and is tried again.
    Interrupted { error: String, decision: RetryDecision },
    /// The task wants to run again later, without having used up an attempt.
    Snoozed { error: String, decision: RetryDecision },
    /// The worker stops before the task could start.
    NotStarted,
}

impl Outcome {
    /// What became of the job, for the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Retried { .. } => "failed, to be tried again",
            Self::Aborted { .. } => "been aborted",
            Self::Interrupted { .. } => "been interrupted, to be tried again",
            Self::Snoozed { .. } => "asked to run again later",
            Self::NotStarted => "not been started",
        }
    }

    /// One word for it, for metrics.
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

    /// What is to be kept beside the job: why an attempt that counts did not come to a good end.
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

/// The outcome of an attempt that ended so, after it was told to stop, if it was.
pub(super) fn decide(ended: Completion, told_to_stop: Option<AbortReason>, job: &Job, policy: &TaskPolicy) -> Outcome {
    let error = match ended {
        Completion::Returned(Ok(())) => return Outcome::Succeeded,
        Completion::Cancelled => return stopped(told_to_stop, None, job, policy),
        Completion::Returned(Err(error)) => error,
    };
    let text = with_sources(&*error);
    match (Control::find(&*error).map(|answer| &answer.verdict), told_to_stop) {
        (Some(Verdict::Aborted), _) | (_, Some(AbortReason::Timeout)) => stopped(told_to_stop, Some(text), job, policy),
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

/// A task that did not come to its own end. `text` is what it had to say about that.
fn stopped(reason: Option<AbortReason>, text: Option<String>, job: &Job, policy: &TaskPolicy) -> Outcome {
    let because = |cause: &AttemptError| match &text {
        Some(text) => limited(format!("{cause}: {text}")),
        None => cause.to_string(),
    };
    match reason {
        None => Outcome::Aborted { error: text.unwrap_or_default() },
        Some(AbortReason::UserRequest) => {
            Outcome::Aborted { error: text.unwrap_or_else(|| "somebody asked to abort the job".to_owned()) }
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

/// A failure, unless there is a decision to try again that the database can take.
fn retried(error: String, decision: Option<RetryDecision>) -> Outcome {
    let Some(decision) = decision else { return Outcome::Failed { error } };
    match decision.check() {
        Ok(()) => Outcome::Retried { error, decision },
        Err(refusal) => Outcome::Failed { error: format!("{error}; and it cannot be retried as decided: {refusal}") },
    }
}

/// An error and everything that it says caused it, in one line.
fn with_sources(error: &AttemptError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source.filter(|source| !source.downcast_ref().is_some_and(Control::is_silent)) {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    limited(text)
}

/// A text that the database can keep: it has no NUL characters, and is not too long.
fn limited(mut text: String) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{FFFD}");
    }
    if text.len() > LONGEST_ERROR {
        let mut end = LONGEST_ERROR;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let missing = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("… ({missing} bytes more)"));
    }
    text
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

    fn answered(answer: TaskControl) -> Completion {
        Completion::Returned(Err(answer.into()))
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
    fn a_long_error_is_cut_and_says_so_and_what_cannot_be_stored_is_replaced() {
        let error = format!("a\0{}", "ä".repeat(LONGEST_ERROR));
        let Outcome::Failed { error } = decide(Completion::Returned(Err(error.into())), None, &job(0), &never()) else {
            panic!("it did not fail");
        };
        assert!(error.starts_with("a\u{FFFD}ä") && error.len() < LONGEST_ERROR + 30, "{}", error.len());
        assert!(error.ends_with("ä… (10004 bytes more)"), "{}", &error[error.len() - 40..]);
    }

    #[test]
    fn a_failed_job_is_retried_as_often_as_its_strategy_says() {
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
    fn a_decision_that_the_database_would_refuse_fails_the_job_and_says_why() {
        struct Odd(RetryDecision);
        impl RetryPolicy for Odd {
            fn decide(&self, _: &AttemptError, _: &Job) -> Option<RetryDecision> {
                Some(self.0.clone())
            }
        }
        let soon = RetryDecision::retry_in(Duration::MAX);
        assert!(matches!(decide(not_sent(), None, &job(0), &policy(Odd(soon.clone()))), Outcome::Retried { .. }));
        for (odd, expected) in [
            (soon.clone().queue("q".repeat(129)), "and 128 are allowed"),
            (soon.clone().lock("l".repeat(2_601)), "and 2600 are allowed"),
            (RetryDecision::retry_at(chrono::DateTime::<chrono::Utc>::MAX_UTC), "from 1970 to 9999"),
        ] {
            let Outcome::Failed { error } = decide(not_sent(), None, &job(0), &policy(Odd(odd))) else {
                panic!("it is retried, and should not be");
            };
            assert!(error.contains("the mail was not sent") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_strategy_can_look_at_the_type_of_the_error_and_of_its_sources() {
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
    fn a_task_says_itself_when_it_is_tried_again_within_the_limit_of_its_strategy() {
        let minute = || answered(TaskControl::retry_in(Duration::from_secs(60)).because("busy"));
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
                    assert_eq!(error, "the task asks for another attempt in 60s: busy");
                }
                Outcome::Failed { .. } if !is_retried => {}
                other => panic!("{other:?} with {policy:?} after {attempts}"),
            }
        }
    }

    #[test]
    fn a_task_says_itself_that_it_is_not_tried_again_or_later_without_using_up_an_attempt() {
        #[derive(Debug, thiserror::Error)]
        enum Mixed {
            #[error(transparent)]
            Through(#[from] TaskControl),
            #[error("wrapped")]
            Around(#[source] TaskControl),
        }
        let policy = policy(true);
        let no_more = TaskControl::discard().because("the customer is gone");
        let error = "the task asks for no other attempt: the customer is gone".to_owned();
        let through = Completion::Returned(Err(Mixed::from(no_more).into()));
        assert_eq!(decide(through, None, &job(0), &policy), Outcome::Failed { error });

        let around = Completion::Returned(Err(Mixed::Around(TaskControl::snooze(Duration::from_secs(5))).into()));
        let Outcome::Snoozed { decision, .. } = decide(around, None, &job(0), &policy) else {
            panic!("it was not snoozed");
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
            // What happened to the worker is not the task's error.
            let only_io = RetryStrategy::new().retry_on::<std::io::Error>();
            assert!(matches!(outcome(AbortReason::Shutdown, policy(only_io)), Outcome::Interrupted { .. }));
        }
        // A task that stops itself.
        assert!(matches!(decide(aborted(), None, &job(0), &policy(true)), Outcome::Aborted { .. }));
        // A task that comes to its end all the same has done so.
        let ended = Completion::Returned(Ok(()));
        assert_eq!(decide(ended, Some(AbortReason::UserRequest), &job(0), &never()), Outcome::Succeeded);
    }

    #[test]
    fn a_task_that_took_too_long_fails_as_with_any_error() {
        let ended = || Completion::Cancelled;
        let outcome = decide(ended(), Some(AbortReason::Timeout), &job(0), &never());
        assert_eq!(outcome, Outcome::Failed { error: "the task exceeded its timeout of 30s".into() });
        let once = |strategy: RetryStrategy| decide(ended(), Some(AbortReason::Timeout), &job(0), &policy(strategy));
        assert!(matches!(once(RetryStrategy::new().retry_on::<TimedOut>()), Outcome::Retried { .. }));
        assert!(matches!(once(RetryStrategy::new().retry_on::<NotSent>()), Outcome::Failed { .. }));
        // Code that blocks its thread notices, and says what it likes.
        let outcome = decide(not_sent(), Some(AbortReason::Timeout), &job(0), &never());
        let error = "the task exceeded its timeout of 30s: the mail was not sent: connection refused".into();
        assert_eq!(outcome, Outcome::Failed { error });
    }

    #[test]
    fn a_job_of_a_worker_that_lost_touch_ends_as_its_policy_says() {
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
