//! A session remembers that its former fetch found jobs of many different locks, or many scheduled jobs that are due. The
//! next fetch then begins with the search for these. It also remembers that other transactions held rows of jobs that it
//! found. The next fetch then reads more of them. In each case it starts the same jobs, whatever has changed meanwhile.
//! `fetch.rs` compares all rules of fetching.

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::sql;

const NONE: [i64; 0] = [];

/// Of what many can be found.
const KINDS: [&str; 2] = ["locks", "due_jobs"];

/// Jobs of a queue, each with a lock of its own.
fn jobs_with_locks(queue_name: &str, count: usize) -> Value {
    (0..count).map(|number| json!({ "queue_name": queue_name, "lock": format!("{queue_name} {number}") })).collect()
}

fn jobs(kind: &str, queue_name: &str, count: usize) -> Value {
    match kind {
        "locks" => jobs_with_locks(queue_name, count),
        _ => (0..count).map(|_| json!({ "queue_name": queue_name, "scheduled_at": "yesterday" })).collect(),
    }
}

fn fetch(queue: &mut Queue, queues: &str, wanted: usize) -> Vec<i64> {
    let function = format!("procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', {queues}, {wanted})");
    let ids = queue.rows(&format!("SELECT id FROM {function} WHERE kind = 'fetched' ORDER BY id"));
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn remembers(queue: &mut Queue, kind: &str) -> bool {
    queue.row(&format!("SELECT procrastinate_diesel_had_many_v1('{kind}')")) == "true"
}

#[test]
fn it_is_remembered_while_such_jobs_are_found() {
    for kind in KINDS {
        for queues in ["NULL", "'{a}'", "'{a,b}'"] {
            let mut queue = Queue::with_jobs(jobs(kind, "a", 40));
            assert!(!remembers(&mut queue, kind));
            for first in [1, 11] {
                assert_eq!(fetch(&mut queue, queues, 10), (first..first + 10).collect::<Vec<_>>(), "{kind} {queues}");
                assert!(remembers(&mut queue, kind), "{kind} {queues}");
            }
            assert_eq!(fetch(&mut queue, queues, 30), (21..=40).collect::<Vec<_>>(), "{kind} {queues}");
            assert_eq!(fetch(&mut queue, queues, 10), NONE, "{kind} {queues}");
            assert!(!remembers(&mut queue, kind), "{kind} {queues}");
        }
    }
}

#[test]
fn plain_jobs_with_a_higher_priority_start_first() {
    for kind in KINDS {
        let mut queue = Queue::with_jobs(jobs(kind, "a", 30));
        assert_eq!(fetch(&mut queue, "NULL", 10).len(), 10);
        queue.add(json!([{ "priority": 1 }, { "priority": -1 }, { "priority": 2 }]));
        assert_eq!(fetch(&mut queue, "NULL", 3), [11, 31, 33], "{kind}");
        assert!(remembers(&mut queue, kind), "{kind}");
    }
}

#[test]
fn plain_jobs_and_those_that_became_due_are_found_when_the_many_are_gone() {
    let mut queue = Queue::with_jobs(jobs("due_jobs", "a", 20));
    assert_eq!(fetch(&mut queue, "'{a}'", 10).len(), 10);
    assert!(remembers(&mut queue, "due_jobs"));
    queue.run("DELETE FROM procrastinate_jobs WHERE status = 'todo'");
    let [plain, due, _later] = queue.add(json!([
        { "queue_name": "a" },
        { "queue_name": "a", "scheduled_at": "yesterday", "priority": 1 },
        { "queue_name": "a", "scheduled_at": "tomorrow" },
    ]))[..] else {
        panic!("expected three jobs");
    };
    assert_eq!(fetch(&mut queue, "'{a}'", 1), [due]);
    assert!(!remembers(&mut queue, "due_jobs"));
    assert_eq!(fetch(&mut queue, "'{a}'", 5), [plain]);
    assert_eq!(fetch(&mut queue, "'{a}'", 5), NONE);
}

#[test]
fn only_plain_jobs_or_those_behind_a_few_held_locks_are_found_too() {
    let behind = |lock: &str| (0..60).map(|_| json!({ "queue_name": "a", "lock": lock })).collect::<Value>();
    for others in [json!([]), behind("a 0")] {
        let mut queue = Queue::with_jobs(jobs_with_locks("a", 10));
        assert_eq!(fetch(&mut queue, "'{a}'", 10).len(), 10);
        assert!(remembers(&mut queue, "locks"));
        queue.add(others);
        let plain = queue.add(json!([{ "queue_name": "a" }, { "queue_name": "a" }, { "queue_name": "a" }]));
        assert_eq!(fetch(&mut queue, "'{a}'", 2), plain[..2]);
        assert!(!remembers(&mut queue, "locks"));
        assert_eq!(fetch(&mut queue, "'{a}'", 2), plain[2..]);
    }
}

#[test]
fn the_jobs_of_another_queue_do_not_matter() {
    for kind in KINDS {
        let mut queue = Queue::with_jobs(jobs(kind, "a", 30));
        assert_eq!(fetch(&mut queue, "'{a}'", 10).len(), 10);
        let plain = queue.add(json!([{ "queue_name": "b" }, { "queue_name": "b" }]));
        assert_eq!(fetch(&mut queue, "'{b}'", 10), plain, "{kind}");
        assert!(!remembers(&mut queue, kind), "{kind}");
        assert_eq!(fetch(&mut queue, "'{b}'", 10), NONE, "{kind}");
        assert_eq!(fetch(&mut queue, "'{a}'", 10), (11..=20).collect::<Vec<_>>(), "{kind}");
    }
}

#[test]
fn a_pause_and_a_limit_hold() {
    for kind in KINDS {
        let mut queue = Queue::with_jobs(jobs(kind, "a", 30));
        assert_eq!(fetch(&mut queue, "NULL", 2), [1, 2], "{kind}");
        queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'a', 5, NULL, NULL)");
        assert_eq!(fetch(&mut queue, "NULL", 10), [3, 4, 5], "{kind}");
        queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'a', NULL, NULL, NULL)");
        queue.run("SELECT procrastinate_diesel_pause_v1('queue', 'a')");
        assert_eq!(fetch(&mut queue, "NULL", 10), NONE, "{kind}");
        queue.run("SELECT procrastinate_diesel_resume_v1('queue', 'a')");
        assert_eq!(fetch(&mut queue, "NULL", 2), [6, 7], "{kind}");
    }
}

#[test]
fn jobs_whose_rows_others_hold_are_passed_over_whether_that_is_remembered_or_not() {
    for queues in ["NULL", "'{a}'", "'{a,b}'"] {
        let mut queue = Queue::with_jobs(jobs_with_locks("a", 120));
        let mut other = queue.another_connection();
        sql(&mut other, "BEGIN; SELECT FROM procrastinate_jobs WHERE id <= 80 AND id <> 3 FOR UPDATE");
        let mut expected = [3].into_iter().chain(81..);
        for _ in 0..2 {
            let next: Vec<i64> = expected.by_ref().take(10).collect();
            assert_eq!(fetch(&mut queue, queues, 10), next, "{queues}");
            assert!(remembers(&mut queue, "held_rows"), "{queues}");
        }
        sql(&mut other, "ROLLBACK");
        let rest: Vec<i64> = (1..=80).filter(|id| *id != 3).chain(expected.take_while(|id| *id <= 120)).collect();
        assert_eq!(fetch(&mut queue, queues, 10), rest[..10], "{queues}");
        assert!(!remembers(&mut queue, "held_rows"), "{queues}");
        assert_eq!(fetch(&mut queue, queues, 200), rest[10..], "{queues}");
    }
}

#[test]
fn a_rollback_takes_it_back() {
    for kind in KINDS {
        let mut queue = Queue::with_jobs(jobs(kind, "a", 30));
        assert_eq!(queue.and_undo(|queue| fetch(queue, "NULL", 10)).len(), 10);
        assert!(!remembers(&mut queue, kind), "{kind}");
    }
}
