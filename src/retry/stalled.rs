//! What becomes of a job whose worker died while it ran.

use crate::job::Job;
use crate::job::interruption::Interrupted;
use crate::retry::{Retry, RetryDecision};

/// How often a job whose task has no limit of its own is taken up again after its worker died.
const MOST_RESCUES: i32 = 3;

/// What becomes of a job whose worker died while it ran: `#[task(stalled = "…")]`, or [`Task::stalled`](crate::Task::stalled).
///
/// A worker counts as dead when it has not said for its `stalled_worker_timeout` that it is alive. Any worker that knows
/// the task finds the job. The attempt that died counts.
///
/// # Example
///
/// ```
/// use procrastinate::task;
///
/// /// Money is not to be sent twice: somebody has to look.
/// #[task(stalled = "fail")]
/// async fn transfer(account: i64, cents: i64) -> Result<(), String> {
///     println!("{cents} to {account}");
///     Ok(())
/// }
/// # let job = transfer(1, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StalledJobPolicy {
    /// It is tried again: as the task's [`retry`](crate::Task::retry) says, or, where the task has none, at once and up to
    /// three times. A job with no attempt left fails.
    #[default]
    Retry,
    /// It fails.
    Fail,
    /// It is left as it is, for the application to find: see `get_stalled_jobs`.
    Leave,
}

/// What is to be done with a job whose attempt was interrupted by what happened to its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rescue {
    Retry(RetryDecision),
    Fail,
}

impl StalledJobPolicy {
    /// What is to be done with the job; `None`: nothing.
    pub(crate) fn decide(self, cause: Interrupted, job: &Job, retry: &Retry) -> Option<Rescue> {
        match self {
            Self::Leave => None,
            Self::Fail => Some(Rescue::Fail),
            Self::Retry if retry.is_never() => {
                let again = job.attempts < MOST_RESCUES;
                Some(if again { Rescue::Retry(RetryDecision::at_once()) } else { Rescue::Fail })
            }
            Self::Retry => {
                let decision = retry.decide(&cause, job).filter(|decision| decision.check().is_ok());
                Some(decision.map_or(Rescue::Fail, Rescue::Retry))
            }
        }
    }
}
