//! Why a schedule does not fire.

use chrono::{DateTime, TimeDelta, Utc};

use crate::admin::moment::span;
use crate::database::statements::admin::schedules::ListedSchedule;

/// A tick that is due for less than this may still be on its way.
const GRACE: TimeDelta = TimeDelta::minutes(2);

/// A request that no worker has fulfilled for this long may wait for a worker that is not there.
const SHORT_WAIT: TimeDelta = TimeDelta::minutes(1);

/// A last job that is pending for this long may have no worker.
const LONG_WAIT: TimeDelta = TimeDelta::minutes(10);

/// Workers write the schedules of their code once an hour.
pub(super) const SEEN_WITHIN: TimeDelta = TimeDelta::hours(2);

/// The label of a schedule without new jobs.
const FAILS: &str = "does not fire";

/// What is wrong with a schedule: a sentence that begins with a small letter, and the job that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    /// In two or three words.
    pub(crate) label: &'static str,
    pub(crate) text: String,
    pub(crate) job: Option<i64>,
}

/// Finds out whether a schedule does not fire, and why.
pub(crate) fn hint(row: &ListedSchedule, now: DateTime<Utc>, is_worker_alive: bool) -> Option<Hint> {
    let of = |text: String| Some(Hint { label: FAILS, text, job: None });
    let since = |time: DateTime<Utc>| span(now - time);
    let schedule = &row.schedule;
    if let Some(requested) = schedule.run_requested_at.filter(|at| now - *at > SHORT_WAIT) {
        let why = if is_worker_alive { "Does a worker have the task?" } else { "No worker is alive." };
        return of(format!("somebody asked to run it {} ago, and there is no job yet. {why}", since(requested)));
    }
    if schedule.is_paused() {
        return None;
    }
    let recurrence = match schedule.recurrence() {
        Ok(recurrence) => recurrence,
        Err(error) => return of(format!("{error}.")),
    };
    if recurrence.next(now).is_none() {
        return of("it never ticks again.".to_owned());
    }
    if let Some(seen) = schedule.seen_in_code_at.filter(|seen| is_worker_alive && now - *seen > SEEN_WITHIN) {
        return of(format!("no worker has had it in its code for {}.", since(seen)));
    }
    let due = recurrence.last_until(now - GRACE);
    // The times of a schedule in code can have changed with its program.
    let counts_from = schedule.ticks_after.unwrap_or(schedule.changed_at).max(schedule.created_at);
    let last_tick = row.last_tick.and_then(|tick| DateTime::from_timestamp(tick, 0));
    match due.filter(|due| *due > counts_from && last_tick.is_none_or(|tick| tick < *due)) {
        Some(due) => Some(why_missed(row, &since(due), is_worker_alive)),
        None => {
            let tick = last_tick.filter(|tick| now - *tick > LONG_WAIT)?;
            let is_pending = row.last_job_status.as_deref() == Some("todo") && row.last_job_id == row.tick_job_id;
            let text = format!("its last job has been pending for {}. Does a worker serve its queue?", since(tick));
            (is_pending && is_worker_alive).then_some(Hint { label: "not served", text, job: row.last_job_id })
        }
    }
}

fn why_missed(row: &ListedSchedule, since: &str, is_worker_alive: bool) -> Hint {
    let last = row
        .last_job_id
        .filter(|_| row.last_job_status.as_deref() == Some("todo") && row.has_queueing_lock == Some(true));
    let missed = format!("its tick of {since} ago became no job");
    match row.holder_id.or(last) {
        Some(holder) => {
            let text = format!("{missed}, because a pending job has its queueing lock.");
            Hint { label: FAILS, text, job: Some(holder) }
        }
        None if is_worker_alive => {
            let text = format!("{missed}, although a worker is alive. Does a worker have the task?");
            Hint { label: FAILS, text, job: None }
        }
        None => Hint { label: FAILS, text: format!("{missed}, because no worker is alive."), job: None },
    }
}
