//! A session remembers that its former fetch found jobs of many different locks. The next fetch then begins with the
//! search for these. It starts the same jobs, whatever has changed meanwhile. `fetch.rs` compares all rules of fetching.

use serde_json::{Value, json};

use super::queue::Queue;

const NONE: [i64; 0] = [];

/// Jobs of a queue, each with a lock of its own.
fn jobs_with_locks(queue_name: &str, count: usize) -> Value {
    (0..count).map(|number| json!({ "queue_name": queue_name, "lock": format!("{queue_name} {number}") })).collect()
}

fn fetch(queue: &mut Queue, queues: &str, wanted: usize) -> Vec<i64> {
    let function = format!("procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', {queues}, {wanted})");
    let ids = queue.rows(&format!("SELECT id FROM {function} WHERE kind = 'fetched' ORDER BY id"));
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn remembers_many_locks(queue: &mut Queue) -> bool {
    queue.row("SELECT procrastinate_diesel_had_many_locks_v1()") == "true"
}

#[test]
fn it_is_remembered_while_such_jobs_are_found() {
    for queues in ["NULL", "'{a}'", "'{a,b}'"] {
        let mut queue = Queue::with_jobs(jobs_with_locks("a", 30));
        assert!(!remembers_many_locks(&mut queue));
        for first in [1, 11, 21] {
            assert_eq!(fetch(&mut queue, queues, 10), (first..first + 10).collect::<Vec<_>>(), "{queues}");
            assert!(remembers_many_locks(&mut queue), "{queues}");
        }
        assert_eq!(fetch(&mut queue, queues, 10), NONE, "{queues}");
        assert!(!remembers_many_locks(&mut queue), "{queues}");
    }
}

#[test]
fn plain_jobs_with_a_higher_priority_start_first() {
    let mut queue = Queue::with_jobs(jobs_with_locks("a", 30));
    assert_eq!(fetch(&mut queue, "NULL", 10).len(), 10);
    queue.add(json!([{ "priority": 1 }, { "priority": -1 }, { "priority": 2 }]));
    assert_eq!(fetch(&mut queue, "NULL", 3), [11, 31, 33]);
    assert!(remembers_many_locks(&mut queue));
}

#[test]
fn only_plain_jobs_or_those_behind_a_few_held_locks_are_found_too() {
    let behind = |lock: &str| (0..60).map(|_| json!({ "queue_name": "a", "lock": lock })).collect::<Value>();
    for others in [json!([]), behind("a 0")] {
        let mut queue = Queue::with_jobs(jobs_with_locks("a", 10));
        assert_eq!(fetch(&mut queue, "'{a}'", 10).len(), 10);
        assert!(remembers_many_locks(&mut queue));
        queue.add(others);
        let plain = queue.add(json!([{ "queue_name": "a" }, { "queue_name": "a" }, { "queue_name": "a" }]));
        assert_eq!(fetch(&mut queue, "'{a}'", 2), plain[..2]);
        assert!(!remembers_many_locks(&mut queue));
        assert_eq!(fetch(&mut queue, "'{a}'", 2), plain[2..]);
    }
}

#[test]
fn the_jobs_of_another_queue_do_not_matter() {
    let mut queue = Queue::with_jobs(jobs_with_locks("a", 30));
    assert_eq!(fetch(&mut queue, "'{a}'", 10).len(), 10);
    let plain = queue.add(json!([{ "queue_name": "b" }, { "queue_name": "b" }]));
    assert_eq!(fetch(&mut queue, "'{b}'", 10), plain);
    assert!(!remembers_many_locks(&mut queue));
    assert_eq!(fetch(&mut queue, "'{b}'", 10), NONE);
    assert_eq!(fetch(&mut queue, "'{a}'", 10), (11..=20).collect::<Vec<_>>());
}

#[test]
fn a_pause_and_a_limit_hold() {
    let mut queue = Queue::with_jobs(jobs_with_locks("a", 30));
    assert_eq!(fetch(&mut queue, "NULL", 2), [1, 2]);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'a', 5, NULL, NULL)");
    assert_eq!(fetch(&mut queue, "NULL", 10), [3, 4, 5]);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'a', NULL, NULL, NULL)");
    queue.run("SELECT procrastinate_diesel_pause_v1('queue', 'a')");
    assert_eq!(fetch(&mut queue, "NULL", 10), NONE);
    queue.run("SELECT procrastinate_diesel_resume_v1('queue', 'a')");
    assert_eq!(fetch(&mut queue, "NULL", 2), [6, 7]);
}

#[test]
fn a_rollback_takes_it_back() {
    let mut queue = Queue::with_jobs(jobs_with_locks("a", 30));
    assert_eq!(queue.and_undo(|queue| fetch(queue, "NULL", 10)).len(), 10);
    assert!(!remembers_many_locks(&mut queue));
}
