//! The tables, and what the database does by itself when a row of theirs changes: constraints, numbers, events, messages.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::ExecutedQuery;
use super::listeners::Listeners;
use super::values::{stored_args, stored_time};
use super::violations::Violation;
use crate::database::models::{
    ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinatePeriodicDefer, ProcrastinateWorker,
};
use crate::database::statements::defer::NewJob;
use crate::job::{JobEventType, JobStatus};
use crate::support::clock;

/// Numbers in a row. As those of a sequence in the database, one that was drawn is gone, whatever it was drawn for.
#[derive(Debug, Default)]
struct Sequence(i64);

impl Sequence {
    fn draw(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// When the statement began that is being answered: PostgreSQL's `now()`.
    now: DateTime<Utc>,
    /// By number. Changed through the functions of this module only, which keep the indexes.
    jobs: BTreeMap<i64, ProcrastinateJob>,
    /// An index: the jobs that wait, in the order in which they are to be fetched.
    waiting: BTreeSet<(Reverse<i32>, i64)>,
    /// An index: who holds each queueing lock, of the jobs that wait.
    queueing_locks: HashMap<String, i64>,
    /// An index: who holds each lock, of the jobs that run.
    running_locks: HashMap<String, i64>,
    /// By the number of their job, oldest first.
    events: BTreeMap<i64, Vec<ProcrastinateEvent>>,
    /// By job and attempt.
    pub(super) errors: BTreeMap<(i64, i32), ProcrastinateJobError>,
    workers: BTreeMap<i64, ProcrastinateWorker>,
    periodic_defers: BTreeMap<i64, ProcrastinatePeriodicDefer>,
    queries: Vec<ExecutedQuery>,
    pub(super) listeners: Listeners,
    job_ids: Sequence,
    event_ids: Sequence,
    worker_ids: Sequence,
    periodic_defer_ids: Sequence,
}

/// Looking.
impl Store {
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(super) fn job(&self, id: i64) -> Option<&ProcrastinateJob> {
        self.jobs.get(&id)
    }

    /// All jobs, by number.
    pub(crate) fn jobs(&self) -> impl DoubleEndedIterator<Item = &ProcrastinateJob> {
        self.jobs.values()
    }

    /// The jobs that wait, in the order in which they are to be fetched.
    pub(super) fn waiting_jobs(&self) -> impl Iterator<Item = &ProcrastinateJob> {
        self.waiting.iter().filter_map(|(_, id)| self.jobs.get(id))
    }

    pub(super) fn is_lock_running(&self, lock: &str) -> bool {
        self.running_locks.contains_key(lock)
    }

    /// Whether a job that waits has this queueing lock.
    pub(super) fn is_enqueued(&self, queueing_lock: &str) -> bool {
        self.queueing_locks.contains_key(queueing_lock)
    }

    pub(crate) fn events_of(&self, job_id: i64) -> &[ProcrastinateEvent] {
        self.events.get(&job_id).map_or(&[], Vec::as_slice)
    }

    /// All events, by number.
    pub(crate) fn events(&self) -> Vec<ProcrastinateEvent> {
        let mut events: Vec<_> = self.events.values().flatten().cloned().collect();
        events.sort_by_key(|event| event.id);
        events
    }

    /// All errors, by job and attempt.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &ProcrastinateJobError> {
        self.errors.values()
    }

    /// All workers, by number.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &ProcrastinateWorker> {
        self.workers.values()
    }

    pub(super) fn worker(&self, id: i64) -> Option<&ProcrastinateWorker> {
        self.workers.get(&id)
    }

    /// All periodic defers, by number.
    pub(crate) fn periodic_defers(&self) -> impl Iterator<Item = &ProcrastinatePeriodicDefer> {
        self.periodic_defers.values()
    }

    pub(crate) fn queries(&self) -> &[ExecutedQuery] {
        &self.queries
    }
}

/// Beginning, a statement or from the start.
impl Store {
    pub(super) fn begin(&mut self, query: ExecutedQuery) {
        self.now = stored_time(clock::now());
        self.queries.push(query);
    }

    /// Empties the tables and begins their numbers anew. Who listens goes on.
    pub(crate) fn reset(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        *self = Self { listeners, ..Self::default() };
    }
}

/// Changing jobs.
impl Store {
    /// Inserts a job that waits, and says nothing to listeners.
    pub(super) fn insert_job(&mut self, job: NewJob) -> Result<i64, Violation> {
        let id = self.job_ids.draw();
        let NewJob { queue, task_name, priority, lock, queueing_lock, args, scheduled_at } = job;
        let job = ProcrastinateJob {
            id,
            queue_name: queue,
            task_name,
            priority,
            lock,
            queueing_lock,
            args: stored_args(args),
            status: JobStatus::Todo,
            scheduled_at: scheduled_at.map(stored_time),
            attempts: 0,
            abort_requested: false,
            worker_id: None,
        };
        self.check(&job)?;
        self.write_scheduled_event(&job);
        self.write_event(id, JobEventType::Deferred);
        self.put(job);
        Ok(id)
    }

    /// Draws as many numbers of jobs for nothing.
    pub(super) fn skip_job_ids(&mut self, count: usize) {
        for _ in 0..count {
            self.job_ids.draw();
        }
    }

    /// Changes a job, if it is there, and writes the events that belong to it.
    pub(super) fn update_job(&mut self, id: i64, change: impl FnOnce(&mut ProcrastinateJob)) -> Result<(), Violation> {
        let Some(old) = self.jobs.get(&id) else { return Ok(()) };
        let mut new = old.clone();
        change(&mut new);
        self.check(&new)?;
        self.write_scheduled_event(&new);
        if let Some(event_type) = self.jobs.get(&id).and_then(|old| event_of(&old.status, &new.status)) {
            self.write_event(id, event_type);
        }
        self.remove_from_indexes(id);
        self.put(new);
        Ok(())
    }

    /// Has a job that waits be cancelled, or asks for one that runs to be aborted.
    pub(super) fn request_abort(&mut self, id: i64) -> Result<(), Violation> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        if job.status == JobStatus::Doing && !job.abort_requested {
            self.listeners.tell_of_abort(&job.queue_name, id);
        }
        self.write_event(id, JobEventType::AbortRequested);
        self.update_job(id, |job| {
            job.abort_requested = true;
            if job.status == JobStatus::Todo {
                job.status = JobStatus::Cancelled;
            }
        })
    }

    /// Deletes a job, and what belongs to it. A tick that it was deferred for stays on record.
    pub(super) fn delete_job(&mut self, id: i64) {
        self.remove_from_indexes(id);
        self.jobs.remove(&id);
        self.events.remove(&id);
        self.forget_errors(id, i32::MAX);
        for defer in self.periodic_defers.values_mut().filter(|defer| defer.job_id == Some(id)) {
            defer.job_id = None;
        }
    }

    /// Deletes the errors of a job's attempts up to this one.
    pub(super) fn forget_errors(&mut self, job_id: i64, last_attempt: i32) {
        let forgotten: Vec<_> =
            self.errors.range((job_id, i32::MIN)..=(job_id, last_attempt)).map(|(key, _)| *key).collect();
        for key in forgotten {
            self.errors.remove(&key);
        }
    }

    /// Whether a row can be as this one is.
    fn check(&self, job: &ProcrastinateJob) -> Result<(), Violation> {
        let is_others = |holder: Option<&i64>| holder.is_some_and(|holder| *holder != job.id);
        match (&job.status, &job.queueing_lock, &job.lock) {
            (JobStatus::Todo, Some(lock), _) if is_others(self.queueing_locks.get(lock)) => {
                return Err(Violation::QueueingLock(lock.clone()));
            }
            (JobStatus::Doing, _, Some(lock)) if is_others(self.running_locks.get(lock)) => {
                return Err(Violation::Lock(lock.clone()));
            }
            _ => {}
        }
        match job.worker_id {
            Some(worker_id) if !self.workers.contains_key(&worker_id) => Err(Violation::Worker(worker_id)),
            _ => Ok(()),
        }
    }

    fn put(&mut self, job: ProcrastinateJob) {
        match job.status {
            JobStatus::Todo => {
                self.waiting.insert((Reverse(job.priority), job.id));
                self.queueing_locks.extend(job.queueing_lock.clone().map(|lock| (lock, job.id)));
            }
            JobStatus::Doing => self.running_locks.extend(job.lock.clone().map(|lock| (lock, job.id))),
            _ => {}
        }
        self.jobs.insert(job.id, job);
    }

    fn remove_from_indexes(&mut self, id: i64) {
        let Some(job) = self.jobs.get(&id) else { return };
        match job.status {
            JobStatus::Todo => {
                self.waiting.remove(&(Reverse(job.priority), id));
                job.queueing_lock.as_ref().map(|lock| self.queueing_locks.remove(lock));
            }
            JobStatus::Doing => {
                job.lock.as_ref().map(|lock| self.running_locks.remove(lock));
            }
            _ => {}
        }
    }

    /// A job that waits for its time gets one with every change, dated with that time.
    fn write_scheduled_event(&mut self, job: &ProcrastinateJob) {
        if let (JobStatus::Todo, Some(scheduled_at)) = (&job.status, job.scheduled_at) {
            self.write_event_at(job.id, JobEventType::Scheduled, scheduled_at);
        }
    }

    fn write_event(&mut self, job_id: i64, event_type: JobEventType) {
        self.write_event_at(job_id, event_type, self.now);
    }

    fn write_event_at(&mut self, job_id: i64, event_type: JobEventType, at: DateTime<Utc>) {
        let id = self.event_ids.draw();
        let event = ProcrastinateEvent { id, job_id, event_type: Some(event_type), at: Some(at) };
        self.events.entry(job_id).or_default().push(event);
    }
}

/// The event of a change of status, if that is one.
fn event_of(old: &JobStatus, new: &JobStatus) -> Option<JobEventType> {
    match (old, new) {
        (JobStatus::Todo, JobStatus::Doing) => Some(JobEventType::Started),
        (JobStatus::Todo, JobStatus::Cancelled | JobStatus::Failed | JobStatus::Succeeded) => {
            Some(JobEventType::Cancelled)
        }
        (JobStatus::Doing, JobStatus::Todo) => Some(JobEventType::DeferredForRetry),
        (JobStatus::Doing, JobStatus::Succeeded) => Some(JobEventType::Succeeded),
        (JobStatus::Doing, JobStatus::Failed) => Some(JobEventType::Failed),
        (JobStatus::Doing, JobStatus::Aborted) => Some(JobEventType::Aborted),
        (JobStatus::Failed, JobStatus::Todo) => Some(JobEventType::Retried),
        _ => None,
    }
}

/// Changing workers and periodic defers.
impl Store {
    pub(super) fn insert_worker(&mut self) -> i64 {
        let id = self.worker_ids.draw();
        self.workers.insert(id, ProcrastinateWorker { id, last_heartbeat: self.now });
        id
    }

    pub(super) fn worker_mut(&mut self, id: i64) -> Option<&mut ProcrastinateWorker> {
        self.workers.get_mut(&id)
    }

    /// Removes a worker. Its jobs have none then, those that have ended or wait again among them.
    pub(super) fn delete_worker(&mut self, id: i64) -> Result<(), Violation> {
        self.workers.remove(&id);
        let its_jobs: Vec<i64> = self.jobs().filter(|job| job.worker_id == Some(id)).map(|job| job.id).collect();
        its_jobs.into_iter().try_for_each(|job_id| self.update_job(job_id, |job| job.worker_id = None))
    }

    /// Claims a tick; `None`: somebody has it already.
    pub(super) fn claim_tick(&mut self, task_name: &str, periodic_id: &str, defer_timestamp: i64) -> Option<i64> {
        let id = self.periodic_defer_ids.draw();
        let is_claimed = self.periodic_defers().any(|defer| {
            defer.task_name == task_name
                && defer.periodic_id == periodic_id
                && defer.defer_timestamp == Some(defer_timestamp)
        });
        if is_claimed {
            return None;
        }
        let defer = ProcrastinatePeriodicDefer {
            id,
            task_name: task_name.to_owned(),
            defer_timestamp: Some(defer_timestamp),
            job_id: None,
            periodic_id: periodic_id.to_owned(),
        };
        self.periodic_defers.insert(id, defer);
        Some(id)
    }

    /// Gives a tick back that nothing was deferred for.
    pub(super) fn give_back_tick(&mut self, id: i64) {
        self.periodic_defers.remove(&id);
    }

    /// Writes down which job a claimed tick was deferred as, and clears older ticks of its schedule away.
    pub(super) fn settle_tick(&mut self, id: i64, job_id: i64) {
        let Some(settled) = self.periodic_defers.get_mut(&id) else { return };
        settled.job_id = Some(job_id);
        let settled = settled.clone();
        self.periodic_defers.retain(|_, defer| {
            defer.task_name != settled.task_name
                || defer.periodic_id != settled.periodic_id
                || defer.defer_timestamp >= settled.defer_timestamp
        });
    }
}
