//! Statements that defer jobs.

use std::collections::HashSet;

use diesel::result::QueryResult;

use crate::database::in_memory::violations::Violation;
use crate::database::in_memory::{Answer, Store};
use crate::database::statements::defer::{
    AnnounceJob, HoldersOfQueueingLocks, InsertJob, InsertJobUnlessEnqueued, InsertJobs, InsertedOrTaken, NewJob,
    StoreJob,
};
use crate::job::JobId;

impl Answer for InsertJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<JobId>> {
        Ok(vec![insert(self.0, store)?])
    }
}

impl Answer for InsertJobUnlessEnqueued {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<JobId>> {
        match insert(self.0, store) {
            Ok(id) => Ok(vec![id]),
            Err(Violation::QueueingLock(_)) => Ok(Vec::new()),
            Err(other) => Err(other.into()),
        }
    }
}

impl Answer for HoldersOfQueueingLocks {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(String, JobId)>> {
        let holders = self.queueing_locks.into_iter().filter_map(|lock| {
            let id = store.holder_of(&lock)?;
            Some((lock, id.into()))
        });
        Ok(holders.collect())
    }
}

impl Answer for StoreJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<Option<JobId>>> {
        match store.insert_job(self.0) {
            Ok(id) => Ok(vec![Some(id.into())]),
            Err(Violation::QueueingLock(_)) => Ok(vec![None]),
            Err(other) => Err(other.into()),
        }
    }
}

impl Answer for AnnounceJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        store.listeners.tell_of_job(&self.queue, self.job_id.into());
        Ok(vec![true])
    }
}

fn insert(job: NewJob, store: &mut Store) -> Result<JobId, Violation> {
    let queue = job.queue.clone();
    let id = store.insert_job(job)?;
    store.listeners.tell_of_job(&queue, id);
    Ok(id.into())
}

impl Answer for InsertJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<InsertedOrTaken>> {
        if let Some(lock) = first_taken(&self.queueing_locks, store) {
            // All IDs were used up.
            store.skip_job_ids(self.queueing_locks.len());
            return Ok(vec![(None, Some(lock))]);
        }
        let mut told = HashSet::new();
        let mut ids = Vec::with_capacity(self.queues.len());
        for job in self.into_jobs() {
            let queue = job.queue.clone();
            let id = store.insert_job(job)?;
            // One notification for each queue is enough.
            if told.insert(queue.clone()) {
                store.listeners.tell_of_job(&queue, id);
            }
            ids.push((Some(id.into()), None));
        }
        Ok(ids)
    }
}

/// The first queueing lock, in the order of the locks, that a pending job holds or that occurs twice.
fn first_taken(queueing_locks: &[Option<String>], store: &Store) -> Option<String> {
    let mut seen = HashSet::new();
    let taken = queueing_locks.iter().flatten().filter(|lock| !seen.insert(*lock) || store.holder_of(lock).is_some());
    taken.min().cloned()
}

impl InsertJobs {
    fn into_jobs(self) -> impl Iterator<Item = NewJob> {
        let names = self.queues.into_iter().zip(self.task_names).zip(self.priorities);
        let locks = self.locks.into_iter().zip(self.queueing_locks);
        names.zip(locks).zip(self.args).zip(self.scheduled_at).map(
            |(((((queue, task_name), priority), (lock, queueing_lock)), args), scheduled_at)| NewJob {
                queue,
                task_name,
                priority,
                lock,
                queueing_lock,
                args,
                scheduled_at,
            },
        )
    }
}
