//! Statements that change or delete jobs.

use chrono::{DateTime, Utc};
use diesel::result::QueryResult;
use serde_json::{Value, json};

use crate::database::in_memory::values::{seconds_before, stored_time};
use crate::database::in_memory::violations::Violation;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::{ProcrastinateEvent, ProcrastinateJob};
use crate::database::statements::manage::{
    CancelJobQuery, DeleteJobQuery, DeleteOldJobsQuery, FetchJobQuery, FinishJobQuery, RescheduleJobQuery,
    RetriedOrNot, RetryJobQuery,
};
use crate::job::{JobEventType, JobId, JobStatus};

impl Answer for FetchJobQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJob>> {
        let ids = store.fetch(self.worker_id, self.queues.as_deref(), 1, store.now())?;
        Ok(ids.into_iter().filter_map(|id| store.job(id)).cloned().collect())
    }
}

impl Store {
    fn status_of(&self, id: JobId) -> Option<JobStatus> {
        self.job(id.into()).map(|job| job.status.clone())
    }
}

impl Answer for FinishJobQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(bool, Option<JobStatus>)>> {
        let found = store.status_of(self.job_id);
        let is_finished = matches!(found, Some(JobStatus::Todo | JobStatus::Doing));
        if is_finished && self.delete_job {
            store.delete_ended_job(self.job_id.into());
        } else if is_finished {
            store.update_job(self.job_id.into(), |job| {
                job.attempts += i32::from(job.status == JobStatus::Doing);
                job.status = JobStatus::from(self.end_status);
                job.abort_requested = false;
            })?;
        }
        Ok(vec![(is_finished, found)])
    }
}

impl Answer for CancelJobQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<Option<JobId>>> {
        let id = self.job_id.into();
        match store.status_of(self.job_id) {
            Some(JobStatus::Todo) if self.delete_job => store.delete_job(id),
            Some(JobStatus::Todo | JobStatus::Doing) if self.abort => store.request_abort(id)?,
            Some(JobStatus::Todo) => store.update_job(id, |job| job.status = JobStatus::Cancelled)?,
            _ => return Ok(vec![None]),
        }
        Ok(vec![Some(self.job_id)])
    }
}

/// The result of a retry.
pub(super) enum PutBack {
    Done(JobStatus),
    /// The job is neither failed nor running.
    NotAllowed,
    QueueingLockTaken(Violation),
}

impl Store {
    /// Retries a failed or running job. A running job with an abort request fails instead.
    pub(super) fn retry(
        &mut self,
        retry: RetryJobQuery,
        scheduled_at: Option<DateTime<Utc>>,
    ) -> Result<PutBack, Violation> {
        let RetryJobQuery { job_id, priority, queue, lock, .. } = retry;
        let id = job_id.into();
        match self.job(id) {
            Some(job) if job.status == JobStatus::Doing && job.abort_requested => {
                self.update_job(id, |job| job.status = JobStatus::Failed)?;
                return Ok(PutBack::Done(JobStatus::Failed));
            }
            Some(job) if matches!(job.status, JobStatus::Doing | JobStatus::Failed) => {}
            _ => return Ok(PutBack::NotAllowed),
        }
        let put_back = self.update_job(id, |job| {
            job.status = JobStatus::Todo;
            job.abort_requested = false;
            job.attempts += 1;
            job.scheduled_at = scheduled_at;
            job.priority = priority.unwrap_or(job.priority);
            job.queue_name = queue.unwrap_or_else(|| job.queue_name.clone());
            job.lock = lock.or_else(|| job.lock.clone());
        });
        match put_back {
            Ok(()) => Ok(PutBack::Done(JobStatus::Todo)),
            Err(violation @ Violation::QueueingLock(_)) => Ok(PutBack::QueueingLockTaken(violation)),
            Err(other) => Err(other),
        }
    }
}

impl Answer for RetryJobQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<RetriedOrNot>> {
        let found = store.status_of(self.job_id);
        let task_name = store.job(self.job_id.into()).map(|job| job.task_name.clone());
        let scheduled_at = self.retry_at.map_or(store.now(), stored_time);
        let (new_status, taken) = match store.retry(self, Some(scheduled_at))? {
            PutBack::Done(new_status) => (Some(new_status), None),
            PutBack::QueueingLockTaken(Violation::QueueingLock(lock)) => (None, Some(lock)),
            PutBack::QueueingLockTaken(other) => return Err(other.into()),
            PutBack::NotAllowed => (None, None),
        };
        Ok(vec![(found, new_status, taken, task_name)])
    }
}

impl Answer for RescheduleJobQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(JobStatus, bool)>> {
        let Some(status) = store.status_of(self.job_id) else { return Ok(Vec::new()) };
        let is_changed = status == JobStatus::Todo;
        if is_changed {
            store.update_job(self.job_id.into(), |job| job.scheduled_at = self.schedule_at.map(stored_time))?;
        }
        Ok(vec![(status, is_changed)])
    }
}

impl Answer for DeleteJobQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(JobStatus, bool)>> {
        let Some(status) = store.status_of(self.job_id) else { return Ok(Vec::new()) };
        let is_gone = !matches!(status, JobStatus::Doing | JobStatus::Aborting);
        if is_gone {
            store.delete_job(self.job_id.into());
        }
        Ok(vec![(status, is_gone)])
    }
}

/// Reads the final events of each type, oldest first, and stops after `max_events` events of all types.
impl Answer for DeleteOldJobsQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(i64, bool, Value)>> {
        let statuses: Vec<JobStatus> = self.statuses.iter().map(|label| JobStatus::from(*label)).collect();
        let youngest = seconds_before(store.now(), self.older_than_seconds);
        let max_events = self.max_events.map(|most| usize::try_from(most).unwrap_or_default());
        let predicate = |job: &ProcrastinateJob| {
            statuses.contains(&job.status) && self.queue.as_ref().is_none_or(|queue| *queue == job.queue_name)
        };
        let mut deleted = 0;
        let mut stopped_at = self.start_after.clone().unwrap_or_else(|| json!({}));

        // A pending job that is manually finished as aborted has no final event. Such jobs are only searched for in the
        // first step.
        if self.start_after.is_none() && statuses.contains(&JobStatus::Aborted) {
            let of_type = |event: &ProcrastinateEvent| event.event_type == Some(JobEventType::Aborted);
            let jobs = store.jobs().filter(|job| job.status == JobStatus::Aborted && predicate(job));
            let jobs =
                jobs.filter(|job| store.is_old(job.id, youngest) && !store.events_of(job.id).iter().any(of_type));
            let ids: Vec<i64> = jobs.map(|job| job.id).take(max_events.unwrap_or(usize::MAX)).collect();
            deleted += ids.len();
            ids.into_iter().for_each(|id| store.delete_job(id));
        }

        let mut missing = max_events;
        for event_type in walked_types(&statuses) {
            let label = event_type.as_str();
            let mut last = position(&stopped_at[label]);
            let walked = store.final_events(&event_type, youngest, last);
            let walked = &walked[..walked.len().min(missing.unwrap_or(usize::MAX))];
            missing = missing.map(|missing| missing - walked.len());
            for (at, event_id, job_id) in walked {
                last = Some((*at, *event_id));
                if store.job(*job_id).is_some_and(predicate) && store.is_old(*job_id, youngest) {
                    store.delete_job(*job_id);
                    deleted += 1;
                }
            }
            stopped_at[label] = match last {
                Some((at, id)) => json!({ "at": at, "id": id }),
                None => json!({ "at": "-infinity", "id": 0 }),
            };
        }
        Ok(vec![(i64::try_from(deleted).unwrap_or(i64::MAX), missing == Some(0), stopped_at)])
    }
}

/// A pending job that is manually finished as failed or succeeded gets the event of a cancelled one.
fn walked_types(statuses: &[JobStatus]) -> Vec<JobEventType> {
    let has = |status: JobStatus| statuses.contains(&status);
    let types = [
        (JobEventType::Succeeded, has(JobStatus::Succeeded)),
        (JobEventType::Failed, has(JobStatus::Failed)),
        (JobEventType::Aborted, has(JobStatus::Aborted)),
        (JobEventType::Cancelled, has(JobStatus::Cancelled) || has(JobStatus::Succeeded) || has(JobStatus::Failed)),
    ];
    types.into_iter().filter(|(_, is_walked)| *is_walked).map(|(event_type, _)| event_type).collect()
}

/// The position at which an earlier step stopped, if it passed an event.
fn position(stopped_at: &Value) -> Option<(DateTime<Utc>, i64)> {
    Some((stopped_at["at"].as_str()?.parse().ok()?, stopped_at["id"].as_i64()?))
}

impl Store {
    /// Whether the job has events, and all of them are old.
    pub(super) fn is_old(&self, job_id: i64, youngest: DateTime<Utc>) -> bool {
        let events = self.events_of(job_id);
        !events.is_empty() && events.iter().all(|event| event.at.is_some_and(|at| at < youngest))
    }

    /// The old events of this type after a position: the time, the event and the job.
    fn final_events(
        &self,
        event_type: &JobEventType,
        youngest: DateTime<Utc>,
        after: Option<(DateTime<Utc>, i64)>,
    ) -> Vec<(DateTime<Utc>, i64, i64)> {
        let events = self.jobs().flat_map(|job| self.events_of(job.id));
        let mut events: Vec<_> = events
            .filter(|event| event.event_type.as_ref() == Some(event_type))
            .filter_map(|event| Some((event.at?, event.id, event.job_id)))
            .filter(|(at, id, _)| *at < youngest && after.is_none_or(|after| (*at, *id) > after))
            .collect();
        events.sort_unstable();
        events
    }
}
