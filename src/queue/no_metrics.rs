//! The interface of `metrics`, without the feature: nothing is counted, and the values have no size.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::job::Job;

/// Jobs that are counted once they are deferred.
#[must_use = "they are counted when they are deferred"]
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

/// A statement that stores outcomes and fetches jobs.
pub(crate) struct FetchTimer;

impl FetchTimer {
    pub(crate) fn start() -> Self {
        Self
    }

    pub(crate) fn end(self) {}
}
