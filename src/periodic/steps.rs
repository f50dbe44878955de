//! Defers what is due of the schedules: jobs on request, and ticks.

use chrono::{DateTime, Utc};

use super::schedule::Schedule;
use super::session::{Failure, Session};
use super::timetable::Entry;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::queue::defer::tick::TickOutcome;

/// How many ticks one statement defers. Each is a subtransaction, and a server remembers 64 of a transaction.
const MOST_TICKS: usize = 50;

/// How far the jobs of schedules were deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    Done,
    /// Some failed, and are kept.
    Unfinished,
    /// A schedule was changed, and has to be read again.
    Outdated,
}

/// Defers the job that was requested, if any.
pub(super) async fn run_on_request(session: &mut Session, entry: &mut Entry, now: DateTime<Utc>) -> Progress {
    let Some(job) = entry.requested_job(now) else { return Progress::Done };
    match session.defer(job).await {
        Ok(TickOutcome::Locked) | Err(Failure::Away(_)) => Progress::Unfinished,
        Ok(TickOutcome::Changed | TickOutcome::Conflict) => Progress::Outdated,
        Ok(outcome) => {
            log_outcome(&entry.schedule, now, &outcome);
            entry.forget_request();
            Progress::Done
        }
        Err(Failure::Refused(reason)) => {
            log_failure(&entry.schedule, now, &reason);
            Progress::Unfinished
        }
    }
}

/// Defers the pending ticks of schedules, those of each schedule in order. A tick that fails holds back the later ones
/// of its schedule, and no others.
pub(super) async fn defer_ticks(session: &mut Session, mut entries: Vec<&mut Entry>) -> Progress {
    let mut progress = Progress::Done;
    // All workers take them in the same order, so that two statements do not wait for each other.
    entries.sort_by(|a, b| a.schedule.key().cmp(&b.schedule.key()));
    loop {
        // One tick of each: a statement must not defer a tick after one before it was kept.
        entries.retain(|entry| entry.ticks.first().is_some());
        if entries.is_empty() {
            return progress;
        }
        let mut all_found = Vec::with_capacity(entries.len());
        for part in entries.chunks_mut(MOST_TICKS) {
            let found = defer_first_ticks(session, part).await;
            progress = found.iter().copied().fold(progress, Progress::max);
            all_found.extend(found);
        }
        let mut is_done = all_found.into_iter().map(|found| found == Progress::Done);
        entries.retain(|_| is_done.next().unwrap_or(false));
    }
}

/// Defers the first pending tick of each schedule, and returns how far it came with each.
async fn defer_first_ticks(session: &mut Session, entries: &mut [&mut Entry]) -> Vec<Progress> {
    let jobs: Vec<_> = entries.iter().map(|entry| job_for_many(entry)).collect();
    let are_together: Vec<_> = jobs.iter().map(Option::is_some).collect();
    let jobs: Vec<_> = jobs.into_iter().flatten().collect();
    // An error undoes all of them. Then each has a statement of its own, so that it is known which one fails.
    let together = if jobs.len() > 1 { session.defer_all(jobs).await.unwrap_or_default() } else { Vec::new() };
    let mut together = together.into_iter();
    let mut progress = Vec::with_capacity(entries.len());
    for (entry, is_together) in entries.iter_mut().zip(are_together) {
        let Some(tick) = entry.ticks.first() else { continue };
        let outcome = match is_together.then(|| together.next()).flatten() {
            Some(outcome) => Ok(outcome),
            None => session.defer(entry.schedule.at(tick)).await,
        };
        progress.push(finish_tick(entry, tick, outcome));
    }
    progress
}

/// The job of the first pending tick, if it can be deferred with others. A job with a queueing lock may have to wait
/// for another transaction.
fn job_for_many(entry: &Entry) -> Option<DeferPeriodicJob> {
    let job = entry.schedule.at(entry.ticks.first()?).ok()?;
    job.job.queueing_lock.is_none().then_some(job)
}

/// Removes the first pending tick, or keeps it.
fn finish_tick(entry: &mut Entry, tick: DateTime<Utc>, outcome: Result<TickOutcome, Failure>) -> Progress {
    match outcome {
        Ok(TickOutcome::Changed | TickOutcome::Conflict) => Progress::Outdated,
        Ok(TickOutcome::Locked) => {
            entry.ticks.keep_first("another transaction is changing the schedule");
            Progress::Unfinished
        }
        Ok(outcome) => {
            log_outcome(&entry.schedule, tick, &outcome);
            entry.ticks.forget_first();
            Progress::Done
        }
        Err(Failure::Away(reason) | Failure::Refused(reason)) => {
            if entry.ticks.keep_first(&reason) {
                log_failure(&entry.schedule, tick, &reason);
            }
            Progress::Unfinished
        }
    }
}

fn log_outcome(schedule: &Schedule, tick: DateTime<Utc>, outcome: &TickOutcome) {
    let (task_name, periodic_id) = (schedule.task_name(), schedule.periodic_id());
    let defer_timestamp = tick.timestamp();
    match outcome {
        TickOutcome::Deferred { job_id, queue } => tracing::info!(
            action = "periodic_task_deferred",
            job.id = i64::from(*job_id),
            job.task_name = task_name,
            job.queue = queue,
            periodic_id,
            defer_timestamp,
            "deferred the periodic task {task_name} for {tick} as job {job_id}",
        ),
        TickOutcome::AlreadyDeferred => tracing::debug!(
            action = "periodic_task_already_deferred",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            "the periodic task {task_name} was already deferred for {tick}",
        ),
        TickOutcome::QueueingLockTaken { queueing_lock } => tracing::debug!(
            action = "skip_periodic_task_queueing_lock",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            queueing_lock,
            "skipped the periodic task {task_name} for {tick}: another pending job holds its queueing lock",
        ),
        TickOutcome::Overlaps => tracing::info!(
            action = "skip_periodic_task_overlap",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            "skipped the periodic task {task_name} for {tick}: its last job is pending or running",
        ),
        TickOutcome::Paused | TickOutcome::Changed | TickOutcome::Conflict | TickOutcome::Locked => tracing::debug!(
            action = "skip_periodic_task_paused",
            job.task_name = task_name,
            periodic_id,
            defer_timestamp,
            "skipped the periodic task {task_name} for {tick}: its schedule was paused",
        ),
    }
}

fn log_failure(schedule: &Schedule, tick: DateTime<Utc>, reason: &str) {
    let (task_name, periodic_id) = (schedule.task_name(), schedule.periodic_id());
    tracing::error!(
        action = "periodic_task_error",
        job.task_name = task_name,
        periodic_id,
        defer_timestamp = tick.timestamp(),
        "could not defer the periodic task {task_name} for {tick}, will retry: {reason}",
    );
}
