//! Statements that defer jobs.

use std::collections::HashSet;
use std::sync::Arc;

use diesel::result::QueryResult;

use crate::database::in_memory::violations::Violation;
use crate::database::in_memory::{Answer, Store};
use crate::database::statements::defer::{
    HoldersOfQueueingLocks, InsertEachJob, InsertJob, InsertJobUnlessEnqueued, InsertJobs, InsertedOrTaken, NewJob,
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
        let ids = self.into_jobs().map(|job| Ok((Some(insert_of_many(job, store, &mut told)?), None)));
        ids.collect()
    }
}

impl Answer for InsertEachJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<Option<JobId>>> {
        let mut told = HashSet::new();
        let ids = Arc::unwrap_or_clone(self.jobs).into_jobs().map(|job| match insert_of_many(job, store, &mut told) {
            Ok(id) => Ok(Some(id)),
            Err(Violation::QueueingLock(_)) => Ok(None),
            Err(other) => Err(other.into()),
        });
        ids.collect()
    }
}

/// Inserts one of the jobs of a statement. One notification for each queue is enough.
fn insert_of_many(job: NewJob, store: &mut Store, told: &mut HashSet<String>) -> Result<JobId, Violation> {
    let queue = job.queue.clone();
    let id = store.insert_job(job)?;
    if !told.contains(&queue) {
        store.listeners.tell_of_job(&queue, id);
        told.insert(queue);
    }
    Ok(id.into())
}

/// The first queueing lock, in the order of the locks, that a pending job holds or that occurs twice.
fn first_taken(queueing_locks: &[Option<String>], store: &Store) -> Option<String> {
    let mut seen = HashSet::new();
    let taken = queueing_locks.iter().flatten().filter(|lock| !seen.insert(*lock) || store.holder_of(lock).is_some());
    taken.min().cloned()
}
