//! Random statements about schedules, and jobs that are deferred by them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use fastrand::Rng;
use serde_json::json;

use super::choices::{any_job, maybe};
use super::{Both, debug, time_text};
use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::defer::{ExtraOptions, NewJob};
use crate::database::statements::periodic::{DeferPeriodicJob, DeferPeriodicJobs};
use crate::database::statements::schedules::{
    ChangeScheduleQuery, CreateScheduleQuery, ListSchedulesQuery, PauseScheduleQuery, RegisterSchedulesQuery,
    RemoveScheduleQuery, ResumeScheduleQuery, RunScheduleQuery, ScheduleKey,
};

/// A tick of the next or last minutes, by both clocks.
fn any_tick(random: &mut Rng) -> i64 {
    Utc::now().timestamp() / 100 * 100 + 50 * random.i64(-4..5)
}

/// A tick, or the job of a request, by a worker with the schedule in its code or an outdated version of it.
fn defer_job(both: &mut Both, random: &mut Rng) {
    let defer_timestamp = any_tick(random);
    let job = NewJob { scheduled_at: None, ..any_job(random) };
    let periodic_id = maybe(random, &["evening"]).unwrap_or_default();
    let version = (random.u8(..8) == 0).then_some(-1);
    let run_requested_at = (random.u8(..3) == 0).then(requested_at);
    both.ask(
        || DeferPeriodicJob {
            job: job.clone(),
            extras: ExtraOptions::default(),
            periodic_id: periodic_id.clone(),
            defer_timestamp,
            version,
            run_requested_at,
        },
        debug,
    );
}

/// One tick of each of several schedules, by a worker with some of them in its code.
fn defer_jobs(both: &mut Both, random: &mut Rng) {
    let ticks: Vec<_> = ["", "evening", "morning"]
        .map(|periodic_id| DeferPeriodicJob {
            job: NewJob { scheduled_at: None, queueing_lock: None, ..any_job(random) },
            extras: ExtraOptions { limit_key: maybe(random, &["a"]), ..ExtraOptions::default() },
            periodic_id: periodic_id.to_owned(),
            defer_timestamp: any_tick(random),
            version: (random.u8(..8) == 0).then_some(-1),
            run_requested_at: None,
        })
        .into_iter()
        .filter(|_| random.u8(..4) > 0)
        .collect();
    both.ask(|| ticks.iter().cloned().collect::<DeferPeriodicJobs>(), debug);
}

/// The time of all requests.
fn requested_at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

/// Changes or lists the schedules.
fn change(both: &mut Both, random: &mut Rng) {
    let periodic_id = maybe(random, &["evening"]).unwrap_or_default();
    let key = || ScheduleKey { task_name: "task".to_owned(), periodic_id: periodic_id.clone() };
    let at = DateTime::from_timestamp(any_tick(random), 0);
    let values = if random.bool() { json!({ "cron": "@daily", "lock": null }) } else { json!({ "cron": "@hourly" }) };
    match random.u8(..10) {
        0 => drop(both.ask(|| CreateScheduleQuery { key: key(), values: values.clone(), at }, debug)),
        1 => drop(both.ask(|| ChangeScheduleQuery { key: key(), values: values.clone(), at }, debug)),
        2 => drop(both.ask(|| PauseScheduleQuery { key: key(), by: None, reason: None, at }, debug)),
        3..=4 => drop(both.ask(|| ResumeScheduleQuery { key: key(), at }, debug)),
        5 => drop(both.ask(|| RemoveScheduleQuery { key: key(), at }, debug)),
        6..=7 => drop(both.ask(|| RunScheduleQuery { key: key(), at: Some(requested_at()) }, debug)),
        _ => {
            let (lock, missed) = (maybe(random, &["a"]), "last");
            let row = json!({
                "task_name": "task", "periodic_id": periodic_id, "cron": "@daily", "args": {}, "lock": lock,
                "missed_ticks": missed,
            });
            both.ask(|| RegisterSchedulesQuery { schedules: json!([row.clone()]) }, debug);
        }
    }
    both.ask(|| ListSchedulesQuery { key: None }, |(schedule, tick)| format!("{} {tick:?}", text(schedule)));
}

/// The schedule without its version, of which PostgreSQL draws more, and with the times of the database as `now`.
fn text(schedule: &ProcrastinateSchedule) -> String {
    let at = [schedule.seen_in_code_at, Some(schedule.created_at), Some(schedule.changed_at)].map(time_text);
    let shown = ProcrastinateSchedule {
        seen_in_code_at: None,
        created_at: DateTime::UNIX_EPOCH,
        changed_at: DateTime::UNIX_EPOCH,
        version: 0,
        ..schedule.clone()
    };
    format!("{at:?} {shown:?}")
}

#[test]
fn every_statement_about_schedules_returns_what_postgresql_returns() {
    let mut told = BTreeSet::new();
    for seed in 0..10 {
        let mut random = Rng::with_seed(seed);
        let mut both = Both::new();
        for number in 0..150 {
            match random.u8(..8) {
                0..4 => change(&mut both, &mut random),
                4..7 => defer_job(&mut both, &mut random),
                _ => defer_jobs(&mut both, &mut random),
            }
            both.look(&format!("step {number} of seed {seed}"));
        }
        told.append(&mut both.told);
    }
    // Rare cases did occur.
    for part in ["\"deferred\"", "already_deferred", "queueing_lock_taken", "paused", "changed", "conflict"] {
        assert!(told.iter().any(|told| told.contains(part)), "no row contained {part:?}");
    }
}
