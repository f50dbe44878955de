//! Operations that change the status of a job.

use chrono::{DateTime, Utc};

use super::operation;
use crate::database::connection::run::Run;
use crate::database::statements::manage::{CancelJobQuery, FinishJobQuery, RetryJobQuery};
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::retry::RetryDecision;

/// Cancels a pending job, so that no worker starts it.
///
/// The operation returns whether the job was cancelled. It returns `false` for a job that has finished or does not
/// exist. It also returns `false` for a running job, unless [`abort`](CancelJob::abort) is set.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::cancel_job;
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// if !cancel_job(7).execute_blocking(connection)? {
///     println!("job 7 is cancelled");
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "cancel_job_by_id")]
pub fn cancel_job(id: impl Into<JobId>) -> CancelJob {
    CancelJob { job_id: id.into(), abort: false, delete_job: false }
}

/// The operation of [`cancel_job`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{CancelJob, cancel_job};
///
/// fn stop(id: i64) -> CancelJob {
///     cancel_job(id).abort(true)
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct CancelJob {
    job_id: JobId,
    abort: bool,
    delete_job: bool,
}

operation!(CancelJob -> bool);

impl CancelJob {
    /// Sets whether to request an abort if the job is running. Default: false.
    ///
    /// The job stays `doing` until its worker has stopped it.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::cancel_job(7).abort(true);
    /// ```
    pub fn abort(mut self, abort: bool) -> Self {
        self.abort = abort;
        self
    }

    /// Sets whether to delete a pending job and its events instead of keeping it as `cancelled`. Default: false.
    ///
    /// A running job is not deleted.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::cancel_job(7).delete_job(true);
    /// ```
    pub fn delete_job(mut self, delete_job: bool) -> Self {
        self.delete_job = delete_job;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let Self { job_id, abort, delete_job } = self;
        let rows = run.load(CancelJobQuery { job_id, abort, delete_job }).await?;
        Ok(rows.into_iter().flatten().next().is_some())
    }
}

/// Finishes a running or pending job as `succeeded`, `failed` or `aborted`.
///
/// Use it in a custom worker, or for a job whose worker is gone. If a worker of this crate is running the job, it
/// notices that it has lost the job. Finishing a pending job does not count an attempt.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and:
///
/// - [`Error::Invalid`] for another status
/// - [`Error::JobNotFound`] if there is no such job
/// - [`Error::WrongStatus`] if the job has finished already
///
/// # Example
///
/// ```no_run
/// use procrastinate::{JobStatus, job_manager};
///
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// job_manager::finish_job(7, JobStatus::Failed).execute(connection).await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "finish_job_by_id")]
pub fn finish_job(id: impl Into<JobId>, status: JobStatus) -> FinishJob {
    FinishJob { job_id: id.into(), status, delete_job: false }
}

/// The operation of [`finish_job`].
///
/// # Example
///
/// ```
/// use procrastinate::JobStatus;
/// use procrastinate::job_manager::{FinishJob, finish_job};
///
/// fn done(id: i64) -> FinishJob {
///     finish_job(id, JobStatus::Succeeded).delete_job(true)
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct FinishJob {
    job_id: JobId,
    status: JobStatus,
    delete_job: bool,
}

operation!(FinishJob -> ());

impl FinishJob {
    /// Sets whether to delete the job and its events instead of keeping it. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobStatus, job_manager};
    ///
    /// let operation = job_manager::finish_job(7, JobStatus::Succeeded).delete_job(true);
    /// ```
    pub fn delete_job(mut self, delete_job: bool) -> Self {
        self.delete_job = delete_job;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { job_id, status, delete_job } = self;
        let statement = FinishJobQuery { job_id, end_status: end_status(&status)?, delete_job };
        let rows = run.load(statement).await?;
        match rows.into_iter().next() {
            Some((true, _)) => Ok(()),
            Some((false, Some(status))) => {
                Err(Error::WrongStatus { action: "finish", job_id, status, allowed: "todo or doing" })
            }
            Some((false, None)) | None => Err(Error::JobNotFound { action: "finish", job_id }),
        }
    }
}

fn end_status(status: &JobStatus) -> Result<&'static str, Error> {
    match status {
        JobStatus::Succeeded => Ok("succeeded"),
        JobStatus::Failed => Ok("failed"),
        JobStatus::Aborted => Ok("aborted"),
        other => Err(Error::invalid("status", other.as_str(), "must be succeeded, failed or aborted")),
    }
}

/// Retries a failed job, or a running job whose worker has died. The retry counts as another attempt.
///
/// The operation returns the job's new status, which is `todo`. A running job with an abort request becomes `failed`
/// instead, because the request wins.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and:
///
/// - [`Error::JobNotFound`] if there is no such job
/// - [`Error::WrongStatus`] if the job is neither failed nor running
/// - [`Error::QueueingLockTaken`] if another pending job holds its queueing lock
///
/// # Example
///
/// ```no_run
/// use procrastinate::{JobStatus, job_manager};
///
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// let status = job_manager::retry_job(7).queue("slow").priority(-1).execute(connection).await?;
/// assert_eq!(status, JobStatus::Todo);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "retry_job_by_id")]
pub fn retry_job(id: impl Into<JobId>) -> RetryJob {
    RetryJob { job_id: id.into(), decision: RetryDecision::retry_in(std::time::Duration::ZERO) }
}

/// The operation of [`retry_job`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{RetryJob, retry_job};
///
/// fn quietly(id: i64) -> RetryJob {
///     retry_job(id).queue("slow")
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct RetryJob {
    job_id: JobId,
    decision: RetryDecision,
}

operation!(RetryJob -> JobStatus);

impl RetryJob {
    /// Sets the earliest time of the retry, in the years from 1970 to 9999. Default: immediately.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::retry_job(7).retry_at("2030-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    pub fn retry_at(mut self, time: DateTime<Utc>) -> Self {
        let RetryDecision { priority, queue, lock, .. } = self.decision;
        self.decision = RetryDecision { priority, queue, lock, ..RetryDecision::retry_at(time) };
        self
    }

    /// Sets the job's priority from now on. Default: unchanged.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::retry_job(7).priority(10);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.decision = self.decision.priority(priority);
        self
    }

    /// Moves the job to this queue. Default: unchanged.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::retry_job(7).queue("slow");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.decision = self.decision.queue(queue);
        self
    }

    /// Sets the job's lock from now on. Default: unchanged.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::retry_job(7).lock("one-at-a-time");
    /// ```
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.decision = self.decision.lock(lock);
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<JobStatus, Error> {
        self.decision.check()?;
        let job_id = self.job_id;
        let retry_at = self.decision.time();
        let RetryDecision { priority, queue, lock, .. } = self.decision;
        let rows = run.load(RetryJobQuery { job_id, retry_at, priority, queue, lock }).await?;
        match rows.into_iter().next() {
            Some((_, Some(new_status), _, _)) => Ok(new_status),
            Some((_, None, Some(queueing_lock), task_name)) => {
                Err(Error::QueueingLockTaken { job_id, task_name: task_name.unwrap_or_default(), queueing_lock })
            }
            Some((Some(status), None, None, _)) => {
                Err(Error::WrongStatus { action: "retry", job_id, status, allowed: "failed or doing" })
            }
            Some((None, None, None, _)) | None => Err(Error::JobNotFound { action: "retry", job_id }),
        }
    }
}
