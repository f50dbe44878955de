//! Fetching jobs.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::store::Store;
use super::violations::Violation;
use crate::database::models::ProcrastinateJob;
use crate::job::JobStatus;

impl Store {
    /// Fetches up to `wanted` jobs of these queues, or of all, for a worker, in the usual order.
    pub(super) fn fetch(
        &mut self,
        worker_id: i64,
        queues: Option<&[String]>,
        wanted: usize,
        now: DateTime<Utc>,
    ) -> Result<Vec<i64>, Violation> {
        self.expire(now)?;
        let ids = self.next_jobs(queues, wanted, now);
        // The first one shows whether the worker exists, before anything is changed.
        for id in &ids {
            self.update_job(*id, |job| {
                job.status = JobStatus::Doing;
                job.worker_id = Some(worker_id);
            })?;
            self.count_start(*id, now);
        }
        self.count_key_starts(&ids, now);
        Ok(ids)
    }

    /// A job must wait for its scheduled time, for a running job with the same lock, and for earlier jobs with that
    /// lock, whatever their queue and time. It also waits while its queue, task or key is paused or has no room.
    fn next_jobs(&self, queues: Option<&[String]>, wanted: usize, now: DateTime<Utc>) -> Vec<i64> {
        let mut passed_locks = HashSet::new();
        let mut rooms = self.rooms(now);
        let startable = self
            .waiting_jobs()
            .filter(|job| match &job.lock {
                None => true,
                Some(lock) => passed_locks.insert(lock.as_str()) && !self.is_lock_running(lock),
            })
            .filter(|job| queues.is_none_or(|queues| queues.contains(&job.queue_name)))
            .filter(|job| job.scheduled_at.is_none_or(|scheduled_at| scheduled_at <= now));
        if !self.has_keys() {
            return startable.filter(|job| rooms.admit(job)).map(|job| job.id).take(wanted).collect();
        }
        let startable: Vec<_> = startable.collect();
        let mut key_rooms = self.key_rooms(&startable, now);
        let has_room = |job: &&ProcrastinateJob| {
            let key = self.key_of(job);
            let has_room = key.as_ref().is_none_or(|key| key_rooms.has_room(key)) && rooms.admit(job);
            if let Some(key) = key.filter(|_| has_room) {
                key_rooms.take(&key);
            }
            has_room
        };
        self.in_turn(startable).into_iter().filter(has_room).map(|job| job.id).take(wanted).collect()
    }
}
