//! The rules of fetching. Each is tested with `procrastinate_fetch_job_v2`, and with this crate's function for many
//! jobs, which must follow the same rules.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use diesel::prelude::*;
use serde_json::{Value, json};

use super::queue::{Queue, fetch};
use crate::support::{PATIENCE, rows, sql};

const ALL: &str = "NULL";

/// Of these jobs, numbered from 1, those numbered `expected` can be taken from the queues, in that order, while none is
/// finished.
fn assert_fetched(jobs: Value, queues: &str, expected: &[i64]) {
    assert_fetched_from(&mut Queue::with_jobs(jobs), queues, expected);
}

/// The same, where the jobs are there already.
fn assert_fetched_from(queue: &mut Queue, queues: &str, expected: &[i64]) {
    let one_by_one = queue.and_undo(|queue| fetch_all(queue, &format!("procrastinate_fetch_job_v2({queues}, NULL)")));
    assert_eq!(one_by_one, expected, "one by one");

    let single_slots = queue.and_undo(|queue| fetch_all(queue, &own_function(queues, 1)));
    assert_eq!(single_slots, expected, "by the crate's function, with one slot");

    // What a session remembers of its former fetch decides only where the search begins.
    for what in ["locks", "due_jobs"] {
        let after_many = queue.and_undo(|queue| {
            let fetch = own_function(queues, 1);
            let next = |queue: &mut Queue| {
                queue.run(&format!("SET procrastinate_diesel.has_many_{what} = 'true'"));
                fetch_once(queue, &fetch).first().copied()
            };
            std::iter::from_fn(|| next(queue)).collect::<Vec<_>>()
        });
        assert_eq!(after_many, expected, "after a fetch that has found many {what}");
    }

    let mut at_once = queue.and_undo(|queue| fetch_once(queue, &own_function(queues, 100)));
    let mut expected = expected.to_vec();
    // The result is not sorted.
    at_once.sort_unstable();
    expected.sort_unstable();
    assert_eq!(at_once, expected, "by the crate's function, all at once");
}

fn own_function(queues: &str, slots: i32) -> String {
    format!("procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', {queues}, {slots})")
}

fn fetch_all(queue: &mut Queue, function: &str) -> Vec<i64> {
    let mut ids = Vec::new();
    loop {
        match *fetch_once(queue, function) {
            [id] => ids.push(id),
            [] => return ids,
            ref several => panic!("for one slot: {several:?}"),
        }
    }
}

fn fetch_once(queue: &mut Queue, function: &str) -> Vec<i64> {
    let ids = queue.rows(&format!("SELECT id FROM {function}"));
    ids.iter().filter(|id| *id != "NULL").map(|id| id.parse().unwrap()).collect()
}

// ---- Status ----

#[test]
fn only_a_pending_job_can_be_fetched() {
    let jobs = json!([
        { "status": "doing" },
        { "status": "succeeded" },
        { "status": "failed" },
        { "status": "cancelled" },
        { "status": "aborting" },
        { "status": "aborted" },
        { "status": "todo" },
    ]);
    assert_fetched(jobs, ALL, &[7]);
}

// ---- Queues ----

fn jobs_of_three_queues() -> Value {
    json!([{ "queue_name": "a" }, { "queue_name": "b" }, { "queue_name": "c" }, { "queue_name": "a" }])
}

#[test]
fn a_job_is_fetched_from_the_given_queues() {
    let mut queue = Queue::with_jobs(jobs_of_three_queues());
    assert_fetched_from(&mut queue, "'{b}'", &[2]);
    assert_fetched_from(&mut queue, "'{c,a}'", &[1, 3, 4]);
    assert_fetched_from(&mut queue, "'{unknown}'", &[]);
}

#[test]
fn null_means_all_queues() {
    assert_fetched(jobs_of_three_queues(), "NULL", &[1, 2, 3, 4]);
}

#[test]
fn an_empty_array_means_no_queue() {
    assert_fetched(jobs_of_three_queues(), "'{}'", &[]);
}

// ---- Schedule ----

#[test]
fn a_job_is_not_fetched_before_its_time() {
    let jobs = json!([
        { "scheduled_at": "tomorrow" },
        { "scheduled_at": "infinity" },
        { "scheduled_at": "yesterday" },
        { "scheduled_at": "-infinity" },
        { "scheduled_at": null },
    ]);
    assert_fetched(jobs, ALL, &[3, 4, 5]);
}

#[test]
fn a_job_can_be_fetched_at_exactly_its_scheduled_time() {
    let mut queue = Queue::new();
    // Time does not advance in a transaction.
    queue.run("BEGIN");
    queue.add(json!([{ "scheduled_at": "now" }, { "scheduled_at": "now" }]));
    queue.run("UPDATE procrastinate_jobs SET scheduled_at = now()");
    assert_eq!(queue.fetch(ALL), Some(1));
    assert_eq!(fetch_once(&mut queue, &own_function(ALL, 1)), [2]);
}

#[test]
fn a_schedule_does_not_change_the_order() {
    let jobs = json!([{}, { "scheduled_at": "yesterday" }, {}, { "scheduled_at": "yesterday", "priority": 1 }]);
    assert_fetched(jobs, ALL, &[4, 1, 2, 3]);
}

// ---- Order ----

#[test]
fn the_highest_priority_comes_first_and_then_the_lowest_id() {
    let jobs = json!([
        { "priority": -3 },
        { "priority": 0 },
        { "priority": 5 },
        { "priority": 0 },
        { "priority": 5 },
        { "priority": 2_147_483_647 },
        { "priority": -2_147_483_648_i64 },
    ]);
    assert_fetched(jobs, ALL, &[6, 3, 5, 2, 4, 1, 7]);
}

#[test]
fn the_order_of_the_queues_does_not_count() {
    assert_fetched(jobs_of_three_queues(), "'{c,b,a}'", &[1, 2, 3, 4]);
}

// ---- Locks ----

#[test]
fn the_first_of_the_jobs_with_one_lock_is_fetched() {
    let jobs = json!([{ "lock": "x" }, { "lock": "x" }, { "lock": "y" }, {}, { "lock": "y" }, {}]);
    assert_fetched(jobs, ALL, &[1, 3, 4, 6]);
}

#[test]
fn a_running_job_blocks_those_with_its_lock() {
    let jobs = json!([
        { "lock": "x", "status": "doing" },
        { "lock": "x" },
        { "lock": "x", "priority": 9 },
        { "lock": "x", "queue_name": "other" },
        { "lock": "y" },
        {},
    ]);
    assert_fetched(jobs, ALL, &[5, 6]);
}

#[test]
fn a_running_job_of_a_queue_that_is_not_served_blocks_too() {
    let jobs = json!([{ "lock": "x", "status": "doing", "queue_name": "b" }, { "lock": "x", "queue_name": "a" }]);
    assert_fetched(jobs, "'{a}'", &[]);
}

#[test]
fn a_running_job_without_a_lock_blocks_nothing() {
    assert_fetched(json!([{ "status": "doing" }, {}, { "lock": "x" }, { "lock": "" }]), ALL, &[2, 3, 4]);
}

#[test]
fn an_empty_lock_is_a_lock() {
    assert_fetched(json!([{ "lock": "" }, { "lock": "" }]), ALL, &[1]);
}

#[test]
fn a_finished_job_blocks_nothing() {
    let mut queue = Queue::new();
    for status in ["succeeded", "failed", "cancelled", "aborting", "aborted"] {
        queue.start_over(json!([{ "lock": "x", "priority": 9, "status": status }, { "lock": "x" }]));
        assert_fetched_from(&mut queue, ALL, &[2]);
    }
}

#[test]
fn an_earlier_job_in_another_queue_blocks() {
    let jobs = json!([{ "lock": "x", "queue_name": "a" }, { "lock": "x", "queue_name": "b" }, { "queue_name": "b" }]);
    assert_fetched(jobs, "'{b}'", &[3]);
}

#[test]
fn an_earlier_job_blocks_even_while_it_is_scheduled_for_tomorrow() {
    assert_fetched(json!([{ "lock": "x", "scheduled_at": "tomorrow" }, { "lock": "x" }, {}]), ALL, &[3]);
}

#[test]
fn the_highest_priority_comes_first_among_jobs_with_one_lock() {
    let jobs = json!([{ "lock": "x" }, { "lock": "x", "priority": 1 }, { "lock": "x", "priority": 1 }]);
    assert_fetched(jobs, ALL, &[2]);
}

#[test]
fn a_later_job_with_higher_priority_in_another_queue_blocks() {
    let jobs = json!([{ "lock": "x" }, { "lock": "x", "priority": 1, "queue_name": "other" }]);
    assert_fetched(jobs, "'{default}'", &[]);
}

#[test]
fn a_later_job_with_higher_priority_blocks_even_while_it_is_scheduled_for_tomorrow() {
    let jobs = json!([{ "lock": "x" }, { "lock": "x", "priority": 1, "scheduled_at": "tomorrow" }]);
    assert_fetched(jobs, ALL, &[]);
}

#[test]
fn a_later_job_with_lower_priority_does_not_block() {
    let jobs = json!([{ "lock": "x" }, { "lock": "x", "priority": -1 }, { "lock": "x", "scheduled_at": "yesterday" }]);
    assert_fetched(jobs, ALL, &[1]);
}

#[test]
fn a_lock_is_free_once_its_job_has_any_outcome() {
    let mut queue = Queue::new();
    for ending in [
        "SELECT procrastinate_finish_job_v1(1, 'succeeded', false)",
        "SELECT procrastinate_finish_job_v1(1, 'failed', false)",
        "SELECT procrastinate_finish_job_v1(1, 'aborted', false)",
        "SELECT procrastinate_finish_job_v1(1, 'succeeded', true)",
        "SELECT procrastinate_retry_job_v2(1, NULL, -1, NULL, NULL)",
        "SELECT procrastinate_retry_job_v2(1, NULL, NULL, NULL, 'other')",
    ] {
        queue.start_over(json!([{ "lock": "x" }, { "lock": "x" }]));
        assert_eq!(queue.fetch(ALL), Some(1));
        assert_eq!(queue.fetch(ALL), None);
        queue.row(ending);
        assert!([queue.fetch(ALL), queue.fetch(ALL)].contains(&Some(2)), "{ending}");
    }
}

#[test]
fn a_lock_is_free_once_the_job_before_was_cancelled() {
    let mut queue = Queue::new();
    for call in ["cancel_job_v1(1, false, false)", "cancel_job_v1(1, true, false)", "cancel_job_v1(1, false, true)"] {
        queue.start_over(json!([{ "lock": "x", "queue_name": "other" }, { "lock": "x" }]));
        assert_eq!(queue.fetch("'{default}'"), None);
        queue.row(&format!("SELECT procrastinate_{call}"));
        assert_eq!(queue.fetch("'{default}'"), Some(2), "{call}");
    }
}

// ---- What becomes of the job ----

#[test]
fn a_fetched_job_is_held_by_the_worker() {
    let mut queue = Queue::with_jobs(json!([{
        "queue_name": "mails", "task_name": "send", "priority": 4, "lock": "l", "queueing_lock": "q",
        "args": { "to": "Zoë" }, "scheduled_at": "yesterday", "attempts": 2,
    }]));
    let worker = queue.register_worker();
    let waiting = queue.job(1, "*");

    let fetched = queue.row(&format!("SELECT * FROM procrastinate_fetch_job_v2(NULL, {worker})"));

    assert_eq!(fetched, waiting.replace("todo", "doing").replace("NULL", &worker.to_string()));
    assert_eq!(queue.job(1, "*"), fetched);
    assert_eq!(queue.job(1, super::queue::STANDING), format!("doing | 2 | false | {worker}"));
}

#[test]
fn without_a_job_to_fetch_there_is_one_row_of_nulls() {
    let mut queue = Queue::new();
    let fetched = queue.rows("SELECT * FROM procrastinate_fetch_job_v2(NULL, NULL)");
    assert_eq!(fetched, [["NULL"; 12].join(" | ")]);
}

#[test]
fn an_unregistered_worker_gets_no_job() {
    let mut queue = Queue::with_jobs(json!([{}]));
    queue.failure_of("SELECT procrastinate_fetch_job_v2(NULL, 1)");
    assert_eq!(queue.job(1, "status"), "todo");
}

// ---- Others at the same time ----

#[test]
fn a_job_that_another_transaction_has_locked_is_skipped() {
    let mut queue = Queue::with_jobs(json!([{ "priority": 5 }, { "lock": "x" }, { "lock": "x" }, {}]));
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_jobs WHERE id IN (1, 2) FOR UPDATE");

    // The third waits for the second, whichever worker holds that one.
    assert_fetched_from(&mut queue, ALL, &[4]);

    sql(&mut other, "ROLLBACK");
    assert_fetched_from(&mut queue, ALL, &[1, 2, 4]);
}

#[test]
fn a_job_fetched_in_a_rolled_back_transaction_can_be_fetched_again() {
    let mut queue = Queue::with_jobs(json!([{}]));
    queue.run("BEGIN");
    assert_eq!(queue.fetch(ALL), Some(1));
    let mut other = queue.another_connection();
    assert_eq!(fetch(&mut other, ALL), None);
    queue.run("ROLLBACK");
    assert_eq!(fetch(&mut other, ALL), Some(1));
}

/// Runs a worker on each of these connections at the same time until it finds no job, and returns the jobs of each.
fn work_at_once(
    connections: Vec<PgConnection>,
    work: impl Fn(&mut PgConnection) -> Option<i64> + Sync,
) -> Vec<Vec<i64>> {
    let start = Barrier::new(connections.len());
    let one_worker = |mut connection: PgConnection| {
        start.wait();
        std::iter::from_fn(|| work(&mut connection)).collect()
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            connections.into_iter().map(|connection| scope.spawn(|| one_worker(connection))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn workers_at_the_same_time_never_get_the_same_job() {
    const JOBS: i64 = 200;
    let own_function = own_function(ALL, 3);
    let take_some = |connection: &mut PgConnection| {
        let taken = rows(connection, &format!("SELECT count(id) FROM {own_function}"))[0].parse().unwrap();
        (taken > 0).then_some(taken)
    };
    let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); 200]));

    let connections = (0..4).map(|_| queue.another_connection()).collect();
    let taken = work_at_once(connections, |connection| fetch(connection, ALL)).concat();
    assert_eq!(taken.len(), 200);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), (1..=JOBS).collect());

    queue.run("UPDATE procrastinate_jobs SET status = 'todo'");
    let connections = (0..4).map(|_| queue.another_connection()).collect();
    let counts = work_at_once(connections, take_some).concat();
    assert_eq!(counts.iter().sum::<i64>(), JOBS);
    let starts =
        queue.rows("SELECT DISTINCT count(*) FROM procrastinate_events WHERE type = 'started' GROUP BY job_id");
    assert_eq!(starts, ["2"]);
}

#[test]
fn jobs_with_one_lock_run_one_after_the_other_in_order() {
    let locks = ["a", "b", "c"];
    let jobs = (0..90).map(|n| json!({ "lock": locks[n % 3], "priority": n * 7 % 4 })).collect();
    let mut queue = Queue::with_jobs(Value::Array(jobs));
    let start = Instant::now();
    let work = |connection: &mut PgConnection| {
        // A worker that finds nothing may have been too early: the job before was running.
        loop {
            if let Some(id) = fetch(connection, ALL) {
                rows(connection, &format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)"));
                return Some(id);
            }
            let unfinished = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')";
            if rows(connection, unfinished) == ["0"] {
                return None;
            }
            assert!(start.elapsed() < PATIENCE, "some jobs are never finished");
        }
    };

    let connections = (0..4).map(|_| queue.another_connection()).collect();
    assert_eq!(work_at_once(connections, work).concat().len(), 90);

    for lock in locks {
        let history = queue.rows(&format!(
            "SELECT job.id, event.type
             FROM procrastinate_events AS event JOIN procrastinate_jobs AS job ON job.id = event.job_id
             WHERE job.lock = '{lock}' AND event.type IN ('started', 'succeeded')
             ORDER BY event.id"
        ));
        let in_order = queue.rows(&format!(
            "SELECT id, type
             FROM procrastinate_jobs, unnest(ARRAY['started', 'succeeded']) WITH ORDINALITY AS event (type, place)
             WHERE lock = '{lock}'
             ORDER BY priority DESC, id, place"
        ));
        assert_eq!(history, in_order);
    }
}
