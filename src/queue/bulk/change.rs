//! What is done to each job, and whether it makes sense.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::database::statements::actions::ChangeArgs;
use crate::database::statements::cli::JobSelection;
use crate::error::Error;
use crate::job::JobStatus;
use crate::retry::RetryDecision;
use crate::validation::check_name;

/// A change to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Retries a failed job, or a running one whose worker is gone. The values replace those of the job.
    Retry { at: Option<DateTime<Utc>>, priority: Option<i32>, queue: Option<String> },
    /// Cancels a pending job.
    Cancel,
    /// Cancels a pending job, or requests the abort of a running one.
    Abort,
    /// Removes the time of a scheduled job.
    RunNow,
    /// Sets the earliest start of a pending job.
    Reschedule { at: DateTime<Utc> },
    /// Sets the priority of a pending job.
    Priority(i32),
    /// Moves a pending job to this queue.
    Queue(String),
    /// Deletes a job that is not running.
    Delete,
}

impl Change {
    /// The name in SQL and in the record.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::RunNow => "run_now",
            Self::Reschedule { .. } => "reschedule",
            Self::Priority(_) => "priority",
            Self::Queue(_) => "queue",
            Self::Delete => "delete",
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Retry { at: Some(time), .. } | Self::Reschedule { at: time } => {
                RetryDecision::retry_at(*time).check()?;
            }
            _ => {}
        }
        match self {
            Self::Retry { queue: Some(queue), .. } | Self::Queue(queue) => check_name("queue name", queue),
            _ => Ok(()),
        }
    }

    /// The options, for the record.
    pub(super) fn details(&self) -> Value {
        let ChangeArgs { scheduled_at, priority, queue, .. } = self.args(None);
        let mut details = Map::new();
        if let Some(time) = scheduled_at {
            details.insert("at".to_owned(), json!(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
        }
        if let Some(priority) = priority {
            details.insert("priority".to_owned(), json!(priority));
        }
        if let Some(queue) = queue {
            details.insert("queue".to_owned(), json!(queue));
        }
        Value::Object(details)
    }

    pub(super) fn args(&self, only_status: Option<&JobStatus>) -> ChangeArgs {
        let (scheduled_at, priority, queue) = match self.clone() {
            Self::Retry { at, priority, queue } => (at, priority, queue),
            Self::Reschedule { at } => (Some(at), None, None),
            Self::Priority(priority) => (None, Some(priority), None),
            Self::Queue(queue) => (None, None, Some(queue)),
            Self::Cancel | Self::Abort | Self::RunNow | Self::Delete => (None, None, None),
        };
        let only_status = only_status.map(|status| status.as_str().to_owned());
        ChangeArgs { change: self.label(), scheduled_at, priority, queue, only_status }
    }

    /// Completes a selection without a status with the one that the change is for, as on the command line.
    pub(super) fn narrow(&self, selection: &mut JobSelection) -> Result<(), Error> {
        if selection.filter.status.is_some() || selection.are_stalled || selection.filter.id.is_some() {
            return Ok(());
        }
        selection.filter.status = Some(match self {
            Self::Retry { .. } => JobStatus::Failed,
            Self::Abort => JobStatus::Doing,
            Self::Cancel | Self::RunNow | Self::Reschedule { .. } | Self::Priority(_) | Self::Queue(_) => {
                JobStatus::Todo
            }
            Self::Delete => return Err(Error::invalid("status", "", "must be given to delete jobs")),
        });
        Ok(())
    }
}
