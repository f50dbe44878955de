//! How many more jobs of a paused or limited queue or task may start.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::controls::Target;
use super::store::Store;
use crate::database::models::{ProcrastinateFlowControl, ProcrastinateJob};
use crate::job::JobStatus;

/// How soon to fetch again if too many jobs are running.
pub(super) const WAIT_FOR_END: Duration = Duration::from_secs(1);

/// How many more jobs may start, for each queue and task that is paused or limited.
pub(super) struct Rooms(BTreeMap<Target, usize>);

impl Rooms {
    /// Returns whether the job may start, and counts it.
    pub(super) fn admit(&mut self, job: &ProcrastinateJob) -> bool {
        let targets = targets(job);
        if targets.iter().any(|target| self.0.get(target) == Some(&0)) {
            return false;
        }
        for target in &targets {
            if let Some(room) = self.0.get_mut(target) {
                *room -= 1;
            }
        }
        true
    }
}

fn targets(job: &ProcrastinateJob) -> [Target; 2] {
    [target_of(job, "queue"), target_of(job, "task")]
}

/// The queue or task of a job.
pub(super) fn target_of(job: &ProcrastinateJob, kind: &str) -> Target {
    let name = if kind == "queue" { &job.queue_name } else { &job.task_name };
    (kind.to_owned(), name.clone())
}

/// The time at which starts of this period no longer count.
fn before_period(now: DateTime<Utc>, seconds: f64) -> DateTime<Utc> {
    now.checked_sub_signed(period(seconds)).unwrap_or(DateTime::UNIX_EPOCH)
}

fn period(seconds: f64) -> TimeDelta {
    let period = Duration::try_from_secs_f64(seconds).ok().and_then(|period| TimeDelta::from_std(period).ok());
    period.unwrap_or(TimeDelta::MAX)
}

/// How long it takes until the first of these starts does not count any more.
pub(super) fn until_room(
    starts: Vec<DateTime<Utc>>,
    period_seconds: Option<f64>,
    now: DateTime<Utc>,
) -> Option<Duration> {
    let since = before_period(now, period_seconds.unwrap_or_default());
    (starts.into_iter().min()? - since).to_std().ok()
}

/// Whether a start counts at this time. One that is far in the future was counted while the clock was wrong.
pub(super) fn is_recent(start: DateTime<Utc>, now: DateTime<Utc>, seconds: f64) -> bool {
    let longest_ahead = period(seconds).max(TimeDelta::seconds(60));
    start > before_period(now, seconds) && start - now < longest_ahead
}

impl Store {
    /// How many more jobs may start.
    pub(super) fn rooms(&self, now: DateTime<Utc>) -> Rooms {
        let room = |control: &ProcrastinateFlowControl| {
            if control.is_paused() {
                return 0;
            }
            let running = control.max_running.map(|most| count(most).saturating_sub(self.count_running(control)));
            let starts = control.max_starts.map(|most| count(most).saturating_sub(self.starts(control, now).len()));
            running.into_iter().chain(starts).min().unwrap_or(usize::MAX)
        };
        Rooms(self.flow.controls.iter().map(|(target, control)| (target.clone(), room(control))).collect())
    }

    fn count_running(&self, control: &ProcrastinateFlowControl) -> usize {
        self.jobs().filter(|job| job.status == JobStatus::Doing && is_of(job, control)).count()
    }

    /// The starts that count at this time.
    fn starts(&self, control: &ProcrastinateFlowControl, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let seconds = control.start_period_seconds.unwrap_or_default();
        let starts = self.flow.starts.get(&(control.kind.clone(), control.name.clone()));
        starts.into_iter().flatten().copied().filter(|start| is_recent(*start, now, seconds)).collect()
    }

    /// How many jobs of a queue or task have started within the period, and when the first start ceases to count.
    pub(super) fn recent_starts(&self, target: &Target, seconds: f64) -> (usize, Option<DateTime<Utc>>) {
        let now = self.now();
        let starts = self.flow.starts.get(target).into_iter().flatten().copied();
        let recent: Vec<_> = starts.filter(|start| is_recent(*start, now, seconds)).collect();
        (recent.len(), recent.iter().min().and_then(|first| first.checked_add_signed(period(seconds))))
    }

    /// Records that a job has started.
    pub(super) fn count_start(&mut self, job_id: i64, now: DateTime<Utc>) {
        let Some(targets) = self.job(job_id).map(targets) else { return };
        for target in targets {
            let control = self.flow.controls.get(&target).filter(|control| control.max_starts.is_some());
            if let Some(seconds) = control.and_then(|control| control.start_period_seconds) {
                let starts = self.flow.starts.entry(target).or_default();
                starts.retain(|start| is_recent(*start, now, seconds));
                starts.push(now);
            }
        }
    }

    /// When there may be room for pending jobs of these queues that a limit holds back.
    pub(super) fn wait_for_room(&self, queues: Option<&[String]>, now: DateTime<Utc>) -> Option<Duration> {
        let waits = self.flow.controls.values().filter_map(|control| {
            // Of a task, scheduled jobs count too.
            let is_due = |job: &ProcrastinateJob| {
                control.kind == "task" || job.lock.is_some() || job.scheduled_at.is_none_or(|time| time <= now)
            };
            let is_pending = |job: &ProcrastinateJob| is_of(job, control) && is_in(job, queues) && is_due(job);
            if control.is_paused() || !self.waiting_jobs().any(is_pending) {
                return None;
            }
            if control.max_running.is_some_and(|most| self.count_running(control) >= count(most)) {
                return Some(WAIT_FOR_END);
            }
            let starts = self.starts(control, now);
            if control.max_starts.is_none_or(|most| starts.len() < count(most)) {
                return None;
            }
            until_room(starts, control.start_period_seconds, now)
        });
        let is_wanted = |job: &&ProcrastinateJob| {
            is_in(job, queues) && job.scheduled_at.is_none_or(|time| time <= now) && self.rooms(now).admit(job)
        };
        let of_keys = if self.has_keys() {
            self.wait_for_keys(&self.waiting_jobs().filter(is_wanted).collect::<Vec<_>>(), now)
        } else {
            None
        };
        waits.chain(of_keys).min()
    }

    /// Whether a periodic task defers no jobs, because it or its queue is paused in that way.
    pub(super) fn skips_tick(&self, queue: &str, task_name: &str) -> bool {
        let names = [("queue", queue), ("task", task_name)];
        names.into_iter().any(|(kind, name)| {
            self.flow.controls.get(&(kind.to_owned(), name.to_owned())).is_some_and(|control| control.skips_ticks)
        })
    }

    /// Notifies workers that jobs may start again.
    pub(super) fn notify_of_room(&mut self, kind: &str, name: &str) {
        let mut first_jobs: BTreeMap<String, i64> = BTreeMap::new();
        for job in self.waiting_jobs().filter(|job| is_named(job, kind, name)) {
            let first = first_jobs.entry(job.queue_name.clone()).or_insert(job.id);
            *first = job.id.min(*first);
        }
        for (queue, job_id) in first_jobs {
            self.listeners.tell_of_job(&queue, job_id);
        }
    }
}

fn is_in(job: &ProcrastinateJob, queues: Option<&[String]>) -> bool {
    queues.is_none_or(|queues| queues.contains(&job.queue_name))
}

fn is_of(job: &ProcrastinateJob, control: &ProcrastinateFlowControl) -> bool {
    is_named(job, &control.kind, &control.name)
}

fn is_named(job: &ProcrastinateJob, kind: &str, name: &str) -> bool {
    if kind == "queue" { job.queue_name == name } else { job.task_name == name }
}

pub(super) fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}
