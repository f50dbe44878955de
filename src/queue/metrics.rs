//! Metrics, with the feature `metrics`. The module `no_metrics` has the same interface and does nothing.

use std::time::{Duration, Instant};

use ::metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use chrono::{DateTime, Utc};

use crate::job::Job;

/// Describes the crate's metrics to the installed recorder, with their units.
///
/// Call it after you have installed a recorder. Prometheus shows the descriptions as help texts. Metrics are also
/// recorded without this call, and calling it again does no harm. Without a recorder, metrics cost next to nothing.
///
/// | name | kind | labels | meaning |
/// |---|---|---|---|
/// | `procrastinate_jobs_deferred_total` | counter | `task`, `queue` | jobs this program deferred, including those rolled back later |
/// | `procrastinate_jobs_started_total` | counter | `task`, `queue` | attempts this program started |
/// | `procrastinate_jobs_finished_total` | counter | `task`, `queue`, `outcome` | finished attempts |
/// | `procrastinate_job_duration_seconds` | histogram | `task`, `queue` | how long attempts took |
/// | `procrastinate_job_latency_seconds` | histogram | `task`, `queue` | how late scheduled and retried jobs started, by this machine's clock |
/// | `procrastinate_jobs_running` | gauge | `worker` | running attempts, by the name of the worker |
/// | `procrastinate_fetch_duration_seconds` | histogram | | how long the database took to store outcomes and hand out jobs, without failures |
///
/// The outcomes are:
///
/// - `succeeded`: finished without an error
/// - `failed`: finished with an error, and not retried
/// - `retried`: failed, and will be retried
/// - `aborted`: aborted, and not retried
/// - `interrupted`: aborted, and will be retried
/// - `snoozed`: will run again later, without counting this attempt
///
/// The latency covers scheduled jobs only, because other jobs do not carry the time when they were deferred. The label
/// `task` is the name in the job, which can be an alias.
///
/// # Example
///
/// ```
/// // First install a recorder, for instance with `PrometheusBuilder::new().install()?`. Then:
/// procrastinate::describe_metrics();
/// ```
pub fn describe_metrics() {
    describe_counter!(JOBS_DEFERRED, Unit::Count, "jobs this program deferred");
    describe_counter!(JOBS_STARTED, Unit::Count, "attempts this program started");
    describe_counter!(JOBS_FINISHED, Unit::Count, "finished attempts, by outcome");
    describe_histogram!(JOB_DURATION, Unit::Seconds, "how long attempts took");
    describe_histogram!(JOB_LATENCY, Unit::Seconds, "how late scheduled and retried jobs started");
    describe_gauge!(JOBS_RUNNING, Unit::Count, "running attempts, by worker");
    describe_histogram!(
        FETCH_DURATION,
        Unit::Seconds,
        "how long the database took to store outcomes and hand out jobs"
    );
}
const JOBS_DEFERRED: &str = "procrastinate_jobs_deferred_total";
const JOBS_STARTED: &str = "procrastinate_jobs_started_total";
const JOBS_FINISHED: &str = "procrastinate_jobs_finished_total";
const JOB_DURATION: &str = "procrastinate_job_duration_seconds";
const JOB_LATENCY: &str = "procrastinate_job_latency_seconds";
const JOBS_RUNNING: &str = "procrastinate_jobs_running";
const FETCH_DURATION: &str = "procrastinate_fetch_duration_seconds";

/// Jobs to count once they are deferred.
#[must_use = "jobs are counted by `deferred`"]
pub(crate) struct JobsToCount {
    /// The task, the queue, and the number of such jobs in a row.
    jobs: Vec<(String, String, u64)>,
}

impl JobsToCount {
    /// Takes the task and queue of each job.
    pub(crate) fn new<'a>(jobs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut rows: Vec<(String, String, u64)> = Vec::new();
        for (task, queue) in jobs {
            match rows.last_mut() {
                Some((last_task, last_queue, count)) if last_task == task && last_queue == queue => *count += 1,
                _ => rows.push((task.to_owned(), queue.to_owned(), 1)),
            }
        }
        Self { jobs: rows }
    }

    /// Counts the jobs as deferred.
    pub(crate) fn deferred(self) {
        for (task, queue, count) in self.jobs {
            counter!(JOBS_DEFERRED, "task" => task, "queue" => queue).increment(count);
        }
    }
}

/// A running attempt at a job. It counts as running until the value is dropped.
pub(crate) struct RunningJob {
    running: Gauge,
}

impl RunningJob {
    /// Records the start of an attempt.
    pub(crate) fn start(job: &Job, worker_name: &str, now: DateTime<Utc>) -> Self {
        let (task, queue) = (job.task_name.clone(), job.queue.clone());
        if let Some(scheduled_at) = job.scheduled_at {
            // The clocks of the two machines may differ.
            let latency = (now - scheduled_at).to_std().unwrap_or_default();
            histogram!(JOB_LATENCY, "task" => task.clone(), "queue" => queue.clone()).record(latency);
        }
        counter!(JOBS_STARTED, "task" => task, "queue" => queue).increment(1);
        let running = gauge!(JOBS_RUNNING, "worker" => worker_name.to_owned());
        running.increment(1);
        Self { running }
    }

    /// Records the end of an attempt.
    pub(crate) fn end(self, job: &Job, outcome: &'static str, duration: Duration) {
        let (task, queue) = (job.task_name.clone(), job.queue.clone());
        histogram!(JOB_DURATION, "task" => task.clone(), "queue" => queue.clone()).record(duration);
        counter!(JOBS_FINISHED, "task" => task, "queue" => queue, "outcome" => outcome).increment(1);
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.running.decrement(1);
    }
}

/// Times a statement that stores outcomes and fetches jobs.
pub(crate) struct FetchTimer {
    since: Instant,
}

impl FetchTimer {
    /// Starts when the statement is sent.
    pub(crate) fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// Records the time when the response arrives.
    pub(crate) fn end(self) {
        histogram!(FETCH_DURATION).record(self.since.elapsed());
    }
}
