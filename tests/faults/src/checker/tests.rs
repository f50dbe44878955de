//! The checker with hand-made ledgers: it finds what is broken, and nothing else.

use super::{Event, Evidence, Job, check};
use crate::ledger::{Ending, Line};

/// A second, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// A job that was acknowledged, started once and succeeded, without a run yet.
fn story() -> Evidence {
    Evidence {
        lines: vec![Line::Acknowledged { token: "a".to_owned(), job: 1 }],
        jobs: vec![job(1, "succeeded", 1, "a")],
        events: events(1, &["deferred", "started", "succeeded"]),
        drained_up_to: 1_000,
        timeout: 3 * SECOND,
        deleted_at_age: None,
        collected_at: 100 * SECOND,
    }
}

/// The same with its complete run.
fn good_story() -> Evidence {
    let mut evidence = story();
    evidence.lines.extend(run(1, 0, None, 10, (0, SECOND)));
    evidence
}

fn job(id: i64, status: &str, attempts: i32, token: &str) -> Job {
    Job { id, status: status.to_owned(), attempts, token: Some(token.to_owned()), tick: None }
}

fn events(job: i64, kinds: &[&str]) -> Vec<Event> {
    kinds.iter().map(|kind| Event { job, kind: (*kind).to_owned() }).collect()
}

/// The lines of a run that succeeded, in a process, from one time to another.
fn run(job: i64, attempts: i32, lock: Option<&str>, pid: u32, (begin, end): (i64, i64)) -> [Line; 2] {
    [begin_line(job, attempts, lock, pid, begin), end_line(job, pid, begin, end, Ending::Succeeded)]
}

fn begin_line(job: i64, attempts: i32, lock: Option<&str>, pid: u32, at: i64) -> Line {
    let lock = lock.map(str::to_owned);
    Line::Begin { run: run_number(job, pid, at), job, attempts, lock, token: "a".to_owned(), at, pid }
}

fn end_line(job: i64, pid: u32, begin: i64, at: i64, ending: Ending) -> Line {
    Line::End { run: run_number(job, pid, begin), job, ending, at, pid }
}

fn run_number(job: i64, pid: u32, begin: i64) -> u64 {
    let text = format!("{job}{pid:05}{begin:012}");
    text.parse().unwrap()
}

#[track_caller]
fn assert_breaks(evidence: &Evidence, promises: &[u8]) {
    let found = check(evidence);
    let broken: Vec<u8> = found.iter().map(|violation| violation.promise).collect();
    assert_eq!(broken, promises, "{found:?}");
}

#[test]
fn a_job_that_ran_and_succeeded_is_as_promised() {
    assert_breaks(&good_story(), &[]);
}

// ---- 1: nothing is lost ----

#[test]
fn an_acknowledged_job_that_does_not_exist_is_found() {
    let mut evidence = good_story();
    evidence.lines.push(Line::Acknowledged { token: "b".to_owned(), job: 2 });
    assert_breaks(&evidence, &[1]);
}

#[test]
fn a_job_that_succeeded_without_a_complete_run_is_found() {
    assert_breaks(&story(), &[1]);
    let mut killed = story();
    killed.lines.extend([begin_line(1, 0, None, 10, 0), Line::Gone { pid: 10, at: SECOND }]);
    assert_breaks(&killed, &[1]);
    let mut dropped = story();
    dropped.lines.extend([begin_line(1, 0, None, 10, 0), end_line(1, 10, 0, SECOND, Ending::Dropped)]);
    assert_breaks(&dropped, &[1]);
}

#[test]
fn a_job_that_succeeded_with_the_run_of_another_attempt_is_found() {
    let mut evidence = story();
    evidence.events = events(1, &["deferred", "started", "deferred_for_retry", "started", "succeeded"]);
    evidence.jobs[0].attempts = 2;
    evidence.lines.extend(run(1, 0, None, 10, (0, SECOND)));
    assert_breaks(&evidence, &[1]);
}

#[test]
fn a_job_that_never_finishes_is_found_if_it_had_the_time() {
    let mut evidence = story();
    evidence.jobs[0] = job(1, "doing", 0, "a");
    evidence.events = events(1, &["deferred", "started"]);
    assert_breaks(&evidence, &[1]);
    evidence.drained_up_to = 0;
    assert_breaks(&evidence, &[]);
}

#[test]
fn a_job_with_the_arguments_of_another_is_found() {
    let mut evidence = good_story();
    evidence.jobs[0].token = Some("b".to_owned());
    assert_breaks(&evidence, &[1]);
}

// ---- deleted jobs ----

/// The good story, without the job's row.
fn deleted_story() -> Evidence {
    let mut evidence = good_story();
    evidence.jobs.clear();
    evidence.events.clear();
    evidence
}

#[test]
fn a_successful_job_may_be_deleted_by_its_worker_or_when_it_is_old() {
    assert_breaks(&deleted_story(), &[1, 2]);
    let mut by_its_worker = deleted_story();
    by_its_worker.lines.push(Line::DeletesSuccessful { pid: 11 });
    assert_breaks(&by_its_worker, &[1, 2]);
    by_its_worker.lines.push(Line::DeletesSuccessful { pid: 10 });
    assert_breaks(&by_its_worker, &[]);
    let mut old = deleted_story();
    old.deleted_at_age = Some(99 * SECOND);
    assert_breaks(&old, &[]);
    old.deleted_at_age = Some(99 * SECOND + 1);
    assert_breaks(&old, &[1, 2]);
}

#[test]
fn a_job_without_a_complete_last_run_must_not_be_deleted() {
    let mut evidence = deleted_story();
    evidence.deleted_at_age = Some(SECOND);
    evidence.lines.extend([begin_line(1, 1, None, 10, 2 * SECOND), Line::Gone { pid: 10, at: 3 * SECOND }]);
    assert_breaks(&evidence, &[1, 2, 2]);
    evidence.lines.retain(|line| matches!(line, Line::Acknowledged { .. }));
    assert_breaks(&evidence, &[1]);
}

#[test]
fn a_deleted_job_with_the_arguments_of_another_is_found() {
    let mut evidence = deleted_story();
    evidence.deleted_at_age = Some(SECOND);
    evidence.lines[0] = Line::Acknowledged { token: "b".to_owned(), job: 1 };
    assert_breaks(&evidence, &[1]);
}

// ---- 2: a rolled-back job never runs ----

#[test]
fn a_rolled_back_job_that_exists_and_ran_is_found() {
    let mut evidence = good_story();
    evidence.lines[0] = Line::RolledBack { token: "a".to_owned() };
    assert_breaks(&evidence, &[2, 2]);
}

#[test]
fn a_run_of_a_job_that_does_not_exist_is_found() {
    let mut evidence = good_story();
    evidence.lines.extend(run(2, 0, None, 10, (0, SECOND)));
    assert_breaks(&evidence, &[2]);
}

// ---- 3: one outcome ----

#[test]
fn two_outcomes_of_one_life_are_found() {
    let mut evidence = good_story();
    evidence.events = events(1, &["deferred", "started", "succeeded", "succeeded"]);
    assert_breaks(&evidence, &[3]);
}

#[test]
fn a_manual_retry_begins_a_new_life() {
    let mut evidence = good_story();
    evidence.events = events(1, &["deferred", "started", "failed", "retried", "started", "succeeded"]);
    evidence.jobs[0].attempts = 3;
    evidence.lines.extend(run(1, 2, None, 10, (2 * SECOND, 3 * SECOND)));
    assert_breaks(&evidence, &[]);
    evidence.events = events(1, &["deferred", "started", "succeeded", "retried", "started", "succeeded"]);
    assert_breaks(&evidence, &[3]);
}

#[test]
fn a_status_that_is_not_the_last_event_is_found() {
    let mut evidence = good_story();
    evidence.jobs[0].status = "failed".to_owned();
    assert_breaks(&evidence, &[3]);
}

#[test]
fn attempts_that_were_not_counted_or_counted_twice_are_found() {
    for attempts in [1, 3] {
        let mut evidence = good_story();
        evidence.events = events(1, &["deferred", "started", "deferred_for_retry", "started", "succeeded"]);
        evidence.jobs[0].attempts = attempts;
        evidence.lines.extend(run(1, attempts - 1, None, 10, (2 * SECOND, 3 * SECOND)));
        assert_breaks(&evidence, &[3]);
    }
}

#[test]
fn a_snoozed_attempt_and_one_that_never_began_need_not_count() {
    let mut evidence = good_story();
    evidence.events = events(1, &["deferred", "started", "deferred_for_retry", "started", "succeeded"]);
    assert_breaks(&evidence, &[]);
    evidence
        .lines
        .extend([begin_line(1, 0, None, 10, 2 * SECOND), end_line(1, 10, 2 * SECOND, 3 * SECOND, Ending::Snoozed)]);
    assert_breaks(&evidence, &[]);
}

// ---- 4 and 5: no overlaps ----

/// Two jobs with one lock, the second of which begins after 4 seconds in another process.
fn two_with_a_lock(end_of_first: i64) -> Evidence {
    let mut evidence = story();
    evidence.jobs.push(job(2, "succeeded", 1, "b"));
    evidence.events.extend(events(2, &["deferred", "started", "succeeded"]));
    evidence.lines.extend(run(1, 0, Some("lock"), 10, (0, end_of_first)));
    evidence.lines.extend(run(2, 0, Some("lock"), 20, (4 * SECOND, 5 * SECOND)));
    evidence
}

#[test]
fn overlapping_runs_of_one_lock_are_found() {
    assert_breaks(&two_with_a_lock(4 * SECOND), &[]);
    assert_breaks(&two_with_a_lock(4 * SECOND + 1), &[4]);
}

#[test]
fn overlapping_runs_of_one_job_are_found() {
    let mut evidence = story();
    evidence.jobs[0].attempts = 2;
    evidence.events = events(1, &["deferred", "started", "deferred_for_retry", "started", "succeeded"]);
    evidence.lines.extend(run(1, 0, Some("lock"), 10, (0, 2 * SECOND)));
    evidence.lines.extend(run(1, 1, Some("lock"), 20, (SECOND, 3 * SECOND)));
    assert_breaks(&evidence, &[5]);
}

#[test]
fn a_long_stop_of_the_earlier_process_is_an_excuse_and_others_are_not() {
    let mut evidence = two_with_a_lock(7 * SECOND);
    let mut with_stop = |pid, from, to| {
        evidence.lines.push(Line::Stopped { pid, from, to });
        let promises: Vec<u8> = check(&evidence).iter().map(|violation| violation.promise).collect();
        evidence.lines.pop();
        promises
    };
    assert_eq!(with_stop(10, SECOND, 7 * SECOND), [0_u8; 0]);
    // Too short, another process, too early, and the task went on for too long.
    assert_eq!(with_stop(10, SECOND, 4 * SECOND), [4]);
    assert_eq!(with_stop(20, SECOND, 7 * SECOND), [4]);
    assert_eq!(with_stop(10, 5 * SECOND, 9 * SECOND), [4]);
    assert_eq!(with_stop(10, 0, 4 * SECOND), [4]);
}

#[test]
fn the_run_of_a_killed_process_ends_with_it() {
    let mut evidence = two_with_a_lock(0);
    evidence.lines.retain(|line| !matches!(line, Line::End { job: 1, .. }));
    evidence.jobs[0].status = "failed".to_owned();
    evidence.events[2].kind = "failed".to_owned();
    assert_breaks(&evidence, &[4]);
    evidence.lines.push(Line::Gone { pid: 10, at: 3 * SECOND });
    assert_breaks(&evidence, &[]);
}

// ---- Python ----

#[test]
fn a_job_of_python_that_was_requeued_is_excused_and_no_other_is() {
    let mut evidence = story();
    evidence.jobs[0].attempts = 2;
    evidence.events = events(1, &["deferred", "started", "deferred_for_retry", "started", "succeeded"]);
    evidence.lines.extend(run(1, 0, Some("lock"), 10, (0, 3 * SECOND)));
    evidence
        .lines
        .extend([begin_line(1, 1, Some("lock"), 20, SECOND), end_line(1, 20, SECOND, 2 * SECOND, Ending::Dropped)]);
    assert_breaks(&evidence, &[1, 5]);
    evidence.lines.push(Line::Python { pid: 10 });
    assert_breaks(&evidence, &[]);
    // Without a run that is complete, it is lost.
    evidence.lines.retain(|line| !matches!(line, Line::End { ending: Ending::Succeeded, .. }));
    evidence.lines.push(Line::Gone { pid: 10, at: SECOND });
    assert_breaks(&evidence, &[1]);
    let mut overlapping = two_with_a_lock(4 * SECOND + 1);
    overlapping.lines.push(Line::Python { pid: 10 });
    assert_breaks(&overlapping, &[4]);
}

// ---- 6: ticks ----

#[test]
fn a_tick_with_two_jobs_is_found() {
    let mut evidence = Evidence::default();
    for id in 1..=3 {
        let mut job = job(id, "cancelled", 0, "a");
        job.tick = Some(("each second".to_owned(), id / 2));
        evidence.jobs.push(job);
        evidence.events.extend(events(id, &["deferred", "cancelled"]));
    }
    assert_breaks(&evidence, &[6]);
}

#[test]
fn a_tick_with_a_deleted_job_and_another_one_is_found() {
    let mut evidence = deleted_story();
    evidence.deleted_at_age = Some(SECOND);
    evidence.lines.remove(0);
    if let Line::Begin { token, .. } = &mut evidence.lines[0] {
        "each second 7".clone_into(token);
    }
    let mut other = job(2, "cancelled", 0, "a");
    other.tick = Some(("each second".to_owned(), 8));
    evidence.jobs.push(other);
    evidence.events = events(2, &["deferred", "cancelled"]);
    assert_breaks(&evidence, &[]);
    evidence.jobs[0].tick = Some(("each second".to_owned(), 7));
    assert_breaks(&evidence, &[6]);
}

// ---- 7: no start after the outcome ----

#[test]
fn a_start_after_the_outcome_is_found() {
    for end in ["succeeded", "failed", "aborted"] {
        let mut evidence = good_story();
        evidence.events = events(1, &["deferred", "started", end, "started", "succeeded"]);
        assert_breaks(&evidence, &[7]);
    }
}

#[test]
fn a_run_that_was_not_started_is_found() {
    let mut evidence = good_story();
    evidence.lines.extend(run(1, 0, None, 20, (2 * SECOND, 3 * SECOND)));
    assert_breaks(&evidence, &[7]);
}
