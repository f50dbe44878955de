//! Operations that change how a job stands.

use chrono::{DateTime, Utc};

use super::operation;
use crate::database::connection::run::Run;
use crate::database::statements::manage::{CancelJobQuery, FinishJobQuery, RetryJobQuery};
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::retry::RetryDecision;

/// Calls off a job: one that waits becomes `cancelled`, and no worker starts it any more.
///
/// The answer is whether there was anything to call off. It is `false` for a job that has ended, one that runs unless
/// [`abort`](CancelJob::abort) is set, and one that does not exist.
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
///     println!("job 7 does not wait any more");
/// }
/// # Ok(())
/// # }
/// ```
pub fn cancel_job(id: impl Into<JobId>) -> CancelJob {
    CancelJob { job_id: id.into(), abort: false, delete_job: false }
}

/// Made by [`cancel_job`].
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
    /// Whether to ask for the end of a job that runs. Unless set: false. It is a request: the job stays `doing` until its
    /// worker has stopped it.
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

    /// Whether to delete a job that waits, and its events, instead of keeping it as `cancelled`. Unless set: false. A
    /// job that runs is not deleted.
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

/// Ends a job that runs or waits: as `succeeded`, `failed` or `aborted`.
///
/// It is for workers of one's own and for jobs whose worker is gone. A worker of this crate that runs the job finds that
/// it is not its own any more. A job that waited counts no attempt.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), [`Error::Invalid`] for another status, [`Error::JobNotFound`], and
/// [`Error::WrongStatus`] for a job that has ended.
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
pub fn finish_job(id: impl Into<JobId>, status: JobStatus) -> FinishJob {
    FinishJob { job_id: id.into(), status, delete_job: false }
}

/// Made by [`finish_job`] and [`finish_job`].
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
    /// Whether to delete the job, and its events, instead of keeping it with its status. Unless set: false.
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
        other => Err(Error::invalid("status", other.as_str(), "a job ends as succeeded, failed or aborted")),
    }
}

/// Puts a job back to wait that has failed, or that is doing, for instance because its worker died. One more attempt is
/// counted.
///
/// The answer is the status that the job has now: `todo`; or `failed` for a job that was doing and that somebody had asked
/// to abort, because that request wins.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), [`Error::JobNotFound`], [`Error::WrongStatus`] for a job that neither
/// has failed nor is doing, and [`Error::QueueingLockTaken`] when another job that waits holds its queueing lock.
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
pub fn retry_job(id: impl Into<JobId>) -> RetryJob {
    RetryJob { job_id: id.into(), decision: RetryDecision::retry_in(std::time::Duration::ZERO) }
}

/// Made by [`retry_job`] and [`retry_job`].
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
    /// Not before this time, which must be in the years from 1970 to 9999. Unless set: at once.
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

    /// With this priority from now on. Unless set: the one it has.
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

    /// In this queue from now on. Unless set: the one it is in.
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

    /// With this lock from now on. Unless set: the one it has, if any.
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
