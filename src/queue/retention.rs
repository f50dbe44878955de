//! Which old jobs to delete, step by step.

use std::time::Duration;

use serde_json::Value;

use crate::database::connection::run::Run;
use crate::database::statements::manage;
use crate::error::Error;
use crate::job::JobStatus;
use crate::validation::{check_age, check_filter};

/// How many final events one step looks at: some hundredths of a second, and no longer are the deleted rows locked.
pub(crate) const SWEEP_SIZE: i32 = 1_000;

/// How long to leave the database alone after a step that took so long: as long again, so that it has half of its time for
/// others, and the more of it the busier it is.
pub(crate) fn pause_after(step: Duration) -> Duration {
    step.clamp(Duration::from_millis(10), Duration::from_secs(10))
}

/// What is to be cleared away.
#[derive(Debug, Clone)]
pub(crate) struct RetentionRule {
    statuses: Vec<JobStatus>,
    older_than: Duration,
    pub(crate) queue: Option<String>,
}

/// What one step has done.
#[derive(Debug)]
pub(crate) struct SweepResult {
    pub(crate) deleted: u64,
    /// Whether it stopped before the end.
    pub(crate) has_more: bool,
    /// Where the next step is to go on.
    pub(crate) stopped_at: Value,
}

impl RetentionRule {
    /// Jobs of this status, which is one that jobs end with.
    pub(crate) fn of(status: JobStatus, older_than: Duration) -> Self {
        Self { statuses: vec![status], older_than, queue: None }
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
    ) -> Result<SweepResult, Error> {
        self.check()?;
        let statement = manage::DeleteOldJobsQuery {
            statuses: self.labels()?,
            older_than_seconds: self.older_than.as_secs_f64(),
            queue: self.queue.clone(),
            max_events,
            start_after,
        };
        let rows = run.load(statement).await?;
        let (deleted, has_more, stopped_at) = rows.into_iter().next().unwrap_or_default();
        Ok(SweepResult { deleted: u64::try_from(deleted).unwrap_or_default(), has_more, stopped_at })
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
