//! Deleting old jobs.

use std::time::Duration;

use serde_json::Value;

use super::operation;
use crate::checks::{check_age, check_filter};
use crate::error::Error;
use crate::job::JobStatus;
use crate::queries::manage;
use crate::run::Run;

/// Deletes the jobs that have succeeded, and whose newest event is more than this many hours ago, with their events.
///
/// The answer is how many they were. It is one statement, and deletes everything or nothing; the time that it takes depends
/// on how many jobs there are to delete. To clear away regularly, and in small steps, there are
/// [`Worker::delete_jobs_older_than`](crate::Worker::delete_jobs_older_than) and the task
/// [`RemoveOldJobs`](crate::builtin_tasks::RemoveOldJobs). A job whose row is locked by another transaction is left for
/// the next time.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::Invalid`] for more than 1,000 years.
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::delete_old_jobs;
///
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// let deleted = app.execute(delete_old_jobs(72).include_cancelled(true)).await?;
/// println!("{deleted} jobs of three days ago are gone");
/// # Ok(())
/// # }
/// ```
pub fn delete_old_jobs(nb_hours: u32) -> DeleteOldJobs {
    DeleteOldJobs { cleaning: Cleaning::of_hours(nb_hours) }
}

/// Made by [`delete_old_jobs`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{DeleteOldJobs, delete_old_jobs};
///
/// fn everything_of_last_year() -> DeleteOldJobs {
///     delete_old_jobs(365 * 24).include_failed(true).include_cancelled(true).include_aborted(true)
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct DeleteOldJobs {
    cleaning: Cleaning,
}

operation!(DeleteOldJobs -> u64);

impl DeleteOldJobs {
    /// Only jobs of this queue. Unless set: of all queues.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::delete_old_jobs(72).queue("mails");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.cleaning.queue = Some(queue.into());
        self
    }

    /// Whether to delete jobs that have failed, too. Unless set: false.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::delete_old_jobs(72).include_failed(true);
    /// ```
    pub fn include_failed(mut self, include_failed: bool) -> Self {
        self.cleaning.include(JobStatus::Failed, include_failed);
        self
    }

    /// Whether to delete jobs that were cancelled, too. Unless set: false.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::delete_old_jobs(72).include_cancelled(true);
    /// ```
    pub fn include_cancelled(mut self, include_cancelled: bool) -> Self {
        self.cleaning.include(JobStatus::Cancelled, include_cancelled);
        self
    }

    /// Whether to delete jobs that were aborted, too. Unless set: false.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::delete_old_jobs(72).include_aborted(true);
    /// ```
    pub fn include_aborted(mut self, include_aborted: bool) -> Self {
        self.cleaning.include(JobStatus::Aborted, include_aborted);
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<u64, Error> {
        Ok(self.cleaning.step(None, None, run).await?.deleted)
    }
}

/// How many final events one step looks at: some hundredths of a second, and no longer are the deleted rows locked.
pub(crate) const STEP: i32 = 1_000;

/// How long to leave the database alone after a step that took so long: as long again, so that it has half of its time for
/// others, and the more of it the busier it is.
pub(crate) fn pause_after(step: Duration) -> Duration {
    step.clamp(Duration::from_millis(10), Duration::from_secs(10))
}

/// What is to be cleared away.
#[derive(Debug, Clone)]
pub(crate) struct Cleaning {
    statuses: Vec<JobStatus>,
    older_than: Duration,
    queue: Option<String>,
}

/// What one step has done.
#[derive(Debug)]
pub(crate) struct Cleaned {
    pub(crate) deleted: u64,
    /// Whether it stopped before the end.
    pub(crate) has_more: bool,
    /// Where the next step is to go on.
    pub(crate) stopped_at: Value,
}

impl Cleaning {
    /// Jobs of this status, which is one that jobs end with.
    pub(crate) fn of(status: JobStatus, older_than: Duration) -> Self {
        Self { statuses: vec![status], older_than, queue: None }
    }

    /// Jobs that have succeeded, as Procrastinate counts their age.
    pub(crate) fn of_hours(nb_hours: u32) -> Self {
        Self::of(JobStatus::Succeeded, Duration::from_secs(u64::from(nb_hours) * 3_600))
    }

    pub(crate) fn queue(mut self, queue: Option<String>) -> Self {
        self.queue = queue;
        self
    }

    pub(crate) fn include(&mut self, status: JobStatus, is_included: bool) {
        self.statuses.retain(|other| *other != status);
        if is_included {
            self.statuses.push(status);
        }
    }

    /// Whether this can be asked for.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_age("age of old jobs", self.older_than)?;
        check_filter("queue name", self.queue.as_deref())?;
        self.labels().map(|_| ())
    }

    fn labels(&self) -> Result<Vec<&'static str>, Error> {
        self.statuses.iter().map(label).collect()
    }

    /// Looks at so many final events, oldest first, or at all of them, and deletes the jobs among them that are old. It
    /// goes on where an earlier step stopped.
    pub(crate) async fn step<R: Run>(
        &self,
        max_events: Option<i32>,
        start_after: Option<Value>,
        run: &mut R,
    ) -> Result<Cleaned, Error> {
        self.check()?;
        let statement = manage::DeleteOldJobs {
            statuses: self.labels()?,
            older_than_seconds: self.older_than.as_secs_f64(),
            queue: self.queue.clone(),
            max_events,
            start_after,
        };
        let rows = run.load(statement).await.map_err(|source| Error::database("delete old jobs", source))?;
        let (deleted, has_more, stopped_at) = rows.into_iter().next().unwrap_or_default();
        Ok(Cleaned { deleted: u64::try_from(deleted).unwrap_or_default(), has_more, stopped_at })
    }
}

/// The label of a status that jobs end with.
fn label(status: &JobStatus) -> Result<&'static str, Error> {
    match status {
        JobStatus::Succeeded => Ok("succeeded"),
        JobStatus::Failed => Ok("failed"),
        JobStatus::Cancelled => Ok("cancelled"),
        JobStatus::Aborted => Ok("aborted"),
        other => {
            let rule = "only jobs that succeeded, failed, or were cancelled or aborted can be cleared away";
            Err(Error::invalid("status", other.as_str(), rule))
        }
    }
}
