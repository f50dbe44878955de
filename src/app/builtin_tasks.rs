//! The tasks that every application knows without being told, under the names that Procrastinate gave them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize};

use crate::app::registry::RegisteredTask;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::defer::options::JobOptions;
use crate::queue::retention::{RetentionRule, SWEEP_SIZE, pause_after};
use crate::task::Task;
use crate::task::context::JobContext;

/// The name under which [`RemoveOldJobs`] was known before it had a namespace; jobs that wait may still carry it.
const OLD_NAME: &str = "procrastinate.builtin_tasks.remove_old_jobs";

/// The built-in tasks.
pub(crate) fn builtin_tasks() -> [RegisteredTask; 1] {
    [RegisteredTask::of::<RemoveOldJobs>()]
}

/// A task that deletes old jobs with their events, in small steps, each a transaction of its own.
///
/// It is Procrastinate's `remove_old_jobs`, in the queue `builtin` unless told otherwise: deferred in either language, it
/// runs in a worker of either. Workers of this crate can also clear away by themselves, see
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
    /// Of the jobs that have succeeded, those whose newest event is more than this many hours ago.
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

    /// Only jobs of this queue. Unless set: of all queues.
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

    /// Whether to delete jobs that have failed, too. Unless set: false.
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

    /// Whether to delete jobs that were cancelled, too. Unless set: false.
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

    /// Whether to delete jobs that were aborted, too. Unless set: false.
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
            // Not kept over the pause: others may be waiting for it.
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

/// Python may say `None` where it means `False`.
fn false_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
