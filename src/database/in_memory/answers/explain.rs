//! Statements that explain why a job is not running.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use diesel::result::QueryResult;

use crate::database::in_memory::{Answer, Store};
use crate::database::models::{ProcrastinateEvent, ProcrastinateJob, ProcrastinateWorker};
use crate::database::statements::explain::{
    CurrentTime, HolderOfLock, JobOptionsExist, JobsAhead, LastStart, MOST_EXPLAINED, NewestEventsOfJob, RecentStarts,
    RegisteredWorkers, RunningJobs, RunningJobsOfKey,
};
use crate::job::{JobEventType, JobStatus};

impl Answer for CurrentTime {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<DateTime<Utc>>> {
        Ok(vec![store.now()])
    }
}

pub(super) fn count<'j>(jobs: impl Iterator<Item = &'j ProcrastinateJob>) -> i64 {
    i64::try_from(jobs.count()).unwrap_or(i64::MAX)
}

impl Answer for HolderOfLock {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJob>> {
        let place = (Reverse(self.priority), self.job_id.into());
        let others = store.jobs().filter(|job| job.lock.as_ref() == Some(&self.lock) && self.job_id != job.id);
        let holders = others.filter(|job| {
            job.status == JobStatus::Doing || job.status == JobStatus::Todo && (Reverse(job.priority), job.id) < place
        });
        let first = holders.min_by_key(|job| (job.status != JobStatus::Doing, Reverse(job.priority), job.id));
        Ok(first.cloned().into_iter().collect())
    }
}

impl Answer for JobsAhead {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        let place = (Reverse(self.priority), self.job_id.into());
        let now = store.now();
        let ahead = store.waiting_jobs().filter(|job| {
            job.queue_name == self.queue
                && job.scheduled_at.is_none_or(|scheduled_at| scheduled_at <= now)
                && (Reverse(job.priority), job.id) < place
        });
        Ok(vec![count(ahead)])
    }
}

impl Answer for LastStart {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<Option<DateTime<Utc>>>> {
        let jobs = store.jobs().filter(|job| job.queue_name == self.queue);
        let events = jobs.flat_map(|job| store.events_of(job.id));
        let starts = events.filter(|event| event.event_type == Some(JobEventType::Started));
        Ok(vec![starts.filter_map(|event| event.at).max()])
    }
}

/// The running jobs of a queue or task.
fn running_jobs<'s>(store: &'s Store, kind: &str, name: &str) -> impl Iterator<Item = &'s ProcrastinateJob> {
    let running = store.jobs().filter(|job| job.status == JobStatus::Doing);
    running.filter(move |job| if kind == "queue" { job.queue_name == name } else { job.task_name == name })
}

impl Answer for RunningJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        Ok(vec![count(running_jobs(store, &self.kind, &self.name))])
    }
}

impl Answer for RecentStarts {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(i64, Option<DateTime<Utc>>)>> {
        let (starts, ends_at) = store.recent_starts(&(self.kind, self.name), self.period_seconds);
        Ok(vec![(i64::try_from(starts).unwrap_or(i64::MAX), ends_at)])
    }
}

impl Answer for RunningJobsOfKey {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(String, i64)>> {
        let Some(job) = store.job(self.job_id.into()) else { return Ok(Vec::new()) };
        let key = store.key_at(job, &self.path);
        if key.is_empty() {
            return Ok(Vec::new());
        }
        let has_key_of_queue = |job: &ProcrastinateJob| store.key_of(job).is_some_and(|((kind, _), _)| kind == "queue");
        let running = running_jobs(store, &self.kind, &self.name)
            .filter(|job| (self.kind == "queue" || !has_key_of_queue(job)) && store.key_at(job, &self.path) == key);
        let running = count(running);
        Ok(vec![(key, running)])
    }
}

impl Answer for JobOptionsExist {
    fn answer(self, _store: &mut Store) -> QueryResult<Vec<bool>> {
        Ok(vec![true])
    }
}

impl Answer for NewestEventsOfJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateEvent>> {
        let most = usize::try_from(MOST_EXPLAINED).unwrap_or(usize::MAX);
        Ok(store.events_of(self.job_id.into()).iter().rev().take(most).cloned().collect())
    }
}

impl Answer for RegisteredWorkers {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateWorker>> {
        Ok(store.workers().cloned().collect())
    }
}
