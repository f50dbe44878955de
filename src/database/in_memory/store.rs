//! The tables, and what the database does when a row changes: constraints, sequences, events and notifications.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::ExecutedQuery;
use super::controls::Flow;
use super::listeners::Listeners;
use super::sequence::Sequence;
use super::unique_keys::HeldKey;
use super::values::{stored_args, stored_time};
use super::violations::Violation;
use crate::database::models::{
    ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinateJobOptions, ProcrastinatePeriodicDefer,
    ProcrastinateSchedule, ProcrastinateWorker,
};
use crate::database::statements::defer::NewJob;
use crate::database::statements::schedules::ScheduleKey;
use crate::job::{JobEventType, JobStatus};
use crate::support::clock;

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// The start of the current statement, PostgreSQL's `now()`.
    now: DateTime<Utc>,
    /// Jobs by ID. Only the functions of this module change them, because they maintain the indexes.
    jobs: BTreeMap<i64, ProcrastinateJob>,
    /// An index: the pending jobs in the order in which they are fetched.
    waiting: BTreeSet<(Reverse<i32>, i64)>,
    /// An index: the pending job that holds each queueing lock.
    queueing_locks: HashMap<String, i64>,
    /// An index: the running job that holds each lock.
    running_locks: HashMap<String, i64>,
    /// Events by the ID of their job, oldest first.
    events: BTreeMap<i64, Vec<ProcrastinateEvent>>,
    /// Errors by job and attempt.
    pub(super) errors: BTreeMap<(i64, i32), ProcrastinateJobError>,
    workers: BTreeMap<i64, ProcrastinateWorker>,
    periodic_defers: BTreeMap<i64, ProcrastinatePeriodicDefer>,
    /// Pauses and limits.
    pub(super) flow: Flow,
    /// Options of jobs that few jobs have.
    pub(super) options: BTreeMap<i64, ProcrastinateJobOptions>,
    pub(super) unique_keys: BTreeMap<String, HeldKey>,
    /// The schedules of periodic tasks.
    pub(super) schedules: BTreeMap<ScheduleKey, ProcrastinateSchedule>,
    queries: Vec<ExecutedQuery>,
    pub(super) listeners: Listeners,
    job_ids: Sequence,
    event_ids: Sequence,
    worker_ids: Sequence,
    periodic_defer_ids: Sequence,
    pub(super) schedule_versions: Sequence,
}

/// Functions that read.
impl Store {
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(super) fn job(&self, id: i64) -> Option<&ProcrastinateJob> {
        self.jobs.get(&id)
    }

    /// All jobs, by ID.
    pub(crate) fn jobs(&self) -> impl DoubleEndedIterator<Item = &ProcrastinateJob> {
        self.jobs.values()
    }

    /// The pending jobs in the order in which they are fetched.
    pub(super) fn waiting_jobs(&self) -> impl Iterator<Item = &ProcrastinateJob> {
        self.waiting.iter().filter_map(|(_, id)| self.jobs.get(id))
    }

    pub(super) fn is_lock_running(&self, lock: &str) -> bool {
        self.running_locks.contains_key(lock)
    }

    /// The pending job that holds this queueing lock.
    pub(super) fn holder_of(&self, queueing_lock: &str) -> Option<i64> {
        self.queueing_locks.get(queueing_lock).copied()
    }

    pub(crate) fn events_of(&self, job_id: i64) -> &[ProcrastinateEvent] {
        self.events.get(&job_id).map_or(&[], Vec::as_slice)
    }

    /// All events, by ID.
    pub(crate) fn events(&self) -> Vec<ProcrastinateEvent> {
        let mut events: Vec<_> = self.events.values().flatten().cloned().collect();
        events.sort_by_key(|event| event.id);
        events
    }

    /// All errors, by job and attempt.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &ProcrastinateJobError> {
        self.errors.values()
    }

    /// All workers, by ID.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &ProcrastinateWorker> {
        self.workers.values()
    }

    pub(super) fn worker(&self, id: i64) -> Option<&ProcrastinateWorker> {
        self.workers.get(&id)
    }

    /// All deferred ticks, by ID.
    pub(crate) fn periodic_defers(&self) -> impl Iterator<Item = &ProcrastinatePeriodicDefer> {
        self.periodic_defers.values()
    }

    pub(crate) fn queries(&self) -> &[ExecutedQuery] {
        &self.queries
    }
}

/// Functions that start a statement, or reset everything.
impl Store {
    pub(super) fn begin(&mut self, query: ExecutedQuery) {
        self.now = stored_time(clock::now());
        self.queries.push(query);
    }

    /// Empties the tables and restarts their sequences. Listeners stay.
    pub(crate) fn reset(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        *self = Self { listeners, ..Self::default() };
    }
}

/// Functions that change jobs.
impl Store {
    /// Inserts a pending job without notifying listeners.
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

    /// Uses up IDs of jobs.
    pub(super) fn skip_job_ids(&mut self, count: usize) {
        for _ in 0..count {
            self.job_ids.draw();
        }
    }

    /// Gives a pending job the values of another one, except for its queueing lock and perhaps its schedule.
    pub(super) fn replace_job(&mut self, id: i64, by: NewJob, keeps_schedule: bool) -> Result<(), Violation> {
        self.update_job(id, |job| {
            job.queue_name = by.queue;
            job.task_name = by.task_name;
            job.priority = by.priority;
            job.lock = by.lock;
            job.args = stored_args(by.args);
            if !keeps_schedule {
                job.scheduled_at = by.scheduled_at.map(stored_time);
            }
        })
    }

    /// Changes a job, if it exists, and writes its events.
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

    /// Raises the priority of a job, without an event.
    pub(super) fn set_priority(&mut self, id: i64, priority: i32) {
        let Some(mut job) = self.jobs.get(&id).cloned() else { return };
        self.remove_from_indexes(id);
        job.priority = priority;
        self.put(job);
    }

    /// Cancels a pending job, or requests an abort of a running one.
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

    /// Deletes a job with its events and errors. Its tick stays on record.
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

    /// Checks the constraints of a row.
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

    /// Writes the event of a scheduled job, with the scheduled time as its time. Every change of the job adds one.
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

/// The event of a change of status, if it is a change.
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

/// Functions that change workers and deferred ticks.
impl Store {
    pub(super) fn insert_worker(&mut self) -> i64 {
        let id = self.draw_worker_id();
        self.insert_worker_as(id);
        id
    }

    pub(super) fn draw_worker_id(&mut self) -> i64 {
        self.worker_ids.draw()
    }

    /// Inserts a worker with this ID, unless there is one.
    pub(super) fn insert_worker_as(&mut self, id: i64) {
        let last_heartbeat = self.now;
        self.workers.entry(id).or_insert(ProcrastinateWorker { id, last_heartbeat });
    }

    pub(super) fn worker_mut(&mut self, id: i64) -> Option<&mut ProcrastinateWorker> {
        self.workers.get_mut(&id)
    }

    /// Releases the running jobs of a worker, which is about to be removed.
    pub(super) fn release_worker(&mut self, id: i64) -> Result<(), Violation> {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.last_heartbeat = DateTime::UNIX_EPOCH;
        }
        let is_its_own = |job: &&ProcrastinateJob| job.worker_id == Some(id) && job.status == JobStatus::Doing;
        let held: Vec<i64> = self.jobs().filter(is_its_own).map(|job| job.id).collect();
        held.into_iter().try_for_each(|job_id| self.update_job(job_id, |job| job.worker_id = None))
    }

    /// Removes a worker. All its jobs lose their worker, including finished and pending ones.
    pub(super) fn delete_worker(&mut self, id: i64) -> Result<(), Violation> {
        self.workers.remove(&id);
        let its_jobs: Vec<i64> = self.jobs().filter(|job| job.worker_id == Some(id)).map(|job| job.id).collect();
        its_jobs.into_iter().try_for_each(|job_id| self.update_job(job_id, |job| job.worker_id = None))
    }

    /// Claims a tick. `None` means that it was claimed already.
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

    /// Releases a tick for which nothing was deferred.
    pub(super) fn give_back_tick(&mut self, id: i64) {
        self.periodic_defers.remove(&id);
    }

    /// Records the job of a claimed tick, if any, and deletes older ticks of its schedule. A tick after `latest` comes
    /// from a wrong clock, and deletes none.
    pub(super) fn settle_tick(&mut self, id: i64, job_id: Option<i64>, latest: i64) {
        let Some(settled) = self.periodic_defers.get_mut(&id) else { return };
        settled.job_id = job_id;
        let settled = settled.clone();
        self.periodic_defers.retain(|_, defer| {
            defer.task_name != settled.task_name
                || defer.periodic_id != settled.periodic_id
                || defer.defer_timestamp >= settled.defer_timestamp
                || settled.defer_timestamp > Some(latest)
        });
    }
}
