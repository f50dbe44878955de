//! Reasons to stop a job before it has finished.

use std::time::Duration;

/// The reason why a job is asked to stop.
///
/// An async task is cancelled at its next await point. Blocking code has to check
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
    /// Someone requested it. The job ends as aborted and is not retried.
    UserRequest,
    /// The worker is shutting down and its grace period is over. The job is retried if the task's
    /// [`retry`](crate::Task::retry) allows it. Otherwise it ends as aborted.
    Shutdown,
    /// The job exceeded its timeout. It fails with [`TimedOut`], or is retried.
    Timeout,
    /// The worker could not send a heartbeat in time, so another worker may consider it stalled and run the job. The
    /// task's [`stalled`](crate::Task::stalled) policy decides, unless another worker has already taken the job.
    WorkerLost,
}

/// The error of an attempt that exceeded its timeout.
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
#[error("the task exceeded its timeout of {timeout:?}")]
#[non_exhaustive]
pub struct TimedOut {
    /// The limit that the attempt exceeded.
    pub timeout: Duration,
}

/// The error of an attempt that was interrupted because its worker stopped.
///
/// The filters of a [`RetryStrategy`](crate::retry::RetryStrategy) ignore it, because it says nothing about the task.
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
    /// See [`AbortReason::Shutdown`].
    #[error("the worker was shut down before the task finished")]
    Shutdown,
    /// See [`AbortReason::WorkerLost`].
    #[error("the worker aborted the task because it could not reach the database in time to send a heartbeat")]
    WorkerLost,
    /// The worker was killed, or its machine or network failed.
    #[error("the worker that ran the job died")]
    WorkerDied,
}
