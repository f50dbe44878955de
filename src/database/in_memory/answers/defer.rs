//! Statements that defer jobs.

use std::collections::HashSet;
use std::sync::Arc;

use diesel::result::QueryResult;

use crate::database::in_memory::violations::Violation;
use crate::database::in_memory::{Answer, Store};
use crate::database::statements::defer::{
    DeferOrReplaceJobs, DeferWithOptions, EffectOrTaken, ExtraOptions, InsertEachJob, InsertJob,
    InsertJobUnlessEnqueued, InsertJobs, InsertedOrTaken, LivingHolders, NewJob,
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

impl Answer for LivingHolders {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(String, JobId)>> {
        store.expire_holders(&self.queueing_locks);
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
        if let Some(lock) = taken_by_living(&self.queueing_locks, store) {
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
        store.expire_holders(self.jobs.queueing_locks.iter().flatten());
        let ids = Arc::unwrap_or_clone(self.jobs).into_jobs().map(|job| match insert_of_many(job, store, &mut told) {
            Ok(id) => Ok(Some(id)),
            Err(Violation::QueueingLock(_)) => Ok(None),
            Err(other) => Err(other.into()),
        });
        ids.collect()
    }
}

impl Answer for DeferOrReplaceJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<EffectOrTaken>> {
        if let Some(lock) = first_failing(&self.jobs.queueing_locks, &self.if_enqueued, store) {
            // All IDs were used up.
            store.skip_job_ids(self.if_enqueued.len());
            return Ok(vec![(None, None, Some(lock))]);
        }
        let no_extras = std::iter::repeat_with(ExtraOptions::default);
        defer_or_replace_each(self.jobs, self.if_enqueued, no_extras, store)
    }
}

impl Answer for DeferWithOptions {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<EffectOrTaken>> {
        if self.if_enqueued.iter().all(|label| *label == "fail") {
            if let Some(lock) = taken_by_living(&self.jobs.queueing_locks, store) {
                return Ok(vec![(None, None, Some(lock))]);
            }
        } else if let Some(lock) = first_failing(&self.jobs.queueing_locks, &self.if_enqueued, store) {
            // All IDs were used up.
            store.skip_job_ids(self.if_enqueued.len());
            return Ok(vec![(None, None, Some(lock))]);
        }
        let extras = self.start_before.into_iter().zip(self.limit_keys);
        let extras = extras.map(|(start_before, limit_key)| ExtraOptions { start_before, limit_key, unique: None });
        defer_or_replace_each(self.jobs, self.if_enqueued, extras, store)
    }
}

fn defer_or_replace_each(
    jobs: InsertJobs,
    if_enqueued: Vec<&'static str>,
    extras: impl IntoIterator<Item = ExtraOptions>,
    store: &mut Store,
) -> QueryResult<Vec<EffectOrTaken>> {
    let mut to_tell = Vec::new();
    let mut effects = Vec::new();
    for ((job, if_enqueued), extras) in jobs.into_jobs().zip(if_enqueued).zip(extras) {
        let queue = job.queue.clone();
        let (id, effect) = defer_or_replace(job, if_enqueued, store)?;
        if effect != "kept" {
            store.store_options(id, extras, effect == "replaced" && if_enqueued == "replace_except_schedule");
        }
        if effect == "new" || effect == "replaced" && is_due(id, store) {
            to_tell.push((queue, id));
        }
        effects.push((Some(id.into()), Some(effect.to_owned()), None));
    }
    tell_of_jobs(to_tell, store);
    Ok(effects)
}

/// Inserts a job, or changes the pending one that holds its queueing lock. Returns its ID and what was done.
fn defer_or_replace(job: NewJob, if_enqueued: &str, store: &mut Store) -> Result<(i64, &'static str), Violation> {
    store.expire_holders(&job.queueing_lock);
    let Some(holder) = job.queueing_lock.as_ref().and_then(|lock| store.holder_of(lock)) else {
        return Ok((store.insert_job(job)?, "new"));
    };
    // The ID that was drawn for the job is used up.
    store.skip_job_ids(1);
    match if_enqueued {
        "replace" => store.replace_job(holder, job, false)?,
        "replace_except_schedule" => store.replace_job(holder, job, true)?,
        _ => return Ok((holder, "kept")),
    }
    Ok((holder, "replaced"))
}

fn is_due(id: i64, store: &Store) -> bool {
    store.job(id).is_some_and(|job| job.scheduled_at.is_none_or(|at| at <= store.now()))
}

/// Notifies listeners of these jobs: once for each queue, with the lowest ID.
fn tell_of_jobs(mut jobs: Vec<(String, i64)>, store: &mut Store) {
    let mut told = HashSet::new();
    jobs.sort_by_key(|(_, id)| *id);
    for (queue, id) in &jobs {
        if told.insert(queue) {
            store.listeners.tell_of_job(queue, *id);
        }
    }
}

/// The first queueing lock, in the order of the locks, at which a job fails: a pending or earlier job holds it.
fn first_failing(queueing_locks: &[Option<String>], if_enqueued: &[&str], store: &Store) -> Option<String> {
    let mut seen = HashSet::new();
    let locks = queueing_locks.iter().zip(if_enqueued).filter_map(|(lock, label)| Some((lock.as_ref()?, *label)));
    let taken = locks.filter(|(lock, label)| {
        let is_held = store.holder_of(lock).is_some_and(|holder| !store.is_expired(holder));
        let is_taken = !seen.insert(*lock) || is_held;
        is_taken && *label == "fail"
    });
    taken.map(|(lock, _)| lock).min().cloned()
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

/// The first queueing lock that is taken for jobs that are inserted all or none. Holders that can start no more are
/// cancelled. Each attempt uses up the IDs.
fn taken_by_living(queueing_locks: &[Option<String>], store: &mut Store) -> Option<String> {
    while let Some(lock) = first_taken(queueing_locks, store) {
        store.skip_job_ids(queueing_locks.len());
        if store.expire_holders(queueing_locks.iter().flatten()) == 0 {
            return Some(lock);
        }
    }
    None
}

/// The first queueing lock, in the order of the locks, that a pending job holds or that occurs twice.
fn first_taken(queueing_locks: &[Option<String>], store: &Store) -> Option<String> {
    let mut seen = HashSet::new();
    let taken = queueing_locks.iter().flatten().filter(|lock| !seen.insert(*lock) || store.holder_of(lock).is_some());
    taken.min().cloned()
}
