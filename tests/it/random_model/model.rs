//! What the contract says of jobs, workers and ticks, over maps in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, TimeZone, Utc};
use procrastinate::{JobId, JobToDefer, configure_task};
use serde_json::json;

use super::Random;

pub const QUEUES: [&str; 3] = ["a", "b", "c"];
pub const LOCKS: [&str; 4] = ["L", "M", "N", "O"];
pub const QUEUEING_LOCKS: [&str; 6] = ["q", "r", "s", "t", "u", "v"];

/// When a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    AtOnce,
    Past,
    Future,
    /// The time of the statement that set it.
    Present,
}

impl Schedule {
    pub fn any(random: &mut Random) -> Self {
        random.pick(&[Self::AtOnce, Self::AtOnce, Self::AtOnce, Self::Past, Self::Future])
    }

    pub fn at(self) -> Option<DateTime<Utc>> {
        let year = match self {
            Self::AtOnce | Self::Present => return None,
            Self::Past => 2020,
            Self::Future => 2999,
        };
        Some(Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap())
    }

    /// The age of the event that this schedule causes.
    fn age(self) -> Age {
        match self {
            Self::Past => Age::Old,
            Self::Future => Age::Future,
            Self::AtOnce | Self::Present => Age::Fresh,
        }
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

/// How old an event is: older than a day, of today, or dated in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Old,
    Fresh,
    Future,
}

/// The current state of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub new: NewJob,
    pub task: &'static str,
    pub status: &'static str,
    pub attempts: i32,
    pub abort_requested: bool,
    pub worker: Option<i64>,
    pub events: Vec<(&'static str, Age)>,
    /// The errors of failed attempts, each with the attempt's number.
    pub errors: BTreeMap<i32, &'static str>,
}

impl Job {
    fn event(&mut self, kind: &'static str) {
        self.events.push((kind, Age::Fresh));
    }

    /// Each update of a scheduled job that waits is an event.
    fn updated(&mut self) {
        if self.status == "todo" && self.new.schedule != Schedule::AtOnce {
            self.events.push(("scheduled", self.new.schedule.age()));
        }
    }

    pub fn is_held_by(&self, worker: Option<i64>) -> bool {
        self.status == "doing" && self.worker == worker
    }

    pub fn is_final(&self) -> bool {
        !matches!(self.status, "todo" | "doing")
    }
}

/// What a retry changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The sign of life of a registered worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    Fresh,
    /// So long ago that the worker is stalled.
    Stalled,
    /// The worker is about to be deleted.
    Released,
}

/// All jobs and workers by ID, and the ticks of the periodic task with their jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub functions: Functions,
    pub jobs: BTreeMap<i64, Job>,
    pub workers: BTreeMap<i64, Heartbeat>,
    pub ticks: BTreeMap<(&'static str, i64), Option<i64>>,
}

impl Model {
    pub fn of(functions: Functions) -> Self {
        Self { functions, jobs: BTreeMap::new(), workers: BTreeMap::new(), ticks: BTreeMap::new() }
    }

    pub fn is_enqueued(&self, queueing_lock: Option<&str>) -> bool {
        let waits = |job: &Job| job.status == "todo" && job.new.queueing_lock == queueing_lock;
        queueing_lock.is_some() && self.jobs.values().any(waits)
    }

    pub fn insert(&mut self, id: JobId, new: NewJob) {
        self.insert_of("walk", id.into(), new);
    }

    pub fn insert_of(&mut self, task: &'static str, id: i64, new: NewJob) {
        let (events, errors) = (Vec::new(), BTreeMap::new());
        let mut job =
            Job { new, task, status: "todo", attempts: 0, abort_requested: false, worker: None, events, errors };
        job.updated();
        job.event("deferred");
        self.jobs.insert(id, job);
    }

    /// Removes a job. Its ticks stay.
    pub fn delete(&mut self, id: i64) {
        self.jobs.remove(&id);
        for job in self.ticks.values_mut().filter(|job| **job == Some(id)) {
            *job = None;
        }
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
        job.event("started");
        Some(id)
    }

    pub fn finish(&mut self, id: i64, end_status: &'static str, delete: bool) -> Result<(), Refused> {
        if !matches!(end_status, "succeeded" | "failed" | "aborted") {
            return Err(Refused);
        }
        let job = self.jobs.get_mut(&id).ok_or(Refused)?;
        match (job.status, end_status) {
            ("doing", _) => {
                job.attempts += 1;
                job.event(end_status);
            }
            ("todo", "aborted") => {}
            ("todo", _) => job.event("cancelled"),
            _ => return Err(Refused),
        }
        job.status = end_status;
        job.abort_requested = false;
        if delete {
            self.delete(id);
        }
        Ok(())
    }

    pub fn cancel(&mut self, id: i64, abort: bool, delete: bool) -> Option<i64> {
        let job = self.jobs.get_mut(&id)?;
        match (job.status, abort, delete) {
            ("todo", _, true) => self.delete(id),
            ("todo", false, false) => {
                job.status = "cancelled";
                job.event("cancelled");
            }
            ("todo", true, false) => {
                job.status = "cancelled";
                job.abort_requested = true;
                job.event("abort_requested");
                job.event("cancelled");
            }
            ("doing", true, _) => {
                job.abort_requested = true;
                job.event("abort_requested");
            }
            _ => return None,
        }
        Some(id)
    }

    /// Whether a retry of this job would violate the queueing lock's index.
    pub fn is_locked_out(&self, id: i64) -> bool {
        self.jobs.get(&id).is_some_and(|job| self.is_enqueued(job.new.queueing_lock))
    }

    pub fn retry(&mut self, id: i64, retry: Retry, of_failed: bool) -> Result<(), Refused> {
        let is_locked_out = self.is_locked_out(id);
        let job = self.jobs.get_mut(&id).ok_or(Refused)?;
        match job.status {
            "doing" if job.abort_requested => {
                job.status = "failed";
                job.event("failed");
                return Ok(());
            }
            "doing" => {}
            "failed" if job.abort_requested && self.functions == Functions::OfPython => return Err(Refused),
            "failed" if of_failed => {}
            _ => return Err(Refused),
        }
        if is_locked_out {
            return Err(Refused);
        }
        job.abort_requested = false;
        job.requeue(retry, true);
        Ok(())
    }

    /// A worker, or none, requeues its job. It fails if its abort was requested or its queueing lock is taken. Returns
    /// the new status, or `None` if the job is not held in this attempt.
    pub fn requeue(
        &mut self,
        id: i64,
        worker: Option<i64>,
        attempts: Option<i32>,
        retry: Retry,
        counts: bool,
    ) -> Option<&'static str> {
        let is_locked_out = self.is_locked_out(id);
        let job = self.jobs.get_mut(&id)?;
        if !job.is_held_by(worker) || attempts.is_some_and(|attempts| attempts != job.attempts) {
            return None;
        }
        if job.abort_requested {
            job.status = "failed";
            job.event("failed");
        } else if is_locked_out {
            self.finish(id, "failed", false).ok()?;
        } else {
            job.requeue(retry, counts);
        }
        self.jobs.get_mut(&id)?.worker = None;
        Some(self.jobs[&id].status)
    }

    /// A worker's row goes, or its links. That is an update of its jobs.
    pub fn unlink_worker(&mut self, worker: i64) -> usize {
        let linked = self.jobs.values_mut().filter(|job| job.worker == Some(worker));
        linked
            .map(|job| {
                job.worker = None;
                job.updated();
            })
            .count()
    }

    /// Releases the running jobs of a worker.
    pub fn release(&mut self, worker: i64) {
        for job in self.jobs.values_mut().filter(|job| job.is_held_by(Some(worker))) {
            job.worker = None;
        }
    }
}

impl Job {
    fn requeue(&mut self, retry: Retry, counts: bool) {
        let event = if self.status == "doing" { "deferred_for_retry" } else { "retried" };
        self.status = "todo";
        self.attempts += i32::from(counts);
        self.new.schedule = retry.at;
        self.new.priority = retry.priority.unwrap_or(self.new.priority);
        self.new.queue = retry.queue.unwrap_or(self.new.queue);
        self.new.lock = retry.lock.or(self.new.lock);
        self.updated();
        self.event(event);
    }

    /// Takes over the values of another job, perhaps without its schedule.
    pub fn replace(&mut self, task: &'static str, new: NewJob, keeps_schedule: bool) {
        let schedule = if keeps_schedule { self.new.schedule } else { new.schedule };
        (self.task, self.new) = (task, NewJob { schedule, ..new });
        self.updated();
    }

    /// Sets the earliest start of a pending job.
    pub fn reschedule(&mut self, at: Schedule) {
        self.new.schedule = at;
        self.updated();
    }
}
