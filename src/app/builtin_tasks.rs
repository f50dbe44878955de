//! Tasks that every application has, under Procrastinate's names.

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize};

use crate::app::registry::RegisteredTask;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::defer::options::JobOptions;
use crate::queue::retention::{RetentionRule, SWEEP_SIZE, pause_after};
use crate::task::Task;
use crate::task::context::JobContext;

/// The name of [`RemoveOldJobs`] before Procrastinate gave it a namespace. Pending jobs can still carry it.
const OLD_NAME: &str = "procrastinate.builtin_tasks.remove_old_jobs";

/// Returns the built-in tasks.
pub(crate) fn builtin_tasks() -> [RegisteredTask; 1] {
    [RegisteredTask::of::<RemoveOldJobs>()]
}

/// A built-in task that deletes old jobs and their events in small steps, each in its own transaction.
///
/// It is Procrastinate's `remove_old_jobs`. Default queue: `builtin`. Programs in both languages can defer it and run
/// it. Workers of this crate can also delete old jobs without it; see
/// [`Worker::delete_jobs_older_than`](crate::Worker::delete_jobs_older_than).
///
/// # Example
///
/// ```
/// use procrastinate::Task;
/// use procrastinate::builtin_tasks::RemoveOldJobs;
///
/// let job = RemoveOldJobs::new(72).remove_failed(true).job();
/// assert_eq!(job.task_name(), "builtin:procrastinate.builtin_tasks.remove_old_jobs");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "remove_old_jobs")]
pub struct RemoveOldJobs {
    max_hours: u32,
    #[serde(default)]
    queue: Option<String>,
    #[serde(default, deserialize_with = "false_if_null")]
    remove_failed: bool,
    #[serde(default, deserialize_with = "false_if_null")]
    remove_cancelled: bool,
    #[serde(default, deserialize_with = "false_if_null")]
    remove_aborted: bool,
}

impl RemoveOldJobs {
    /// Deletes succeeded jobs whose latest event is more than `max_hours` hours ago.
    ///
    /// # Example
    ///
    /// ```
    /// let task = procrastinate::builtin_tasks::RemoveOldJobs::new(72);
    /// ```
    #[must_use]
    pub fn new(max_hours: u32) -> Self {
        Self { max_hours, queue: None, remove_failed: false, remove_cancelled: false, remove_aborted: false }
    }

    /// Deletes only jobs of this queue. Default: all queues.
    ///
    /// # Example
    ///
    /// ```
    /// let task = procrastinate::builtin_tasks::RemoveOldJobs::new(72).queue("mails");
    /// ```
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Whether to delete failed jobs too. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// let task = procrastinate::builtin_tasks::RemoveOldJobs::new(72).remove_failed(true);
    /// ```
    #[must_use]
    pub fn remove_failed(mut self, remove_failed: bool) -> Self {
        self.remove_failed = remove_failed;
        self
    }

    /// Whether to delete cancelled jobs too. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// let task = procrastinate::builtin_tasks::RemoveOldJobs::new(72).remove_cancelled(true);
    /// ```
    #[must_use]
    pub fn remove_cancelled(mut self, remove_cancelled: bool) -> Self {
        self.remove_cancelled = remove_cancelled;
        self
    }

    /// Whether to delete aborted jobs too. Default: false.
    ///
    /// # Example
    ///
    /// ```
    /// let task = procrastinate::builtin_tasks::RemoveOldJobs::new(72).remove_aborted(true);
    /// ```
    #[must_use]
    pub fn remove_aborted(mut self, remove_aborted: bool) -> Self {
        self.remove_aborted = remove_aborted;
        self
    }

    fn rule(self) -> RetentionRule {
        let mut rule = RetentionRule::of(JobStatus::Succeeded, Duration::from_secs(u64::from(self.max_hours) * 3_600))
            .queue(self.queue);
        rule.include(JobStatus::Failed, self.remove_failed);
        rule.include(JobStatus::Cancelled, self.remove_cancelled);
        rule.include(JobStatus::Aborted, self.remove_aborted);
        rule
    }
}

impl Task for RemoveOldJobs {
    const NAME: &'static str = "builtin:procrastinate.builtin_tasks.remove_old_jobs";
    type Output = Result<(), Error>;

    fn aliases() -> &'static [&'static str] {
        &[OLD_NAME]
    }

    fn defaults() -> JobOptions {
        JobOptions::new().queue("builtin")
    }

    async fn run(self, context: JobContext) -> Result<(), Error> {
        let rule = self.rule();
        let mut deleted = 0;
        let mut start_after = None;
        loop {
            // Do not hold the connection during the pause, because other code may need it.
            let mut connection = context.job_manager().connector().get("delete old jobs").await?;
            let began_at = Instant::now();
            let swept = rule.step(Some(SWEEP_SIZE), start_after, &mut connection).await?;
            drop(connection);
            deleted += swept.deleted;
            start_after = Some(swept.stopped_at);
            if !swept.has_more {
                tracing::info!(action = "delete_old_jobs", deleted, "deleted {deleted} old jobs");
                return Ok(());
            }
            tokio::time::sleep(pause_after(began_at.elapsed())).await;
        }
    }
}

/// Python may pass `None` for `False`.
fn false_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
