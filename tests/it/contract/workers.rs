//! The functions of workers.

use serde_json::json;

use super::queue::Queue;
use crate::support::sql;

const WORKERS: &str = "SELECT id FROM procrastinate_workers ORDER BY id";

/// A queue with workers whose last heartbeats are this many seconds old.
fn queue_with_workers(silences: &[f64]) -> Queue {
    let mut queue = Queue::new();
    // Time does not advance in a transaction, so the seconds are exact.
    queue.run("BEGIN");
    for silence in silences {
        let id = queue.register_worker();
        queue.run(&format!(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - make_interval(secs => {silence}) WHERE id = {id}"
        ));
    }
    queue
}

fn prune(queue: &mut Queue, seconds: f64) -> Vec<String> {
    queue.rows(&format!("SELECT worker_id FROM procrastinate_prune_stalled_workers_v1({seconds}) ORDER BY worker_id"))
}

#[test]
fn every_worker_gets_an_id_and_a_first_heartbeat() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    assert_eq!(queue.rows("SELECT last_heartbeat = now() FROM procrastinate_workers"), ["true", "true"]);
}

#[test]
fn the_id_of_a_worker_cannot_be_chosen() {
    let mut queue = Queue::new();
    queue.failure_of("INSERT INTO procrastinate_workers (id) VALUES (7)");
}

#[test]
fn a_heartbeat_is_that_of_one_worker() {
    let mut queue = queue_with_workers(&[100.0, 100.0]);
    queue.row("SELECT procrastinate_update_heartbeat_v1(2)");
    let alive = "SELECT id, last_heartbeat = now() FROM procrastinate_workers ORDER BY id";
    assert_eq!(queue.rows(alive), ["1 | false", "2 | true"]);
}

#[test]
fn a_heartbeat_does_not_re_register_a_worker() {
    let mut queue = Queue::new();
    queue.row("SELECT procrastinate_update_heartbeat_v1(1)");
    assert_eq!(queue.rows(WORKERS), [""; 0]);
}

#[test]
fn workers_are_pruned_if_their_last_heartbeat_is_older_than_the_limit() {
    let mut queue = queue_with_workers(&[29.0, 30.0, 30.001, 3_600.0, 0.0]);
    assert_eq!(prune(&mut queue, 30.0), ["3", "4"]);
    assert_eq!(queue.rows(WORKERS), ["1", "2", "5"]);
    assert_eq!(prune(&mut queue, 30.0), [""; 0]);
}

#[test]
fn parts_of_a_second_count() {
    let mut queue = queue_with_workers(&[0.4, 0.6]);
    assert_eq!(prune(&mut queue, 0.5), ["2"]);
}

#[test]
fn one_worker_unregisters() {
    let mut queue = queue_with_workers(&[0.0, 0.0]);
    queue.row("SELECT procrastinate_unregister_worker_v1(1)");
    assert_eq!(queue.rows(WORKERS), ["2"]);
    queue.row("SELECT procrastinate_unregister_worker_v1(1)");
    assert_eq!(queue.rows(WORKERS), ["2"]);
}

#[test]
fn all_jobs_of_a_worker_that_is_gone_lose_it_whatever_their_status() {
    for goodbye in ["unregister_worker_v1(1)", "prune_stalled_workers_v1(30)"] {
        let mut queue = queue_with_workers(&[100.0, 0.0]);
        for status in ["todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
            queue.add(json!([{ "status": status, "worker_id": 1 }, { "status": status, "worker_id": 2 }]));
        }
        queue.rows(&format!("SELECT procrastinate_{goodbye}"));
        let jobs = "SELECT status, worker_id FROM procrastinate_jobs ORDER BY id";
        let expected: Vec<_> = ["todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted"]
            .iter()
            .flat_map(|status| [format!("{status} | NULL"), format!("{status} | 2")])
            .collect();
        assert_eq!(queue.rows(jobs), expected, "{goodbye}");
    }
}

#[test]
fn pruning_skips_a_worker_that_another_transaction_has_locked() {
    let mut queue = queue_with_workers(&[100.0, 100.0]);
    queue.run("COMMIT");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_workers WHERE id = 1 FOR UPDATE");
    assert_eq!(prune(&mut queue, 30.0), ["2"]);
}

// ---- This crate's own ----

/// A queue with two workers whose last heartbeats are 100 seconds old, and with jobs of both in every status.
fn queue_with_working_workers() -> Queue {
    let mut queue = queue_with_workers(&[100.0, 100.0]);
    for status in ["todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted", "doing"] {
        queue.add(json!([{ "status": status, "worker_id": 1 }, { "status": status, "worker_id": 2 }]));
    }
    queue
}

#[test]
fn the_crates_heartbeat_returns_whether_the_worker_is_registered() {
    let mut queue = queue_with_working_workers();
    assert_eq!(queue.row("SELECT procrastinate_diesel_update_heartbeat_v1(1)"), "2");
    let alive = "SELECT id, last_heartbeat = now() FROM procrastinate_workers ORDER BY id";
    assert_eq!(queue.rows(alive), ["1 | true", "2 | false"]);
    assert_eq!(queue.row("SELECT procrastinate_diesel_update_heartbeat_v1(3)"), "0");
}

#[test]
fn a_heartbeat_waits_for_no_lock_on_the_jobs() {
    let mut queue = queue_with_working_workers();
    queue.run("COMMIT");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE");
    queue.run("SET lock_timeout = '1s'");
    assert_eq!(queue.row("SELECT procrastinate_diesel_update_heartbeat_v1(1)"), "2");
}

#[test]
fn the_jobs_that_a_worker_holds_are_listed() {
    let mut queue = queue_with_working_workers();
    let held = "SELECT job_id, attempts, abort_requested FROM procrastinate_diesel_held_jobs_v1";
    assert_eq!(queue.rows(&format!("{held}(1) ORDER BY job_id")), ["3 | 0 | false", "15 | 0 | false"]);
    assert_eq!(queue.rows(&format!("{held}(2) ORDER BY job_id")), ["4 | 0 | false", "16 | 0 | false"]);
    // It has no jobs because it is gone, which is not the same.
    let failure = queue.failure_of(&format!("{held}(99)"));
    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_worker_id_fkey"));
}

#[test]
fn only_those_of_the_given_jobs_that_the_worker_holds_are_returned() {
    let mut queue = queue_with_working_workers();
    let jobs = |ids: &str| format!("SELECT * FROM procrastinate_diesel_jobs_of_worker_v1(1, '{ids}') ORDER BY id");
    let row =
        "'fetched' AS kind, id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, attempts,
               abort_requested, worker_id, NULL AS problem, NULL AS wait_seconds";
    let expected = queue.rows(&format!("SELECT {row} FROM procrastinate_jobs WHERE id IN (3, 15) ORDER BY id"));
    assert_eq!(queue.rows(&jobs("{1,2,3,4,5,15,99}")), expected);
    assert_eq!(queue.rows(&jobs("{4,5}")), [""; 0]);
    assert_eq!(queue.rows(&jobs("{}")), [""; 0]);
}
