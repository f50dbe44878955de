//! Statements that finish, fetch and rescue jobs.

use std::time::Duration;

use diesel::result::QueryResult;
use serde::Deserialize;
use serde_json::Value;

use crate::database::in_memory::answers::workers::is_doing;
use crate::database::in_memory::values::read_time;
use crate::database::in_memory::violations::{Violation, raised};
use crate::database::in_memory::{Answer, Store};
use crate::database::models::{ProcrastinateJob, ProcrastinateJobError};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs, FinishedOrFetched, JobsOfWorker};
use crate::database::statements::rescue::{JobsWithoutWorker, RescueJobs, RescuedJob};
use crate::job::{Job, JobId, JobStatus};

/// How many errors of a job are kept, in case it is retried indefinitely.
const MOST_ERRORS: i32 = 100;

/// How many jobs of stalled workers are returned at once.
const MOST_WITHOUT_WORKER: usize = 1_000;

/// The row of a fetched job.
fn fetched(job: &ProcrastinateJob) -> FinishedOrFetched {
    let job = job.clone();
    let job = Job {
        id: job.id.into(),
        queue: job.queue_name,
        task_name: job.task_name,
        priority: job.priority,
        lock: job.lock,
        queueing_lock: job.queueing_lock,
        args: job.args,
        scheduled_at: job.scheduled_at,
        attempts: job.attempts,
        abort_requested: job.abort_requested,
        worker_id: job.worker_id,
    };
    FinishedOrFetched::Fetched(Box::new(FetchedJob { job, unreadable_args: None }))
}

impl Answer for JobsOfWorker {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<FinishedOrFetched>> {
        let jobs = self.job_ids.into_iter().filter_map(|id| store.job(id.into()));
        Ok(jobs.filter(|job| is_doing(job, Some(self.worker_id))).map(fetched).collect())
    }
}

impl Answer for JobsWithoutWorker {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<FinishedOrFetched>> {
        let jobs = store.jobs().filter(|job| {
            is_doing(job, None) && job.id > i64::from(self.after) && self.task_names.contains(&job.task_name)
        });
        Ok(jobs.take(MOST_WITHOUT_WORKER).map(fetched).collect())
    }
}

/// A job to retry or rescue.
#[derive(Deserialize)]
struct RetryEntry {
    job_id: JobId,
    attempts: Option<i32>,
    #[serde(default)]
    is_retried: bool,
    retry_at: Option<String>,
    retry_in: Option<f64>,
    priority: Option<i32>,
    queue_name: Option<String>,
    lock: Option<String>,
    counts_as_attempt: Option<bool>,
    #[serde(default)]
    is_deleted_if_failed: bool,
    error: Option<String>,
}

/// The error of an attempt.
#[derive(Deserialize)]
struct ErrorEntry {
    job_id: JobId,
    attempts: Option<i32>,
    error: String,
    worker_name: Option<String>,
    duration_seconds: Option<f64>,
}

fn read<T: for<'v> Deserialize<'v>>(value: Value) -> QueryResult<Vec<T>> {
    serde_json::from_value(value).map_err(|error| raised(format!("the jobs cannot be read: {error}")))
}

impl Answer for RescueJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<RescuedJob>> {
        let mut rescues: Vec<RetryEntry> = read(Value::Array(self.rescues))?;
        rescues.sort_by_key(|rescue| rescue.job_id);
        let mut rows = Vec::new();
        for rescue in rescues {
            let id = rescue.job_id;
            let Some(job) = store.job(id.into()) else { continue };
            if !is_doing(job, None) || rescue.attempts != Some(job.attempts) {
                continue;
            }
            let (attempt, is_abort_requested) = (job.attempts.saturating_add(1), job.abort_requested);
            store.keep_error(id, attempt, rescue.error.clone().unwrap_or_default(), None);
            if is_abort_requested || !rescue.is_retried {
                let became = if is_abort_requested { JobStatus::Aborted } else { JobStatus::Failed };
                store.end(id, became.clone(), false)?;
                if rescue.is_deleted_if_failed {
                    store.delete_ended_job(id.into());
                }
                rows.push((id, Some(became), None));
                continue;
            }
            let is_deleted_if_failed = rescue.is_deleted_if_failed;
            if let Some(became) = store.put_back(rescue, None)? {
                if is_deleted_if_failed && became == JobStatus::Failed {
                    store.delete_ended_job(id.into());
                }
                rows.push((id, Some(became), None));
            }
        }
        Ok(rows)
    }
}

impl Answer for FinishAndFetchJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<FinishedOrFetched>> {
        let worker_id = self.worker_id;
        let failures = self.errors.map(read::<ErrorEntry>).transpose()?.unwrap_or_default();
        let mut retries = self.retries.map(read::<RetryEntry>).transpose()?.unwrap_or_default();
        retries.sort_by_key(|retry| retry.job_id);

        let forgotten: Vec<_> = failures.iter().filter_map(|entry| Some((entry.job_id, entry.attempts?))).collect();
        failures.into_iter().for_each(|entry| store.keep_error_entry(entry, worker_id));
        let deleted_ids = self.deleted.unwrap_or_default();
        let outcomes = self.finished.into_iter().zip(self.end_statuses).zip(self.finished_attempts);
        let mut rows = store.finish_of_worker(outcomes.filter(|((id, _), _)| !deleted_ids.contains(id)), worker_id)?;
        let deleted = deleted_ids.into_iter().zip(self.deleted_attempts.unwrap_or_default());
        rows.extend(store.delete_of_worker(deleted, worker_id));
        for retry in retries {
            rows.extend(store.retry_of_worker(retry, worker_id)?);
        }
        // A worker without a row has no jobs, so nothing has been changed so far.
        let is_lost = rows.iter().any(|row| matches!(row, FinishedOrFetched::Lost(_)));
        if is_lost {
            store.check_worker(worker_id)?;
        }
        for (job_id, attempts) in forgotten.into_iter().filter(|(_, attempts)| *attempts >= MOST_ERRORS) {
            store.forget_errors(job_id.into(), attempts - MOST_ERRORS + 1);
        }
        let wanted = usize::try_from(self.free_slots).unwrap_or_default();
        let now = self.due_at.unwrap_or(store.now());
        let ids = store.fetch(worker_id, self.queues.as_deref(), wanted, now)?;
        if ids.len() < wanted {
            rows.extend(store.wait_for_room(self.queues.as_deref(), now).map(FinishedOrFetched::Wait));
        }
        rows.extend(ids.into_iter().filter_map(|id| store.job(id)).map(fetched));
        Ok(rows)
    }
}

/// The steps of finishing and fetching.
impl Store {
    fn is_of(&self, id: JobId, attempts: i32, worker_id: i64) -> bool {
        self.job(id.into()).is_some_and(|job| is_doing(job, Some(worker_id)) && job.attempts == attempts)
    }

    /// Stores the error of an attempt, if this worker holds the job. The error of an attempt that has one already is
    /// kept.
    fn keep_error_entry(&mut self, entry: ErrorEntry, worker_id: i64) {
        let id = entry.job_id;
        let its_attempts = self.job(id.into()).filter(|job| is_doing(job, Some(worker_id))).map(|job| job.attempts);
        if let Some(attempts) = its_attempts.filter(|attempts| entry.attempts.is_none_or(|told| told == *attempts)) {
            let of_worker = (worker_id, entry.worker_name, entry.duration_seconds);
            self.keep_error(id, attempts.saturating_add(1), entry.error, Some(of_worker));
        }
    }

    fn keep_error(
        &mut self,
        id: JobId,
        attempt: i32,
        error: String,
        of_worker: Option<(i64, Option<String>, Option<f64>)>,
    ) {
        let (worker_id, worker_name, duration_seconds) = match of_worker {
            Some((worker_id, worker_name, duration_seconds)) => (Some(worker_id), worker_name, duration_seconds),
            None => (None, None, None),
        };
        let (job_id, at) = (id.into(), self.now());
        let kept = ProcrastinateJobError { job_id, attempt, error, worker_id, worker_name, duration_seconds, at };
        self.errors.entry((job_id, attempt)).or_insert(kept);
    }

    /// Finishes a running job. Its worker stays recorded unless it is cleared.
    fn end(&mut self, id: JobId, status: JobStatus, lets_go: bool) -> Result<(), Violation> {
        self.update_job(id.into(), |job| {
            job.status = status;
            job.abort_requested = false;
            job.attempts = job.attempts.saturating_add(1);
            job.worker_id = job.worker_id.filter(|_| !lets_go);
        })
    }

    /// Finishes jobs of this worker and clears their worker. A job with that status already was finished by an earlier
    /// call.
    fn finish_of_worker(
        &mut self,
        outcomes: impl Iterator<Item = ((JobId, &'static str), i32)>,
        worker_id: i64,
    ) -> Result<Vec<FinishedOrFetched>, Violation> {
        let mut lost = Vec::new();
        for ((id, status), attempts) in outcomes {
            let status = JobStatus::from(status);
            if self.is_of(id, attempts, worker_id) {
                self.end(id, status, true)?;
                continue;
            }
            let stands_so = |job: &ProcrastinateJob| {
                job.status == status
                    && job.attempts == attempts.saturating_add(1)
                    && job.worker_id.is_none_or(|of_job| of_job == worker_id)
            };
            if !self.job(id.into()).is_some_and(stands_so) {
                lost.push(FinishedOrFetched::Lost(id));
            }
        }
        Ok(lost)
    }

    /// Deletes jobs of this worker. A missing job was deleted by an earlier call or manually.
    fn delete_of_worker(
        &mut self,
        deleted: impl Iterator<Item = (JobId, i32)>,
        worker_id: i64,
    ) -> Vec<FinishedOrFetched> {
        let mut lost = Vec::new();
        for (id, attempts) in deleted {
            if self.is_of(id, attempts, worker_id) {
                self.delete_ended_job(id.into());
            } else if self.job(id.into()).is_some() {
                lost.push(FinishedOrFetched::Lost(id));
            }
        }
        lost
    }

    /// Retries jobs of this worker. A job that is not running, or is in a later attempt, was retried by an earlier call
    /// or finished manually.
    fn retry_of_worker(&mut self, retry: RetryEntry, worker_id: i64) -> Result<Option<FinishedOrFetched>, Violation> {
        let (id, attempts, is_deleted_if_failed) = (retry.job_id, retry.attempts, retry.is_deleted_if_failed);
        match self.put_back(retry, Some(worker_id))? {
            Some(JobStatus::Failed) => {
                if is_deleted_if_failed {
                    self.delete_ended_job(id.into());
                }
                return Ok(Some(FinishedOrFetched::NotRetried(id)));
            }
            Some(_) => return Ok(None),
            None => {}
        }
        let is_lost = |job: &ProcrastinateJob| {
            job.status == JobStatus::Doing
                && (job.worker_id != Some(worker_id) || attempts.is_some_and(|attempts| job.attempts <= attempts))
        };
        Ok(self.job(id.into()).is_some_and(is_lost).then_some(FinishedOrFetched::Lost(id)))
    }

    /// Retries a job that this worker, or no worker, holds in this attempt. An abort request wins. Returns the result.
    fn put_back(&mut self, retry: RetryEntry, worker_id: Option<i64>) -> Result<Option<JobStatus>, Violation> {
        let RetryEntry { job_id, attempts, retry_at, retry_in, priority, queue_name, lock, counts_as_attempt, .. } =
            retry;
        let predicate = |job: &&ProcrastinateJob| {
            is_doing(job, worker_id) && attempts.is_none_or(|attempts| job.attempts == attempts)
        };
        let Some(job) = self.job(job_id.into()).filter(predicate) else { return Ok(None) };
        if job.abort_requested {
            self.update_job(job_id.into(), |job| {
                job.status = JobStatus::Failed;
                job.worker_id = None;
            })?;
            return Ok(Some(JobStatus::Failed));
        }
        let delay = Duration::try_from_secs_f64(retry_in.unwrap_or_default()).unwrap_or_default();
        let scheduled_at = read_time(retry_at.as_deref()).unwrap_or(self.now() + delay);
        let put_back = self.update_job(job_id.into(), |job| {
            job.status = JobStatus::Todo;
            job.worker_id = None;
            job.attempts = job.attempts.saturating_add(i32::from(counts_as_attempt.unwrap_or(true)));
            job.scheduled_at = Some(scheduled_at);
            job.priority = priority.unwrap_or(job.priority);
            job.queue_name = queue_name.unwrap_or_else(|| job.queue_name.clone());
            job.lock = lock.or_else(|| job.lock.clone());
        });
        match put_back {
            Ok(()) => Ok(Some(JobStatus::Todo)),
            // It cannot be pending alongside the job that holds its queueing lock.
            Err(Violation::QueueingLock(_)) => {
                self.end(job_id, JobStatus::Failed, true)?;
                Ok(Some(JobStatus::Failed))
            }
            Err(other) => Err(other),
        }
    }
}
