//! Deletion of old jobs in one statement.

use std::time::Duration;

use super::operation;
use crate::database::connection::run::Run;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::RetentionRule;

/// Deletes succeeded jobs whose newest event is older than `max_age`, with their events.
///
/// The operation returns the number of deleted jobs. It is one statement, so it deletes everything or nothing, and
/// takes longer the more jobs there are. Jobs whose rows are locked by other transactions are skipped.
///
/// To delete old jobs regularly and in small steps, use
/// [`Worker::delete_jobs_older_than`](crate::Worker::delete_jobs_older_than) or the task
/// [`RemoveOldJobs`](crate::builtin_tasks::RemoveOldJobs).
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::Invalid`] for an age over 1,000 years.
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::delete_old_jobs;
///
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// let max_age = std::time::Duration::from_secs(72 * 3_600);
/// let deleted = app.perform(delete_old_jobs(max_age).include_cancelled(true)).await?;
/// println!("{deleted} jobs of three days ago are gone");
/// # Ok(())
/// # }
/// ```
pub fn delete_old_jobs(max_age: Duration) -> DeleteOldJobs {
    DeleteOldJobs { rule: RetentionRule::of(JobStatus::Succeeded, max_age) }
}

/// The operation of [`delete_old_jobs`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{DeleteOldJobs, delete_old_jobs};
///
/// const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);
///
/// fn everything_of_last_year() -> DeleteOldJobs {
///     delete_old_jobs(365 * DAY).include_failed(true).include_cancelled(true).include_aborted(true)
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct DeleteOldJobs {
    rule: RetentionRule,
}

operation!(DeleteOldJobs -> u64);

impl DeleteOldJobs {
    /// Deletes only jobs of this queue. Default: all queues.
    ///
    /// # Example
    ///
    /// ```
    /// # let max_age = std::time::Duration::from_secs(3_600);
    /// let operation = procrastinate::job_manager::delete_old_jobs(max_age).queue("mails");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.rule.queue = Some(queue.into());
        self
    }

    /// Sets whether to delete failed jobs too. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// # let max_age = std::time::Duration::from_secs(3_600);
    /// let operation = procrastinate::job_manager::delete_old_jobs(max_age).include_failed(true);
    /// ```
    pub fn include_failed(mut self, include_failed: bool) -> Self {
        self.rule.include(JobStatus::Failed, include_failed);
        self
    }

    /// Sets whether to delete cancelled jobs too. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// # let max_age = std::time::Duration::from_secs(3_600);
    /// let operation = procrastinate::job_manager::delete_old_jobs(max_age).include_cancelled(true);
    /// ```
    pub fn include_cancelled(mut self, include_cancelled: bool) -> Self {
        self.rule.include(JobStatus::Cancelled, include_cancelled);
        self
    }

    /// Sets whether to delete aborted jobs too. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// # let max_age = std::time::Duration::from_secs(3_600);
    /// let operation = procrastinate::job_manager::delete_old_jobs(max_age).include_aborted(true);
    /// ```
    pub fn include_aborted(mut self, include_aborted: bool) -> Self {
        self.rule.include(JobStatus::Aborted, include_aborted);
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<u64, Error> {
        Ok(self.rule.step(None, None, run).await?.deleted)
    }
}
