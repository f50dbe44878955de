//! Deletion of old jobs in small steps.

use std::time::Duration;

use serde_json::Value;

use crate::database::connection::run::Run;
use crate::database::statements::manage;
use crate::error::Error;
use crate::job::JobStatus;
use crate::validation::{check_age, check_filter};

/// How many final events one step reads. It takes some hundredths of a second, and deleted rows are locked that long.
pub(crate) const SWEEP_SIZE: i32 = 1_000;

/// The pause after a step: as long as the step took, so that the database has half of its time for other work.
pub(crate) fn pause_after(step: Duration) -> Duration {
    step.clamp(Duration::from_millis(10), Duration::from_secs(10))
}

/// Which jobs to delete.
#[derive(Debug, Clone)]
pub(crate) struct RetentionRule {
    statuses: Vec<JobStatus>,
    older_than: Duration,
    pub(crate) queue: Option<String>,
}

/// The result of one step.
#[derive(Debug)]
pub(crate) struct SweepResult {
    pub(crate) deleted: u64,
    /// Whether it stopped before the end.
    pub(crate) has_more: bool,
    /// The position from which the next step continues.
    pub(crate) stopped_at: Value,
}

impl RetentionRule {
    /// Selects jobs with this final status.
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

    /// Checks the values of the rule.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_age("age of old jobs", self.older_than)?;
        check_filter("queue name", self.queue.as_deref())?;
        self.labels().map(|_| ())
    }

    fn labels(&self) -> Result<Vec<&'static str>, Error> {
        self.statuses.iter().map(label).collect()
    }

    /// Reads up to `max_events` final events, oldest first, and deletes the old jobs among them.
    ///
    /// It continues where an earlier step stopped. `None` reads all events.
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

/// The label of a final status.
fn label(status: &JobStatus) -> Result<&'static str, Error> {
    match status {
        JobStatus::Succeeded => Ok("succeeded"),
        JobStatus::Failed => Ok("failed"),
        JobStatus::Cancelled => Ok("cancelled"),
        JobStatus::Aborted => Ok("aborted"),
        other => {
            let rule = "must be succeeded, failed, cancelled or aborted";
            Err(Error::invalid("status", other.as_str(), rule))
        }
    }
}
