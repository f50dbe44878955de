//! Texts with times and jobs, which each output renders in its way.

use chrono::{DateTime, Utc};

use crate::database::models::ProcrastinateJob;
use crate::job::JobStatus;

/// A text in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Phrase(pub(crate) Vec<Part>);

/// A part of a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    /// A time, as in `3 min ago`.
    Time(DateTime<Utc>),
    /// A job: its ID, and its [text](job_text), which contains the ID.
    Job(i64, String),
    /// A key that can come from the arguments of the job, in quotes.
    Key(String),
    /// A hint, as in `, or retry it`. How the user does that depends on the output.
    OrRetry,
}

impl Phrase {
    pub(crate) fn new(part: impl Into<Part>) -> Self {
        Self(vec![part.into()])
    }

    /// Appends a part.
    pub(crate) fn with(mut self, part: impl Into<Part>) -> Self {
        self.0.push(part.into());
        self
    }

    /// Appends a space and the time, if there is one.
    pub(super) fn with_some(self, time: Option<DateTime<Utc>>) -> Self {
        match time {
            Some(time) => self.with(" ").with(time),
            None => self,
        }
    }

    /// Appends the other phrase.
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<DateTime<Utc>> for Part {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time)
    }
}

impl From<&ProcrastinateJob> for Part {
    fn from(job: &ProcrastinateJob) -> Self {
        Self::Job(job.id, job_text(job))
    }
}

/// Describes a job like Procrastinate's shell, as in `#7 send on mails - [doing]`.
pub(crate) fn job_text(job: &ProcrastinateJob) -> String {
    format!("#{} {} on {} - [{}]", job.id, job.task_name, job.queue_name, status_text(job))
}

/// The status, and whether an abort is requested.
pub(crate) fn status_text(job: &ProcrastinateJob) -> String {
    if job.abort_requested && job.status == JobStatus::Doing {
        format!("{}, abort requested", job.status)
    } else {
        job.status.to_string()
    }
}
