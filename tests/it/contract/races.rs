//! Two workers and one lock: between a worker's look at the table and its taking a job, another worker starts a job
//! that comes before that one.
//!
//! A gate, which is a trigger of the test's, holds the first worker at that point.

use serde_json::json;

use super::queue::{Queue, Waiting, fetch};
use crate::support::sql;

/// Both functions, with room for more than one job where there is a choice.
const FETCHES: [&str; 2] = [
    "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)",
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, NULL, NULL, NULL, 5)",
];

/// What makes a connection wait when it takes job 1, as long as this one keeps the gate shut.
const GATE: &str = "
    CREATE FUNCTION go_through_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(1);
        RETURN NEW;
    END;
    $$;
    CREATE TRIGGER gate BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 1)
        EXECUTE FUNCTION go_through_gate();
    SELECT pg_advisory_lock(1)";

/// A worker has seen job 1 and is about to take it. Then job 2 has come in before it, with the same lock, and this
/// connection has taken that one, in a transaction that is still open: now the worker waits for its end.
fn at_the_same_time(fetch: &str, isolation: &str) -> (Queue, Waiting) {
    let mut queue = Queue::with_jobs(json!([{ "lock": "x" }]));
    queue.run(GATE);
    let mut worker = queue.another_connection();
    sql(&mut worker, &format!("SET default_transaction_isolation = '{isolation}'"));
    let worker = Waiting::start_on(worker, &mut queue, fetch);
    queue.add(json!([{ "lock": "x", "priority": 1 }]));
    queue.run("BEGIN");
    assert_eq!(queue.fetch("NULL"), Some(2));
    queue.run("SELECT pg_advisory_unlock(1)");
    worker.wait_again(&mut queue);
    (queue, worker)
}

#[test]
fn a_worker_that_loses_a_race_for_a_lock_fetches_another_job() {
    for fetch in FETCHES {
        let (mut queue, worker) = at_the_same_time(fetch, "read committed");
        let mut other = queue.another_connection();
        sql(&mut other, "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('default', 'task', 'y')");
        queue.run("COMMIT");
        assert_eq!(worker.rows(), ["3"], "{fetch}");
        assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["todo", "doing", "doing"]);
    }
}

#[test]
fn a_worker_that_loses_a_race_for_a_lock_fetches_nothing_if_there_is_no_other_job() {
    for (fetch, nothing) in FETCHES.into_iter().zip([vec!["NULL"], vec![]]) {
        let (mut queue, worker) = at_the_same_time(fetch, "read committed");
        queue.run("COMMIT");
        assert_eq!(worker.rows(), nothing, "{fetch}");
        queue.row("SELECT procrastinate_finish_job_v1(2, 'succeeded', false)");
        assert_eq!(queue.fetch("NULL"), Some(1));
    }
}

#[test]
fn a_worker_fetches_the_job_if_the_other_one_rolls_back() {
    for fetch in FETCHES {
        let (mut queue, worker) = at_the_same_time(fetch, "read committed");
        queue.run("ROLLBACK");
        assert_eq!(worker.rows(), ["1"], "{fetch}");
    }
}

#[test]
fn a_worker_that_fetched_several_jobs_keeps_those_with_other_locks() {
    let mut queue = Queue::with_jobs(json!([{ "lock": "x" }, { "lock": "y" }, {}]));
    queue.run(GATE);
    let worker = Waiting::start(&mut queue, FETCHES[1]);
    queue.add(json!([{ "lock": "x", "priority": 1 }]));
    // What the worker has seen, it has locked: nobody else can take it.
    let mut other = queue.another_connection();
    assert_eq!(fetch(&mut other, "NULL"), Some(4));
    assert_eq!(fetch(&mut other, "NULL"), None);
    queue.run("SELECT pg_advisory_unlock(1)");
    let mut taken = worker.rows();
    taken.sort_unstable();
    assert_eq!(taken, ["2", "3"]);
}

#[test]
fn a_worker_that_searches_again_fetches_no_more_jobs_than_free_slots() {
    let mut queue = Queue::with_jobs(json!([{ "lock": "x" }, {}, { "lock": "y" }]));
    queue.run(GATE);
    let worker = Waiting::start(&mut queue, &FETCHES[1].replace('5', "3"));
    queue.add(json!([{ "lock": "x", "priority": 1 }]));
    assert_eq!(queue.fetch("NULL"), Some(4));
    queue.add(json!([{}, {}, { "lock": "z" }]));
    queue.run("SELECT pg_advisory_unlock(1)");
    let mut taken = worker.rows();
    taken.sort_unstable();
    assert_eq!(taken, ["2", "3", "5"]);
}

#[test]
fn workers_that_fetch_several_jobs_do_not_deadlock() {
    // By priority, the worker would take the second job before it waits at the gate.
    let mut queue = Queue::with_jobs(json!([{ "lock": "a" }, { "lock": "b", "priority": 1 }]));
    queue.run(GATE);
    let worker = Waiting::start(&mut queue, FETCHES[1]);
    queue.add(json!([{ "lock": "a", "priority": 2 }, { "lock": "b", "priority": 2 }]));
    let mut taken = queue.rows(FETCHES[1]);
    taken.sort_unstable();
    assert_eq!(taken, ["3", "4"]);
    queue.run("SELECT pg_advisory_unlock(1)");
    assert_eq!(worker.rows(), [""; 0]);
}

#[test]
fn a_worker_that_loses_a_race_starts_none_of_its_jobs_before_it_searches_again() {
    let mut queue = Queue::with_jobs(json!([{ "lock": "c" }, { "lock": "b" }]));
    queue.run(GATE);
    let worker = Waiting::start(&mut queue, FETCHES[1]);
    queue.add(json!([{ "lock": "c", "priority": 1 }]));
    assert_eq!(queue.fetch("NULL"), Some(3));
    // It has started the job with the lock b, and does it again after this one.
    queue.add(json!([{ "lock": "a" }]));
    queue.run("SELECT pg_advisory_unlock(1)");
    let mut taken = worker.rows();
    taken.sort_unstable();
    assert_eq!(taken, ["2", "4"]);
}

#[test]
fn a_worker_that_loses_a_second_race_keeps_the_order_of_the_locks() {
    // So that it never waits for a lock while it holds one that comes later.
    let mut queue = Queue::with_jobs(json!([{ "lock": "b" }, { "lock": "c" }, { "lock": "d" }]));
    queue.run(GATE);
    queue.run(&GATE.replace("gate", "second_gate").replace("(1)", "(2)").replace("OLD.id = 1", "OLD.id = 3"));
    let worker = Waiting::start(&mut queue, FETCHES[1]);
    queue.add(json!([{ "lock": "b", "priority": 1 }]));
    assert_eq!(queue.fetch("NULL"), Some(4));
    queue.run("SELECT pg_advisory_unlock(1)");
    // It has started the job with the lock c alone, and is about to take the one with the lock d.
    worker.wait_again(&mut queue);
    queue.add(json!([{ "lock": "d", "priority": 1 }]));
    assert_eq!(queue.fetch("NULL"), Some(5));
    queue.add(json!([{ "lock": "a" }, { "lock": "e" }]));
    queue.run("SELECT pg_advisory_unlock(2)");
    let mut taken = worker.rows();
    taken.sort_unstable();
    assert_eq!(taken, ["2", "7"]);
    assert_eq!(queue.rows(FETCHES[1]), ["6"]);
}

#[test]
fn a_fetch_with_an_old_snapshot_does_not_search_forever() {
    for isolation in ["repeatable read", "serializable"] {
        // What a worker was overtaken at it remembers, and goes on without it.
        for (fetch, nothing) in [(FETCHES[0], &["NULL"][..]), (FETCHES[1], &[])] {
            let (mut queue, worker) = at_the_same_time(fetch, isolation);
            queue.run("COMMIT");
            assert_eq!(worker.rows(), nothing, "{fetch}");
        }
    }
}

#[test]
fn a_violation_of_another_unique_index_is_an_error_and_no_reason_to_search_again() {
    for fetch in FETCHES {
        let mut queue = Queue::with_jobs(json!([{ "status": "doing" }, { "lock": "x" }]));
        queue.run("CREATE UNIQUE INDEX one_at_a_time ON procrastinate_jobs (task_name) WHERE status = 'doing'");
        assert_eq!(queue.failure_of(fetch).constraint_name(), Some("one_at_a_time"), "{fetch}");
    }
}
