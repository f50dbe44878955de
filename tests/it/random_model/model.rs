//! What the contract says of jobs, over a map in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, TimeZone, Utc};
use procrastinate::{JobId, JobToDefer, configure_task};
use serde_json::json;

use super::Random;

pub const QUEUES: [&str; 3] = ["a", "b", "c"];
pub const LOCKS: [&str; 4] = ["L", "M", "N", "O"];
const QUEUEING_LOCKS: [&str; 6] = ["q", "r", "s", "t", "u", "v"];

/// When a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    AtOnce,
    Past,
    Future,
}

impl Schedule {
    pub fn any(random: &mut Random) -> Self {
        random.pick(&[Self::AtOnce, Self::AtOnce, Self::AtOnce, Self::Past, Self::Future])
    }

    pub fn at(self) -> Option<DateTime<Utc>> {
        let year = match self {
            Self::AtOnce => return None,
            Self::Past => 2020,
            Self::Future => 2999,
        };
        Some(Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap())
    }
}

/// A job as it is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewJob {
    pub queue: &'static str,
    pub priority: i32,
    pub lock: Option<&'static str>,
    pub queueing_lock: Option<&'static str>,
    pub schedule: Schedule,
}

impl NewJob {
    pub fn any(random: &mut Random) -> Self {
        Self {
            queue: random.pick(&QUEUES),
            priority: random.pick(&[-1, 0, 0, 0, 1, 2]),
            lock: (!random.once_in(3)).then(|| random.pick(&LOCKS)),
            queueing_lock: random.once_in(6).then(|| random.pick(&QUEUEING_LOCKS)),
            schedule: Schedule::any(random),
        }
    }

    pub fn to_defer(self, task_name: &str) -> JobToDefer {
        let mut job = configure_task(task_name, json!({})).queue(self.queue).priority(self.priority);
        if let Some(lock) = self.lock {
            job = job.lock(lock);
        }
        if let Some(queueing_lock) = self.queueing_lock {
            job = job.queueing_lock(queueing_lock);
        }
        if let Some(at) = self.schedule.at() {
            job = job.schedule_at(at);
        }
        job
    }
}

/// The current state of a job.
#[derive(Debug, Clone)]
pub struct Job {
    pub new: NewJob,
    pub status: &'static str,
    pub attempts: i32,
    pub abort_requested: bool,
    pub worker: Option<i64>,
    pub events: Vec<&'static str>,
}

/// What a retry changes.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    pub at: Schedule,
    pub priority: Option<i32>,
    pub queue: Option<&'static str>,
    pub lock: Option<&'static str>,
}

/// The function raises, and nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Whose functions are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Functions {
    Ours,
    /// The same but for one thing: a job that failed with an abort pending cannot be retried. It keeps the flag, which
    /// violates a check.
    OfPython,
}

/// All jobs by number.
#[derive(Debug)]
pub struct Model {
    pub functions: Functions,
    pub jobs: BTreeMap<i64, Job>,
}

impl Model {
    pub fn of(functions: Functions) -> Self {
        Self { functions, jobs: BTreeMap::new() }
    }

    pub fn is_enqueued(&self, queueing_lock: Option<&str>) -> bool {
        let waits = |job: &Job| job.status == "todo" && job.new.queueing_lock == queueing_lock;
        queueing_lock.is_some() && self.jobs.values().any(waits)
    }

    pub fn insert(&mut self, id: JobId, new: NewJob) {
        let last = self.jobs.last_key_value().map_or(0, |(id, _)| *id);
        assert!(i64::from(id) > last, "job {id} came after job {last}");
        let events = if new.schedule == Schedule::AtOnce { vec!["deferred"] } else { vec!["scheduled", "deferred"] };
        let job = Job { new, status: "todo", attempts: 0, abort_requested: false, worker: None, events };
        self.jobs.insert(id.into(), job);
    }

    fn can_be_taken(&self, id: i64, queues: Option<&[&str]>) -> bool {
        let job = &self.jobs[&id];
        let with_this_lock = |status: &str| {
            let others = self.jobs.iter().filter(move |(other, _)| **other != id);
            others.filter(|(_, other)| other.new.lock == job.new.lock && other.status == status).collect::<Vec<_>>()
        };
        let rank = |id: i64, job: &Job| (Reverse(job.new.priority), id);
        job.status == "todo"
            && queues.is_none_or(|queues| queues.contains(&job.new.queue))
            && job.new.schedule != Schedule::Future
            && (job.new.lock.is_none()
                || with_this_lock("doing").is_empty()
                    && with_this_lock("todo").iter().all(|(other, todo)| rank(**other, todo) > rank(id, job)))
    }

    pub fn fetch(&mut self, queues: Option<&[&str]>, worker: i64) -> Option<i64> {
        let takeable = self.jobs.keys().copied().filter(|id| self.can_be_taken(*id, queues));
        let id = takeable.min_by_key(|id| (Reverse(self.jobs[id].new.priority), *id))?;
        let job = self.jobs.get_mut(&id).unwrap();
        job.status = "doing";
        job.worker = Some(worker);
        job.events.push("started");
        Some(id)
    }

    pub fn finish(&mut self, id: i64, end_status: &'static str, delete: bool) -> Result<(), Refused> {
        let job = self.jobs.get_mut(&id).ok_or(Refused)?;
        match (job.status, end_status) {
            ("doing", _) => {
                job.attempts += 1;
                job.events.push(end_status);
            }
            ("todo", "aborted") => {}
            ("todo", _) => job.events.push("cancelled"),
            _ => return Err(Refused),
        }
        job.status = end_status;
        job.abort_requested = false;
        if delete {
            self.jobs.remove(&id);
        }
        Ok(())
    }

    /// A worker reports the status of its job, and releases it. False if it no longer holds the job, unless the job has
    /// this status and no other worker.
    pub fn finish_of_worker(&mut self, id: i64, worker: i64, end_status: &'static str) -> bool {
        match self.jobs.get(&id) {
            Some(job) if job.worker == Some(worker) && job.status == "doing" => {
                let is_finished = self.finish(id, end_status, false).is_ok();
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.worker = None;
                }
                is_finished
            }
            Some(job) => job.worker.is_none_or(|other| other == worker) && job.status == end_status,
            None => false,
        }
    }

    /// A worker retries its job, which fails if another pending job has its queueing lock or if an abort was requested.
    /// Returns what the function reports: nothing if it was retried, or if no worker holds the job any more.
    pub fn retry_of_worker(&mut self, id: i64, worker: i64, retry: Retry) -> Option<&'static str> {
        let job = self.jobs.get(&id)?;
        if job.status != "doing" {
            return None;
        }
        if job.worker != Some(worker) {
            return Some("lost");
        }
        self.retry(id, retry, false).or_else(|Refused| self.finish(id, "failed", false)).ok()?;
        (self.jobs.get(&id)?.status == "failed").then_some("failed")
    }

    pub fn cancel(&mut self, id: i64, abort: bool, delete: bool) -> Option<i64> {
        let job = self.jobs.get_mut(&id)?;
        match (job.status, abort, delete) {
            ("todo", _, true) => {
                self.jobs.remove(&id);
            }
            ("todo", false, false) => {
                job.status = "cancelled";
                job.events.push("cancelled");
            }
            ("todo", true, false) => {
                job.status = "cancelled";
                job.abort_requested = true;
                job.events.extend(["abort_requested", "cancelled"]);
            }
            ("doing", true, _) => {
                job.abort_requested = true;
                job.events.push("abort_requested");
            }
            _ => return None,
        }
        Some(id)
    }

    pub fn retry(&mut self, id: i64, retry: Retry, of_failed: bool) -> Result<(), Refused> {
        let enqueued = self.is_enqueued(self.jobs.get(&id).ok_or(Refused)?.new.queueing_lock);
        let job = self.jobs.get_mut(&id).ok_or(Refused)?;
        let event = match job.status {
            "doing" if job.abort_requested => {
                job.status = "failed";
                job.events.push("failed");
                return Ok(());
            }
            "doing" => "deferred_for_retry",
            "failed" if job.abort_requested && self.functions == Functions::OfPython => return Err(Refused),
            "failed" if of_failed => "retried",
            _ => return Err(Refused),
        };
        if enqueued {
            return Err(Refused);
        }
        job.status = "todo";
        job.abort_requested = false;
        job.attempts += 1;
        job.new.schedule = retry.at;
        job.new.priority = retry.priority.unwrap_or(job.new.priority);
        job.new.queue = retry.queue.unwrap_or(job.new.queue);
        job.new.lock = retry.lock.or(job.new.lock);
        job.events.extend((retry.at != Schedule::AtOnce).then_some("scheduled"));
        job.events.push(event);
        Ok(())
    }

    /// A worker's row goes. That is an update of its jobs, and each update of a scheduled job that waits is an event.
    pub fn forget_worker(&mut self, worker: i64) {
        for job in self.jobs.values_mut().filter(|job| job.worker == Some(worker)) {
            job.worker = None;
            let waits_for_its_time = job.status == "todo" && job.new.schedule != Schedule::AtOnce;
            job.events.extend(waits_for_its_time.then_some("scheduled"));
        }
    }
}
