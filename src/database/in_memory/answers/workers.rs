//! Statements about workers: registering, heartbeats, and removing them.

use std::collections::HashMap;

use chrono::DateTime;
use diesel::result::QueryResult;

use crate::database::in_memory::values::seconds_before;
use crate::database::in_memory::violations::worker_not_registered;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::{ProcrastinateJob, ProcrastinateWorker};
use crate::database::statements::workers::{
    DrawWorkerId, HeldJob, HeldJobs, PruneStalledWorkersQuery, RegisterWorkerQuery, ReleaseStalledWorkers,
    ReleaseWorker, RemoveWorker, ReregisterWorker, UnregisterWorkerQuery, UpdateHeartbeatQuery,
};
use crate::job::{JobId, JobStatus};

impl Answer for RegisterWorkerQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        Ok(vec![store.insert_worker()])
    }
}

impl Answer for UnregisterWorkerQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        store.delete_worker(self.worker_id)?;
        Ok(vec![true])
    }
}

impl Answer for PruneStalledWorkersQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        let heard_of = seconds_before(store.now(), self.seconds_since_heartbeat);
        let stalled: Vec<i64> =
            store.workers().filter(|worker| worker.last_heartbeat < heard_of).map(|worker| worker.id).collect();
        stalled.iter().try_for_each(|id| store.delete_worker(*id))?;
        Ok(stalled)
    }
}

impl Answer for ReleaseStalledWorkers {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(i64, bool, Option<String>)>> {
        let heard_of = seconds_before(store.now(), self.seconds_since_heartbeat);
        let stalled = store.workers().filter(|worker| worker.last_heartbeat < heard_of);
        let stalled: Vec<_> = stalled.map(|worker| (worker.id, !is_released(worker), None)).collect();
        stalled.iter().try_for_each(|(id, ..)| store.release_worker(*id))?;
        Ok(stalled)
    }
}

impl Answer for RemoveWorker {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(bool, i32)>> {
        if !store.worker(self.worker_id).is_some_and(is_released) {
            return Ok(vec![(true, 0)]);
        }
        let most = usize::try_from(self.most).unwrap_or_default();
        let linked: Vec<i64> =
            store.jobs().filter(|job| job.worker_id == Some(self.worker_id)).map(|job| job.id).collect();
        let unlinked = linked.len().min(most);
        for id in &linked[..unlinked] {
            store.update_job(*id, |job| job.worker_id = None)?;
        }
        let is_removed = unlinked == linked.len();
        if is_removed {
            store.delete_worker(self.worker_id)?;
        }
        Ok(vec![(is_removed, i32::try_from(unlinked).unwrap_or(self.most))])
    }
}

impl Answer for ReleaseWorker {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(bool, i32)>> {
        store.release_worker(self.worker_id)?;
        RemoveWorker { worker_id: self.worker_id, most: self.most }.answer(store)
    }
}

impl Store {
    /// Returns an error if the worker is not registered.
    pub(super) fn check_worker(&self, worker_id: i64) -> QueryResult<()> {
        if self.worker(worker_id).is_none_or(is_released) {
            return Err(worker_not_registered(format!("Worker {worker_id} is not registered"), None));
        }
        Ok(())
    }
}

/// Whether the worker was released, and is about to be removed.
fn is_released(worker: &ProcrastinateWorker) -> bool {
    worker.last_heartbeat <= DateTime::UNIX_EPOCH
}

impl Answer for DrawWorkerId {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        Ok(vec![store.draw_worker_id()])
    }
}

impl Answer for ReregisterWorker {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(JobId, i32)>> {
        let Self { former_id, new_id, job_ids, attempts } = self;
        store.insert_worker_as(new_id);
        let held: HashMap<i64, i32> = job_ids.into_iter().map(i64::from).zip(attempts).collect();
        let is_moved = |job: &&ProcrastinateJob| {
            is_doing(job, Some(former_id)) || (is_doing(job, None) && held.get(&job.id) == Some(&job.attempts))
        };
        let moved: Vec<i64> = store.jobs().filter(is_moved).map(|job| job.id).collect();
        for job_id in moved {
            store.update_job(job_id, |job| job.worker_id = Some(new_id))?;
        }
        store.delete_worker(former_id)?;
        let its_jobs = store.jobs().filter(|job| is_doing(job, Some(new_id)));
        Ok(its_jobs.map(|job| (job.id.into(), job.attempts)).collect())
    }
}

impl Answer for UpdateHeartbeatQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i32>> {
        let now = store.now();
        let Some(worker) = store.worker_mut(self.worker_id).filter(|worker| !is_released(worker)) else {
            return Ok(vec![0]);
        };
        worker.last_heartbeat = now;
        Ok(vec![i32::try_from(store.workers().count()).unwrap_or(i32::MAX)])
    }
}

impl Answer for HeldJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<HeldJob>> {
        store.check_worker(self.worker_id)?;
        let its_jobs = store.jobs().filter(|job| is_doing(job, Some(self.worker_id)));
        Ok(its_jobs.map(|job| (job.id.into(), job.attempts, job.abort_requested)).collect())
    }
}

/// Whether the job is running, and this worker or no worker holds it.
pub(super) fn is_doing(job: &ProcrastinateJob, worker_id: Option<i64>) -> bool {
    job.status == JobStatus::Doing && job.worker_id == worker_id
}
