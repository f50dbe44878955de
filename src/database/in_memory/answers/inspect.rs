//! Statements that only read jobs.

use std::collections::BTreeMap;

use diesel::result::QueryResult;

use crate::database::in_memory::values::seconds_before;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::ProcrastinateJob;
use crate::database::statements::inspect::{
    CheckConnectionQuery, CountJobs, CountedColumn, CountedJobs, GetJobStatusQuery, JOBS_IN_STEP, JobFilter,
    JobsToAbort, ListJobsQuery, StalledJobs,
};
use crate::job::{JobId, JobStatus};

impl JobFilter {
    /// Whether the job passes all filters.
    pub(super) fn passes(&self, job: &ProcrastinateJob) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.id.map(i64::from).as_ref(), Some(&job.id))
            && is(self.queue.as_ref(), Some(&job.queue_name))
            && is(self.task.as_ref(), Some(&job.task_name))
            && is(self.status.as_ref(), Some(&job.status))
            && is(self.lock.as_ref(), job.lock.as_ref())
            && is(self.queueing_lock.as_ref(), job.queueing_lock.as_ref())
            && is(self.worker_id.as_ref(), job.worker_id.as_ref())
    }
}

impl Store {
    /// Whether the job is running and its worker is gone or has missed its heartbeats.
    pub(super) fn is_stalled(&self, job: &ProcrastinateJob, seconds_since_heartbeat: f64) -> bool {
        let heard_of = seconds_before(self.now(), seconds_since_heartbeat);
        let worker = job.worker_id.and_then(|id| self.worker(id));
        job.status == JobStatus::Doing && worker.is_none_or(|worker| worker.last_heartbeat < heard_of)
    }
}

impl Answer for CheckConnectionQuery {
    fn answer(self, _: &mut Store) -> QueryResult<Vec<bool>> {
        Ok(vec![true])
    }
}

impl Answer for GetJobStatusQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<JobStatus>> {
        Ok(store.job(self.job_id.into()).map(|job| job.status.clone()).into_iter().collect())
    }
}

impl Answer for ListJobsQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJob>> {
        let limit = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(store.jobs().filter(|job| self.filter.passes(job)).take(limit).cloned().collect())
    }
}

impl Answer for StalledJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJob>> {
        let predicate =
            |job: &&ProcrastinateJob| self.filter.passes(job) && store.is_stalled(job, self.seconds_since_heartbeat);
        Ok(store.jobs().filter(predicate).cloned().collect())
    }
}

impl Answer for JobsToAbort {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<JobId>> {
        let predicate =
            |job: &&ProcrastinateJob| job.status == JobStatus::Doing && job.abort_requested && self.0.passes(job);
        Ok(store.jobs().filter(predicate).map(|job| job.id.into()).collect())
    }
}

impl Answer for CountJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<CountedJobs>> {
        let mut counts: BTreeMap<Option<&str>, CountedJobs> = BTreeMap::new();
        let jobs: Box<dyn Iterator<Item = &ProcrastinateJob>> = match self.after {
            Some(after) => {
                let step = usize::try_from(JOBS_IN_STEP).unwrap_or(usize::MAX);
                Box::new(store.jobs().filter(move |job| job.id > after).take(step))
            }
            None => Box::new(store.jobs().filter(|job| self.filter.passes(job))),
        };
        for job in jobs {
            let name = self.column.of(job);
            let counted = counts.entry(name).or_insert_with(|| CountedJobs {
                name: name.map(str::to_owned),
                looked_at: 0,
                last_id: job.id,
                jobs_count: 0,
                todo: 0,
                doing: 0,
                succeeded: 0,
                failed: 0,
                cancelled: 0,
                aborted: 0,
            });
            counted.looked_at += 1;
            counted.last_id = job.id;
            if !self.filter.passes(job) {
                continue;
            }
            counted.jobs_count += 1;
            match job.status {
                JobStatus::Todo => counted.todo += 1,
                JobStatus::Doing => counted.doing += 1,
                JobStatus::Succeeded => counted.succeeded += 1,
                JobStatus::Failed => counted.failed += 1,
                JobStatus::Cancelled => counted.cancelled += 1,
                JobStatus::Aborted => counted.aborted += 1,
                // `Aborting`, or a label that this version does not know.
                _ => {}
            }
        }
        Ok(counts.into_values().collect())
    }
}

impl CountedColumn {
    fn of(self, job: &ProcrastinateJob) -> Option<&str> {
        match self {
            Self::Queue => Some(&job.queue_name),
            Self::Task => Some(&job.task_name),
            Self::Lock => job.lock.as_deref(),
        }
    }
}
