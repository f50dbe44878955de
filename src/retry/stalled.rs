//! What happens to a job whose worker died while running it.

use crate::job::Job;
use crate::job::interruption::Interrupted;
use crate::retry::{Retry, RetryDecision};

/// The maximum number of rescues for a task without a retry limit.
const MOST_RESCUES: i32 = 3;

/// What happens to a job whose worker died while running it.
///
/// Default: [`Retry`](Self::Retry). Set it with `#[task(stalled = "…")]` or [`Task::stalled`](crate::Task::stalled).
///
/// A worker is considered stalled when it has sent no heartbeat for its `stalled_worker_timeout`. Any worker that knows
/// the task can then rescue the job. The interrupted attempt counts.
///
/// # Example
///
/// ```
/// use procrastinate::task;
///
/// /// A transfer must not run twice, so a person decides what to do.
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
    /// Retries the job by the task's [`retry`](crate::Task::retry). A task without one is retried immediately, up to
    /// three times. The job fails if no attempt is left.
    #[default]
    Retry,
    /// Lets the job fail.
    Fail,
    /// Leaves the job as it is. Find it with `get_stalled_jobs`.
    Leave,
}

/// The decision about a job whose worker died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rescue {
    Retry(RetryDecision),
    Fail,
}

impl StalledJobPolicy {
    /// Decides what to do with the job. `None` means nothing.
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
