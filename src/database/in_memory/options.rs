//! Options that few jobs have, and jobs that have not started in time.

use chrono::{DateTime, Utc};

use super::store::Store;
use super::values::stored_time;
use super::violations::Violation;
use crate::database::models::{ProcrastinateJob, ProcrastinateJobOptions};
use crate::database::statements::defer::ExtraOptions;
use crate::job::{JobEventType, JobStatus};

impl Store {
    /// The options of all jobs that have any, by job.
    pub(crate) fn options(&self) -> impl Iterator<Item = &ProcrastinateJobOptions> {
        self.options.values()
    }

    /// The options of a job, if it has any.
    pub(super) fn options_of(&self, job_id: i64) -> Option<&ProcrastinateJobOptions> {
        self.options.get(&job_id)
    }

    /// Stores the options of a job that was inserted or that has replaced a pending one. With `keeps_schedule`, the
    /// pending job keeps the time by which it must start.
    pub(super) fn store_options(&mut self, job_id: i64, extras: ExtraOptions, keeps_schedule: bool) {
        let start_before = extras.start_before.map(stored_time);
        if let Some(known) = self.options.get_mut(&job_id) {
            known.limit_key = extras.limit_key;
            if !keeps_schedule {
                known.start_before = start_before;
                known.checked_at = None;
            }
            return;
        }
        let start_before = start_before.filter(|_| !keeps_schedule);
        if start_before.is_some() || extras.limit_key.is_some() {
            let limit_key = extras.limit_key;
            let row = ProcrastinateJobOptions { job_id, start_before, limit_key, checked_at: None, is_expired: false };
            self.options.insert(job_id, row);
        }
    }

    /// Cancels the jobs that had to start by this time and were never started. Returns how many.
    pub(super) fn expire(&mut self, due_at: DateTime<Utc>) -> Result<usize, Violation> {
        let due = self.options.values().filter(|row| is_due(row, due_at)).map(|row| row.job_id);
        let mut expired = 0;
        for job_id in due.collect::<Vec<_>>() {
            expired += usize::from(self.compare(job_id)?);
        }
        Ok(expired)
    }

    /// Cancels a job whose time to start is over, if it was never started. Returns whether it did so.
    fn compare(&mut self, job_id: i64) -> Result<bool, Violation> {
        let now = self.now();
        let is_expired = self.job(job_id).is_some_and(|job| self.was_never_started(job));
        if is_expired {
            self.update_job(job_id, |job| job.status = JobStatus::Cancelled)?;
        }
        if let Some(row) = self.options.get_mut(&job_id) {
            row.checked_at = Some(now);
            row.is_expired = is_expired;
        }
        Ok(is_expired)
    }

    /// Cancels those pending jobs with these queueing locks that had to start before now and were never started.
    /// Returns how many.
    pub(super) fn expire_holders<'l>(&mut self, queueing_locks: impl IntoIterator<Item = &'l String>) -> usize {
        let holders: Vec<i64> = queueing_locks.into_iter().filter_map(|lock| self.holder_of(lock)).collect();
        holders.into_iter().filter(|holder| self.expire_job(*holder)).count()
    }

    /// Cancels a pending job that had to start before now and was never started. Returns whether it did so.
    pub(super) fn expire_job(&mut self, job_id: i64) -> bool {
        let is_late = self.options.get(&job_id).is_some_and(|row| is_due(row, self.now()));
        let can_be_compared = self.job(job_id).is_some_and(|job| job.status == JobStatus::Todo && job.attempts == 0);
        is_late && can_be_compared && self.compare(job_id).unwrap_or(false)
    }

    /// Whether a pending job had to start before now and was never started.
    pub(super) fn is_expired(&self, job_id: i64) -> bool {
        self.options.get(&job_id).is_some_and(|row| is_due(row, self.now()))
            && self.job(job_id).is_some_and(|job| self.was_never_started(job))
    }

    fn was_never_started(&self, job: &ProcrastinateJob) -> bool {
        let started = Some(JobEventType::Started);
        job.status == JobStatus::Todo
            && job.attempts == 0
            && self.events_of(job.id).iter().all(|event| event.event_type != started)
    }

    /// Deletes the options of jobs that are gone.
    pub(super) fn forget_options(&mut self) {
        let mut options = std::mem::take(&mut self.options);
        options.retain(|job_id, _| self.job(*job_id).is_some());
        self.options = options;
    }
}

/// Whether a job had to start by this time, and was not compared since.
fn is_due(row: &ProcrastinateJobOptions, due_at: DateTime<Utc>) -> bool {
    row.checked_at.is_none() && row.start_before.is_some_and(|time| time <= due_at)
}
