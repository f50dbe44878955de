//! Why a job can be told to stop before it has come to its end.

use std::time::Duration;

/// Why a job is to stop.
///
/// An async task is cancelled at its next await point; code that blocks its thread sees
/// [`JobContext::should_abort`](crate::JobContext::should_abort).
///
/// # Example
///
/// ```
/// use procrastinate::{AbortReason, JobAborted, JobContext, task};
///
/// #[task(pass_context)]
/// fn resize_all(context: JobContext, pictures: Vec<i64>) -> Result<(), JobAborted> {
///     for picture in pictures {
///         if context.should_abort() {
///             println!("stopping before picture {picture}: {:?}", context.abort_reason());
///             return Err(JobAborted);
///         }
///     }
///     Ok(())
/// }
/// # let job = resize_all(vec![1, 2]);
/// # assert_ne!(AbortReason::UserRequest, AbortReason::Shutdown);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortReason {
    /// Somebody asked for it. The job ends as aborted, and is not tried again.
    UserRequest,
    /// The worker is shutting down, and the time that it gave its jobs is over. The job is tried again if its task's
    /// [`retry`](crate::Task::retry) says so, else it ends as aborted.
    Shutdown,
    /// The job took longer than its timeout. It fails with [`TimedOut`], or is tried again.
    Timeout,
    /// The worker could not say in time that it is alive, so that others may take it for dead and run the job. It ends as
    /// its task's [`stalled`](crate::Task::stalled) says, unless somebody else has it already.
    WorkerLost,
}

/// The error of an attempt that took longer than its timeout.
///
/// # Example
///
/// ```
/// use procrastinate::TimedOut;
/// use procrastinate::retry::RetryStrategy;
///
/// let strategy = RetryStrategy::new().max_attempts(3).retry_on::<TimedOut>();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task took longer than its timeout of {timeout:?}")]
#[non_exhaustive]
pub struct TimedOut {
    /// How long it might have taken.
    pub timeout: Duration,
}

/// The error of an attempt that was interrupted by what happened to its worker. [`RetryStrategy`](crate::retry::RetryStrategy)
/// does not ask its filters about it: it says nothing about the task.
///
/// # Example
///
/// ```
/// use procrastinate::Interrupted;
///
/// assert_eq!(Interrupted::WorkerDied.to_string(), "the worker that ran the job died");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Interrupted {
    /// [`AbortReason::Shutdown`].
    #[error("the worker was shut down before the task had ended")]
    Shutdown,
    /// [`AbortReason::WorkerLost`].
    #[error(
        "the worker could not reach the database for so long that others may have taken it for dead, and stopped the task"
    )]
    WorkerLost,
    /// The worker was killed, or lost its machine or its network.
    #[error("the worker that ran the job died")]
    WorkerDied,
}
