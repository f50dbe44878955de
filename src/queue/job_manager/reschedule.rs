//! Operations that reschedule or delete a job.

use chrono::{DateTime, Utc};

use super::operation;
use crate::database::connection::run::Run;
use crate::database::statements::manage::{DeleteJobQuery, RescheduleJobQuery};
use crate::error::Error;
use crate::job::JobId;
use crate::retry::RetryDecision;

/// Sets when a pending job may start. Default: immediately.
///
/// A running worker finds the job when it polls next, by default within five seconds.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), [`Error::JobNotFound`], and [`Error::WrongStatus`] for a job that is
/// not pending.
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::reschedule_job;
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), Box<dyn std::error::Error>> {
/// reschedule_job(7).schedule_at("2030-01-01T08:00:00Z".parse()?).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn reschedule_job(id: impl Into<JobId>) -> RescheduleJob {
    RescheduleJob { job_id: id.into(), schedule_at: None }
}

/// The operation of [`reschedule_job`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{RescheduleJob, reschedule_job};
///
/// fn at_once(id: i64) -> RescheduleJob {
///     reschedule_job(id)
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct RescheduleJob {
    job_id: JobId,
    schedule_at: Option<DateTime<Utc>>,
}

operation!(RescheduleJob -> ());

impl RescheduleJob {
    /// Sets the earliest start time, in the years from 1970 to 9999. Default: immediately.
    ///
    /// # Example
    ///
    /// See [`reschedule_job`].
    pub fn schedule_at(mut self, time: DateTime<Utc>) -> Self {
        self.schedule_at = Some(time);
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { job_id, schedule_at } = self;
        if let Some(time) = schedule_at {
            RetryDecision::retry_at(time).check()?;
        }
        let rows = run.load(RescheduleJobQuery { job_id, schedule_at }).await?;
        match rows.into_iter().next() {
            Some((_, true)) => Ok(()),
            Some((status, false)) => Err(Error::WrongStatus { action: "reschedule", job_id, status, allowed: "todo" }),
            None => Err(Error::JobNotFound { action: "reschedule", job_id }),
        }
    }
}

/// Deletes a job with its events and errors. A running job is not deleted: [abort](super::cancel_job) it first.
///
/// To delete old jobs regularly, use [`Worker::delete_jobs_older_than`](crate::Worker::delete_jobs_older_than).
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), [`Error::JobNotFound`], and [`Error::WrongStatus`] for a running
/// job.
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::delete_job(7).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn delete_job(id: impl Into<JobId>) -> DeleteJob {
    DeleteJob { job_id: id.into() }
}

/// The operation of [`delete_job`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{DeleteJob, delete_job};
///
/// let operation: DeleteJob = delete_job(7);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct DeleteJob {
    job_id: JobId,
}

operation!(DeleteJob -> ());

impl DeleteJob {
    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { job_id } = self;
        let rows = run.load(DeleteJobQuery { job_id }).await?;
        match rows.into_iter().next() {
            Some((_, true)) => Ok(()),
            Some((status, false)) => {
                Err(Error::WrongStatus { action: "delete", job_id, status, allowed: "pending or finished" })
            }
            None => Err(Error::JobNotFound { action: "delete", job_id }),
        }
    }
}
