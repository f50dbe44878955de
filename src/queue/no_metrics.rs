//! The interface of `metrics` without the feature. Nothing is recorded, and the values have no size.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::job::Job;

/// Jobs to count once they are deferred.
#[must_use = "jobs are counted by `deferred`"]
pub(crate) struct JobsToCount;

impl JobsToCount {
    pub(crate) fn new<'a>(_jobs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self
    }

    pub(crate) fn deferred(self) {}
}

/// A running attempt at a job.
pub(crate) struct RunningJob;

impl RunningJob {
    pub(crate) fn start(_job: &Job, _worker_name: &str, _now: DateTime<Utc>) -> Self {
        Self
    }

    pub(crate) fn end(self, _job: &Job, _outcome: &'static str, _duration: Duration) {}
}

/// Times a statement that stores outcomes and fetches jobs.
pub(crate) struct FetchTimer;

impl FetchTimer {
    pub(crate) fn start() -> Self {
        Self
    }

    pub(crate) fn end(self) {}
}
