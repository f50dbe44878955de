//! Random values: jobs, workers and statements about those that exist, and some that do not.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{FUTURE, Known, LOCKS, QUEUES, TASKS};
use crate::database::statements::cli::JobSelection;
use crate::database::statements::defer::{ExtraOptions, NewJob};
use crate::database::statements::finish_and_fetch::FinishAndFetchJobs;
use crate::database::statements::inspect::JobFilter;
use crate::database::statements::manage::RetryJobQuery;
use crate::database::statements::rescue::RescueJobs;
use crate::database::statements::workers::ReregisterWorker;
use crate::job::{Job, JobId, JobStatus};
use crate::retry::RetryDecision;

pub(super) fn any_queues(random: &mut Rng) -> Option<Vec<String>> {
    random.bool().then(|| QUEUES.into_iter().filter(|_| random.bool()).map(str::to_owned).collect())
}

pub(super) fn maybe(random: &mut Rng, choices: &[&str]) -> Option<String> {
    (random.u8(..3) == 0).then(|| random.choice(choices).map(|choice| (*choice).to_owned())).flatten()
}

pub(super) fn any_job(random: &mut Rng) -> NewJob {
    NewJob {
        queue: random.choice(QUEUES).unwrap().to_owned(),
        task_name: random.choice(TASKS).unwrap().to_owned(),
        priority: random.i32(0..3),
        lock: maybe(random, &LOCKS),
        queueing_lock: maybe(random, &LOCKS),
        args: json!({}),
        scheduled_at: (random.u8(..5) == 0).then(|| FUTURE.parse().unwrap()),
    }
}

/// Options of a job that is late already or never.
pub(super) fn any_extras(random: &mut Rng) -> ExtraOptions {
    let start_before = maybe(random, &["2001-01-01T00:00:00Z", "2101-01-01T00:00:00Z"]);
    ExtraOptions {
        start_before: start_before.map(|time| time.parse().unwrap()),
        limit_key: maybe(random, &["key"]),
        unique: None,
    }
}

pub(super) fn any_if_enqueued(random: &mut Rng) -> &'static str {
    let labels = ["fail", "keep", "keep", "replace", "replace", "replace_except_schedule"];
    random.choice(labels).unwrap()
}

pub(super) fn any_decision(random: &mut Rng) -> RetryDecision {
    let mut decision = if random.u8(..3) > 0 {
        RetryDecision::retry_in(Duration::ZERO)
    } else {
        RetryDecision::retry_at(FUTURE.parse().unwrap())
    };
    decision.priority = random.bool().then(|| random.i32(0..3));
    decision.queue = maybe(random, &QUEUES);
    decision.lock = maybe(random, &LOCKS);
    decision
}

impl Known {
    /// A worker, sometimes one that is not registered.
    pub(super) fn worker(&self, random: &mut Rng) -> i64 {
        random.choice(&self.workers).copied().filter(|_| random.u8(..12) > 0).unwrap_or(1_000)
    }

    /// A job, usually a running one, sometimes one that does not exist.
    pub(super) fn id(&self, random: &mut Rng) -> JobId {
        let running: Vec<_> = self.jobs.iter().filter(|job| job.status == JobStatus::Doing).collect();
        let job = if random.u8(..4) > 0 { random.choice(running) } else { random.choice(&self.jobs) };
        job.map_or(1_000, |job| job.id).into()
    }

    /// Several different jobs.
    pub(super) fn ids(&self, random: &mut Rng) -> Vec<JobId> {
        let mut ids: Vec<JobId> = (0..random.usize(..5)).map(|_| self.id(random)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The number of finished attempts of the job, sometimes one more or less.
    pub(super) fn attempts(&self, random: &mut Rng, id: JobId) -> i32 {
        let attempts = self.jobs.iter().find(|job| id == job.id).map_or(0, |job| job.attempts);
        if random.u8(..8) > 0 { attempts } else { attempts + random.i32(-1..2) }
    }

    pub(super) fn finish_and_fetch(&self, random: &mut Rng) -> FinishAndFetchJobs {
        let mut statement = FinishAndFetchJobs::new(self.worker(random), any_queues(random), random.usize(..4));
        statement.one_by_one = random.u8(..4) == 0;
        for id in self.ids(random) {
            let attempts = self.attempts(random, id);
            match random.u8(..6) {
                0..=2 => statement.retry(id, attempts, &any_decision(random), random.u8(..4) > 0),
                3 => statement.delete(id, attempts, "succeeded"),
                _ => statement.finish(id, attempts, random.choice(["succeeded", "failed", "aborted"]).unwrap()),
            }
            if random.bool() {
                // Sometimes as if it had been tried very often, so that the error of the first attempt is deleted. One by
                // one, the errors of deleted jobs are not read.
                let attempts = if random.u8(..6) == 0 && !statement.one_by_one { 100 } else { attempts };
                statement.keep_error(id, attempts, "it failed", "worker", Duration::from_millis(1_500));
            }
        }
        statement
    }

    pub(super) fn reregister(&self, random: &mut Rng, new_id: i64) -> ReregisterWorker {
        let job_ids = self.ids(random);
        let attempts = job_ids.iter().map(|id| self.attempts(random, *id)).collect();
        ReregisterWorker { former_id: self.worker(random), new_id, job_ids, attempts }
    }

    pub(super) fn rescue(&self, random: &mut Rng) -> RescueJobs {
        let mut statement = RescueJobs::default();
        for id in self.ids(random) {
            let job = Job {
                id,
                queue: String::new(),
                task_name: String::new(),
                priority: 0,
                lock: None,
                queueing_lock: None,
                args: Value::Null,
                scheduled_at: None,
                attempts: self.attempts(random, id),
                abort_requested: false,
                worker_id: None,
            };
            let decision = random.bool().then(|| any_decision(random));
            statement.add(&job, decision.as_ref(), "the worker died", random.u8(..4) == 0);
        }
        statement
    }

    pub(super) fn retry(&self, random: &mut Rng) -> RetryJobQuery {
        let RetryDecision { priority, queue, lock, .. } = any_decision(random);
        let retry_at = random.bool().then(|| FUTURE.parse().unwrap());
        RetryJobQuery { job_id: self.id(random), retry_at, priority, queue, lock }
    }

    pub(super) fn meant(&self, random: &mut Rng) -> JobSelection {
        let filter = JobFilter {
            queue: maybe(random, &QUEUES),
            lock: maybe(random, &LOCKS),
            status: maybe(random, &["todo", "failed", "doing"]).map(|label| JobStatus::from(label.as_str())),
            worker_id: (random.u8(..4) == 0).then(|| self.worker(random)),
            ..JobFilter::default()
        };
        JobSelection { filter, are_stalled: random.u8(..4) == 0 }
    }
}
