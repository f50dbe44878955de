//! Statements about unique keys.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::result::QueryResult;

use crate::database::in_memory::unique_keys::HeldKey;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::ProcrastinateJob;
use crate::database::statements::defer::{DeferUniqueJobs, DeferWithOptions, UniqueOrTaken};
#[cfg(feature = "cli")]
use crate::database::statements::options::KeysOfJob;
use crate::job::{JobEventType, JobStatus};

/// Which job holds the key of a job, if it is not free.
#[derive(Clone, Copy)]
enum Holder {
    /// This job.
    Job(i64),
    /// The job at this index of the same statement.
    SameAs(usize),
}

/// The holders of the keys of the jobs of a statement, or the key at which a job fails, and then its holder.
type HoldersOrTaken = Result<Vec<Option<Holder>>, (String, Option<i64>)>;

impl Answer for DeferUniqueJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<UniqueOrTaken>> {
        let holders = match store.holders_of_keys(&self) {
            Ok(holders) => holders,
            Err((key, holder)) => return Ok(vec![(holder.map(Into::into), None, None, Some(key))]),
        };
        for key in self.unique_keys.iter().flatten() {
            if let Some(held) = store.unique_keys.get(key) {
                store.expire_job(held.job_id);
            }
        }
        let DeferWithOptions { jobs, if_enqueued, start_before, limit_keys } = self.jobs;
        let rows = jobs.into_jobs().zip(if_enqueued).zip(start_before.into_iter().zip(limit_keys));
        let claimed = rows.zip(&holders).filter(|(_, holder)| holder.is_none());
        let mut jobs = Vec::new();
        let mut claiming = DeferWithOptions::default();
        for (((job, label), (start_before, limit_key)), _) in claimed {
            jobs.push(job);
            claiming.if_enqueued.push(label);
            claiming.start_before.push(start_before);
            claiming.limit_keys.push(limit_key);
        }
        claiming.jobs = jobs.into_iter().collect();
        let deferred = claiming.answer(store)?;
        if let Some(lock) = deferred.iter().find_map(|(.., lock)| lock.clone()) {
            return Ok(vec![(None, None, Some(lock), None)]);
        }
        let mut deferred = deferred.into_iter();
        let mut rows: Vec<UniqueOrTaken> = Vec::new();
        for ((holder, key), seconds) in holders.into_iter().zip(self.unique_keys).zip(self.unique_seconds) {
            rows.push(match holder {
                Some(Holder::Job(id)) => (Some(id.into()), Some("kept".to_owned()), None, None),
                Some(Holder::SameAs(index)) => (rows[index].0, Some("kept".to_owned()), None, None),
                None => {
                    let (id, effect, _) = deferred.next().unwrap_or_default();
                    if let (Some(id), Some(key), Some("new" | "replaced")) = (id, key, effect.as_deref()) {
                        store.hold_key(key, id.into(), seconds);
                    }
                    (id, effect, None, None)
                }
            });
        }
        Ok(rows)
    }
}

impl Store {
    /// The job that holds this key.
    fn holder_of_key(&self, key: &str) -> Option<i64> {
        let held = self.unique_keys.get(key)?;
        if self.is_expired(held.job_id) {
            return (held.period_seconds > 0.0).then_some(held.job_id);
        }
        let Some(job) = self.job(held.job_id) else {
            return held.free_at.filter(|free_at| *free_at > self.now()).map(|_| held.job_id);
        };
        if !is_over(job) {
            return Some(job.id);
        }
        (self.key_free_at(held)? > self.now()).then_some(job.id)
    }

    /// When the key of a job that has ended is free.
    fn key_free_at(&self, held: &HeldKey) -> Option<DateTime<Utc>> {
        let ends = self.events_of(held.job_id).iter().filter(|event| {
            use JobEventType::{Aborted, Cancelled, Failed, Succeeded};
            matches!(event.event_type, Some(Failed | Succeeded | Cancelled | Aborted))
        });
        Some(ends.filter_map(|event| event.at).max()? + period(held.period_seconds))
    }

    /// Records when the keys of jobs that have ended are free, before the jobs are deleted.
    pub(super) fn tend_unique_keys(&mut self) {
        let ended = self
            .unique_keys
            .iter()
            .filter(|(_, held)| held.free_at.is_none() && self.job(held.job_id).is_some_and(is_over));
        let free: Vec<_> = ended.map(|(key, held)| (key.clone(), self.key_free_at(held))).collect();
        for (key, free_at) in free {
            if let Some(held) = self.unique_keys.get_mut(&key) {
                held.free_at = free_at;
            }
        }
    }

    /// Finds who holds the keys of these jobs. It goes by the order of the keys.
    fn holders_of_keys(&self, statement: &DeferUniqueJobs) -> HoldersOrTaken {
        let mut order: Vec<_> = (0..statement.unique_keys.len()).collect();
        order.sort_by_key(|index| (&statement.unique_keys[*index], *index));
        let mut holders = vec![None; order.len()];
        let mut first_with = BTreeMap::new();
        for index in order {
            let Some(key) = &statement.unique_keys[index] else { continue };
            let first = *first_with.entry(key).or_insert(index);
            let job = self.holder_of_key(key);
            let holder = job.map(Holder::Job).or((first < index).then_some(Holder::SameAs(first)));
            if holder.is_some() && statement.jobs.if_enqueued[index] != "keep" {
                return Err((key.clone(), job));
            }
            holders[index] = holder;
        }
        Ok(holders)
    }

    fn hold_key(&mut self, key: String, job_id: i64, period_seconds: f64) {
        self.unique_keys.insert(key, HeldKey { job_id, period_seconds, free_at: None });
    }

    /// Deletes a job that has ended. It holds its key for a period.
    pub(super) fn delete_ended_job(&mut self, id: i64) {
        self.delete_job(id);
        let now = self.now();
        for held in self.unique_keys.values_mut().filter(|held| held.job_id == id) {
            held.free_at = Some(now + period(held.period_seconds));
        }
    }
}

fn is_over(job: &ProcrastinateJob) -> bool {
    !matches!(job.status, JobStatus::Todo | JobStatus::Doing | JobStatus::Aborting)
}

fn period(seconds: f64) -> TimeDelta {
    let period = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    TimeDelta::from_std(period).unwrap_or(TimeDelta::MAX)
}

#[cfg(feature = "cli")]
impl Answer for KeysOfJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(String, f64)>> {
        let held = store.unique_keys.iter().filter(|(_, held)| held.job_id == self.job_id);
        Ok(held.map(|(key, held)| (key.clone(), held.period_seconds)).collect())
    }
}
