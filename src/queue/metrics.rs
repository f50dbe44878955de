//! What is counted and timed, with the feature `metrics`. `no_metrics` has the same interface and does nothing.

use std::time::{Duration, Instant};

use ::metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use chrono::{DateTime, Utc};

use crate::job::Job;

/// Tells the recorder what the metrics of this crate mean, and their units, for those that hand that on: Prometheus shows
/// it as help. To be called once the recorder is installed, as often as one likes; all is counted without it, too.
///
/// The metrics go through the facade [`metrics`](https://docs.rs/metrics) to whichever recorder the application has
/// installed for its own. Without one they cost next to nothing.
///
/// | name | kind | labels | |
/// |---|---|---|---|
/// | `procrastinate_jobs_deferred_total` | counter | `task`, `queue` | jobs that this program has deferred, by hand and when their periodic tasks came round; also those of a transaction that is rolled back later |
/// | `procrastinate_jobs_started_total` | counter | `task`, `queue` | attempts at jobs that this program's workers have started |
/// | `procrastinate_jobs_finished_total` | counter | `task`, `queue`, `outcome` | attempts that have ended: `succeeded`, `failed`, `retried` (failed, to be tried again), `aborted`, `interrupted` (aborted, to be tried again) or `snoozed` (to run again later) |
/// | `procrastinate_job_duration_seconds` | histogram | `task`, `queue` | how long an attempt took, however it ended |
/// | `procrastinate_job_latency_seconds` | histogram | `task`, `queue` | for how long a job had been due when it was started, by this machine's clock: of jobs that were scheduled, retried ones among them |
/// | `procrastinate_jobs_running` | gauge | `worker` | attempts that are running now, by the name of the worker |
/// | `procrastinate_fetch_duration_seconds` | histogram | | how long the database took to store how jobs ended and hand out new ones, in one statement; without those that failed |
///
/// A job that was not scheduled does not say when it was deferred, and to ask would take another statement: the latency
/// is that of scheduled jobs only. The label `task` is the name by which a job asks for its task, an alias if it is one.
///
/// # Example
///
/// ```
/// // The application's recorder, for instance `PrometheusBuilder::new().install()?`; then:
/// procrastinate::describe_metrics();
/// ```
pub fn describe_metrics() {
    describe_counter!(JOBS_DEFERRED, Unit::Count, "jobs that this program has deferred");
    describe_counter!(JOBS_STARTED, Unit::Count, "attempts at jobs that this program's workers have started");
    describe_counter!(JOBS_FINISHED, Unit::Count, "attempts at jobs that have ended, by their outcome");
    describe_histogram!(JOB_DURATION, Unit::Seconds, "how long an attempt at a job took");
    describe_histogram!(JOB_LATENCY, Unit::Seconds, "for how long a scheduled job had been due when it was started");
    describe_gauge!(JOBS_RUNNING, Unit::Count, "attempts at jobs that are running now, by worker");
    describe_histogram!(
        FETCH_DURATION,
        Unit::Seconds,
        "how long the database took to store how jobs ended and hand out new ones"
    );
}
const JOBS_DEFERRED: &str = "procrastinate_jobs_deferred_total";
const JOBS_STARTED: &str = "procrastinate_jobs_started_total";
const JOBS_FINISHED: &str = "procrastinate_jobs_finished_total";
const JOB_DURATION: &str = "procrastinate_job_duration_seconds";
const JOB_LATENCY: &str = "procrastinate_job_latency_seconds";
const JOBS_RUNNING: &str = "procrastinate_jobs_running";
const FETCH_DURATION: &str = "procrastinate_fetch_duration_seconds";

/// Jobs that are counted once they are deferred.
#[must_use = "they are counted when they are deferred"]
pub(crate) struct JobsToCount {
    /// Task, queue, and how many in a row are of them.
    jobs: Vec<(String, String, u64)>,
}

impl JobsToCount {
    /// Jobs, each by its task and queue.
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

    /// They were deferred.
    pub(crate) fn deferred(self) {
        for (task, queue, count) in self.jobs {
            counter!(JOBS_DEFERRED, "task" => task, "queue" => queue).increment(count);
        }
    }
}

/// A running attempt at a job. It counts as running until this value is dropped.
pub(crate) struct RunningJob {
    running: Gauge,
}

impl RunningJob {
    /// The attempt begins.
    pub(crate) fn start(job: &Job, worker_name: &str, now: DateTime<Utc>) -> Self {
        let (task, queue) = (job.task_name.clone(), job.queue.clone());
        if let Some(scheduled_at) = job.scheduled_at {
            // The clocks may differ.
            let latency = (now - scheduled_at).to_std().unwrap_or_default();
            histogram!(JOB_LATENCY, "task" => task.clone(), "queue" => queue.clone()).record(latency);
        }
        counter!(JOBS_STARTED, "task" => task, "queue" => queue).increment(1);
        let running = gauge!(JOBS_RUNNING, "worker" => worker_name.to_owned());
        running.increment(1);
        Self { running }
    }

    /// The attempt has ended.
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

/// A statement that stores outcomes and fetches jobs.
pub(crate) struct FetchTimer {
    since: Instant,
}

impl FetchTimer {
    /// The statement is sent.
    pub(crate) fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// The response has come.
    pub(crate) fn end(self) {
        histogram!(FETCH_DURATION).record(self.since.elapsed());
    }
}
