//! Statements about periodic tasks.

use diesel::result::QueryResult;

use crate::database::in_memory::violations::Violation;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::periodic::{DeferPeriodicJob, DeferPeriodicJobs, DeferredOrNot};
use crate::database::statements::schedules::ScheduleKey;
use crate::job::JobStatus;

/// How far in the future a tick may be and still block earlier ones. A tick beyond that came from a wrong clock.
const LONGEST_AHEAD_SECONDS: i64 = 60;

impl Answer for DeferPeriodicJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<DeferredOrNot>> {
        let key = ScheduleKey { task_name: self.job.task_name.clone(), periodic_id: self.periodic_id.clone() };
        let requested_at = self.run_requested_at;
        let extras = self.extras.clone();
        if let Some(outcome) = refusal(&self, store.schedules.get(&key)) {
            return Ok(vec![(None, outcome.to_owned())]);
        }
        store.expire_holders(&self.job.queueing_lock);
        let (job_id, outcome) = if store.is_last_job_unfinished(&key) {
            (None, if requested_at.is_some() { "overlaps" } else { store.skip_tick(&key, self.defer_timestamp) })
        } else if requested_at.is_some() {
            let queue = self.job.queue.clone();
            match store.insert_job(self.job) {
                Ok(job_id) => {
                    store.listeners.tell_of_job(&queue, job_id);
                    (Some(job_id), "deferred")
                }
                Err(Violation::QueueingLock(_)) => (None, "queueing_lock_taken"),
                Err(other) => return Err(other.into()),
            }
        } else {
            store.defer_tick(self)?
        };
        if let Some(job_id) = job_id {
            store.store_options(job_id, extras, false);
        }
        if let Some(schedule) = store.schedules.get_mut(&key) {
            schedule.last_job_id = job_id.or(schedule.last_job_id);
            if requested_at.is_some() {
                schedule.run_requested_at = None;
                store.listeners.tell_of_schedules();
            }
        }
        Ok(vec![(job_id.map(Into::into), outcome.to_owned())])
    }
}

impl Answer for DeferPeriodicJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<DeferredOrNot>> {
        let answers: QueryResult<Vec<_>> = self.into_ticks().map(|tick| tick.answer(store)).collect();
        Ok(answers?.into_iter().flatten().collect())
    }
}

/// Why the schedule does not allow this job, if so.
fn refusal(tick: &DeferPeriodicJob, schedule: Option<&ProcrastinateSchedule>) -> Option<&'static str> {
    let ticks_after = schedule.and_then(|schedule| schedule.ticks_after);
    let is_too_early = ticks_after.is_some_and(|after| tick.defer_timestamp * 1_000_000 <= after.timestamp_micros());
    if tick.version.is_none() && schedule.is_some_and(|schedule| !schedule.is_in_code()) {
        Some("conflict")
    } else if tick.version.is_some() && tick.version != schedule.map(|schedule| schedule.version) {
        Some("changed")
    } else if tick.run_requested_at.is_some() {
        let is_pending = schedule.is_some_and(|schedule| schedule.run_requested_at == tick.run_requested_at);
        (!is_pending).then_some("already_deferred")
    } else {
        (is_too_early || schedule.is_some_and(ProcrastinateSchedule::is_paused)).then_some("paused")
    }
}

impl Store {
    /// Whether the schedule skips ticks because its last job is pending or running.
    fn is_last_job_unfinished(&mut self, key: &ScheduleKey) -> bool {
        let schedule = self.schedules.get(key).filter(|schedule| schedule.overlap == "skip");
        let Some(last_job_id) = schedule.and_then(|schedule| schedule.last_job_id) else {
            return false;
        };
        self.expire_job(last_job_id);
        let last_job = self.job(last_job_id);
        last_job.is_some_and(|job| matches!(job.status, JobStatus::Todo | JobStatus::Doing))
    }

    /// The latest tick that comes from a right clock.
    fn latest_tick(&self) -> i64 {
        self.now().timestamp() + LONGEST_AHEAD_SECONDS
    }

    /// Whether a tick after this one was deferred.
    fn has_later_tick(&self, key: &ScheduleKey, defer_timestamp: i64) -> bool {
        let latest = self.latest_tick();
        self.periodic_defers().any(|later| {
            later.task_name == key.task_name
                && later.periodic_id == key.periodic_id
                && later.defer_timestamp.is_some_and(|later| later > defer_timestamp && later <= latest)
        })
    }

    /// Claims a tick, unless it or a later one was claimed before.
    fn claim_unless_late(&mut self, key: &ScheduleKey, defer_timestamp: i64) -> Option<i64> {
        if self.has_later_tick(key, defer_timestamp) {
            return None;
        }
        self.claim_tick(&key.task_name, &key.periodic_id, defer_timestamp)
    }

    /// Claims a tick without a job.
    fn skip_tick(&mut self, key: &ScheduleKey, defer_timestamp: i64) -> &'static str {
        let latest = self.latest_tick();
        let Some(claim) = self.claim_unless_late(key, defer_timestamp) else {
            return "already_deferred";
        };
        self.settle_tick(claim, None, latest);
        "overlaps"
    }

    fn defer_tick(&mut self, tick: DeferPeriodicJob) -> QueryResult<(Option<i64>, &'static str)> {
        let DeferPeriodicJob { job, periodic_id, defer_timestamp, .. } = tick;
        let latest = self.latest_tick();
        let key = ScheduleKey { task_name: job.task_name.clone(), periodic_id };
        let Some(claim) = self.claim_unless_late(&key, defer_timestamp) else {
            return Ok((None, "already_deferred"));
        };
        if self.skips_tick(&job.queue, &job.task_name) {
            self.settle_tick(claim, None, latest);
            return Ok((None, "already_deferred"));
        }
        let queue = job.queue.clone();
        match self.insert_job(job) {
            Ok(job_id) => {
                self.settle_tick(claim, Some(job_id), latest);
                self.listeners.tell_of_job(&queue, job_id);
                Ok((Some(job_id), "deferred"))
            }
            Err(violation) => {
                self.give_back_tick(claim);
                match violation {
                    Violation::QueueingLock(_) => Ok((None, "queueing_lock_taken")),
                    other => Err(other.into()),
                }
            }
        }
    }
}
