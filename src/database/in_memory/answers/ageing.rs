//! Statements about priorities that age.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::result::QueryResult;

use crate::database::in_memory::controls::Ageing;
use crate::database::in_memory::values::stored_time;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::{ProcrastinateJob, ProcrastinatePriorityAgeing};
use crate::database::statements::ageing::{
    AgePrioritiesQuery, AgedPriorities, ListPriorityAgeingsQuery, SetAgeingQuery, StopAgeingQuery,
};
use crate::job::JobStatus;

impl Answer for SetAgeingQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let changed_at = store.now();
        let Self { queue, every_seconds, step, max_priority } = self;
        let known = store.flow.ageings.get(&queue);
        let settings = |row: &ProcrastinatePriorityAgeing| (row.every_seconds, row.step, row.max_priority);
        if known.is_some_and(|known| settings(&known.row) == (every_seconds, step, max_priority)) {
            return Ok(vec![false]);
        }
        let last_aged_at = known.and_then(|known| known.row.last_aged_at);
        let last_job_id = known.map_or(0, |known| known.last_job_id);
        let queue_name = queue.clone();
        let row =
            ProcrastinatePriorityAgeing { queue_name, every_seconds, step, max_priority, last_aged_at, changed_at };
        store.flow.ageings.insert(queue, Ageing { row, last_job_id });
        Ok(vec![true])
    }
}

impl Answer for StopAgeingQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        Ok(vec![store.flow.ageings.remove(&self.queue).is_some()])
    }
}

impl Answer for ListPriorityAgeingsQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinatePriorityAgeing>> {
        Ok(store.flow.ageings.values().map(|ageing| ageing.row.clone()).collect())
    }
}

impl Answer for AgePrioritiesQuery {
    /// A pass is made in one step.
    fn answer(self, store: &mut Store) -> QueryResult<Vec<AgedPriorities>> {
        let aged_at = self.due_at.map_or(store.now(), stored_time);
        let due = store.flow.ageings.values().filter(|ageing| wait(&ageing.row, aged_at) <= 0.0);
        let due = due.map(|ageing| (next_pass(&ageing.row), &ageing.row.queue_name));
        let queue = due.min().map(|(_, queue)| queue.clone());
        let raised = queue.as_ref().map_or(0, |queue| store.age_queue(queue, aged_at));
        let waits = store.flow.ageings.values().map(|ageing| wait(&ageing.row, aged_at).max(0.0));
        let wait_seconds = waits.min_by(f64::total_cmp);
        let has_more = queue.is_some() && wait_seconds == Some(0.0);
        Ok(vec![(queue, raised, has_more, wait_seconds, None)])
    }
}

/// How many seconds remain of the period. A time that is far in the future comes from a clock that was wrong.
fn wait(row: &ProcrastinatePriorityAgeing, aged_at: DateTime<Utc>) -> f64 {
    let wait = row.last_aged_at.map_or(0.0, |last| row.every_seconds - seconds(aged_at - last));
    if wait > row.every_seconds + row.every_seconds.max(60.0) { 0.0 } else { wait }
}

/// When the period ends. `None` before the first pass.
fn next_pass(row: &ProcrastinatePriorityAgeing) -> Option<DateTime<Utc>> {
    let every = TimeDelta::from_std(Duration::try_from_secs_f64(row.every_seconds).ok()?).ok()?;
    row.last_aged_at.map(|last| last.checked_add_signed(every).unwrap_or(DateTime::<Utc>::MAX_UTC))
}

fn seconds(difference: TimeDelta) -> f64 {
    let length = difference.abs().to_std().unwrap_or_default().as_secs_f64();
    if difference < TimeDelta::zero() { -length } else { length }
}

impl Store {
    /// Makes a pass over a queue. Returns how many jobs it raised.
    fn age_queue(&mut self, queue: &str, aged_at: DateTime<Utc>) -> i64 {
        let newest_id = self.jobs().next_back().map_or(0, |job| job.id);
        let Some(ageing) = self.flow.ageings.get_mut(queue) else { return 0 };
        let last_job_id = std::mem::replace(&mut ageing.last_job_id, newest_id);
        let last_aged_at = ageing.row.last_aged_at.replace(aged_at);
        let row = ageing.row.clone();
        let Some(last_aged_at) = last_aged_at.filter(|last| *last <= aged_at) else { return 0 };

        let waited = |job: &ProcrastinateJob| {
            let since = job.scheduled_at.map_or(last_aged_at, |scheduled_at| scheduled_at.max(last_aged_at));
            let is_due = job.scheduled_at.is_none_or(|at| seconds(aged_at - at) >= row.every_seconds);
            let is_old = job.queue_name == queue && job.priority < row.max_priority && job.id <= last_job_id;
            (is_due && is_old).then(|| seconds(aged_at - since))
        };
        let waiting: Vec<(i64, f64)> =
            self.waiting_jobs().filter_map(|job| waited(job).map(|waited| (job.id, waited))).collect();
        let mut raised_ids = Vec::new();
        for (id, waited) in waiting {
            let Some(job) = self.job(id) else { continue };
            let periods = (waited / row.every_seconds).floor().max(1.0);
            let by_age = f64::from(job.priority) + f64::from(row.step) * periods;
            #[allow(clippy::cast_possible_truncation, reason = "it is between the job's priority and the maximum")]
            let by_age = by_age.min(f64::from(row.max_priority)) as i32;
            let priority = self.preceding_priority(job).map_or(by_age, |preceding| preceding.min(by_age));
            if priority > job.priority {
                self.set_priority(id, priority);
                raised_ids.push(id);
            }
        }
        if let Some(first) = raised_ids.iter().min() {
            self.listeners.tell_of_job(queue, *first);
        }
        i64::try_from(raised_ids.len()).unwrap_or(i64::MAX)
    }

    /// The least priority of the older jobs with the same lock that come before this one, or would if they were
    /// pending.
    fn preceding_priority(&self, job: &ProcrastinateJob) -> Option<i32> {
        let lock = job.lock.as_ref()?;
        let is_before = |other: &&ProcrastinateJob| {
            other.lock.as_ref() == Some(lock)
                && other.id < job.id
                && other.priority >= job.priority
                && matches!(other.status, JobStatus::Todo | JobStatus::Doing)
        };
        self.jobs().filter(is_before).map(|other| other.priority).min()
    }
}
