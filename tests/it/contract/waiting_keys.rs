//! Limits for each key, and jobs that cannot start for another reason: when to look at their keys again, and what such
//! a look costs.

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::{rows, sql};

const NONE: [&str; 0] = [];

fn limit(queue: &mut Queue, kind: &str, name: &str, most: usize) {
    queue.run(&format!(
        "SELECT procrastinate_diesel_limit_keys_v1('{kind}', '{name}', '{{tenant}}', {most}, NULL, NULL)"
    ));
}

fn fetching(wanted: usize) -> String {
    format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', NULL, {wanted}) \
         WHERE kind = 'fetched' ORDER BY id"
    )
}

/// In how many seconds a worker should look again, if a fetch has started nothing. 0.01 if it should do so all the time,
/// and otherwise what is left of a pause.
fn wait(queue: &mut Queue) -> f64 {
    let query = fetching(9).replace("SELECT id", "SELECT kind, wait_seconds").replace("kind = 'fetched'", "true");
    let [row] = <[_; 1]>::try_from(queue.rows(&query)).unwrap();
    row.strip_prefix("wait | ").expect("no job starts").parse().unwrap()
}

#[test]
fn a_key_whose_jobs_are_in_a_paused_or_full_queue_is_looked_at_each_second() {
    for control in ["pause_v1('queue', 'default')", "set_limit_v1('queue', 'default', 1, NULL, NULL)"] {
        let tenants: Vec<Value> = (0..5).map(|tenant| json!({ "args": { "tenant": tenant } })).collect();
        let mut queue = Queue::with_jobs(Value::Array(tenants));
        limit(&mut queue, "task", "task", 1);
        queue.run(&format!("SELECT procrastinate_diesel_{control}"));
        let started = usize::from(control.starts_with("set_limit"));
        assert_eq!(queue.rows(&fetching(9)).len(), started);
        for _ in 0..2 {
            let seconds = wait(&mut queue);
            assert!((0.02..=1.0).contains(&seconds), "{control}: {seconds}");
        }
    }
}

#[test]
fn a_key_of_a_task_waits_although_a_queue_has_limits_for_each_key() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "full", 1);
    limit(&mut queue, "task", "task", 2);
    let of_full = json!({ "queue_name": "full", "task_name": "other", "args": { "tenant": "a" } });
    let behind_a_lock = json!({ "args": { "tenant": "b" }, "lock": "x" });
    queue.add(json!([of_full, of_full, behind_a_lock, behind_a_lock]));
    assert_eq!(queue.rows(&fetching(9)), ["1", "3"]);
    // A key that has just become full is looked at earlier.
    queue.run("SELECT pg_sleep(0.1)");
    for _ in 0..2 {
        let seconds = wait(&mut queue);
        assert!((0.02..=1.0).contains(&seconds), "{seconds}");
    }
}

#[test]
fn a_job_that_another_transaction_changes_is_looked_at_four_times_a_second() {
    for change in ["SELECT procrastinate_cancel_job_v1(1, false, false)", "SELECT FROM procrastinate_jobs FOR UPDATE"] {
        for is_known in [false, true] {
            let mut queue = Queue::new();
            limit(&mut queue, "queue", "default", 1);
            queue.add(json!([{ "args": { "tenant": "a" } }]));
            if is_known {
                queue.run("SELECT procrastinate_diesel_assign_keys_v1(10, now())");
            }
            let mut other = queue.another_connection();
            sql(&mut other, &format!("BEGIN; {change}"));
            for _ in 0..2 {
                let seconds = wait(&mut queue);
                assert!((0.02..=0.25).contains(&seconds), "{change}, {is_known}: {seconds}");
            }
            sql(&mut other, "ROLLBACK; SELECT pg_sleep(0.25)");
            assert_eq!(queue.rows(&fetching(9)), ["1"]);
        }
    }
}

#[test]
fn very_many_locked_jobs_delay_a_fetch_for_a_moment_only() {
    for (tenant, wanted) in [("1", 1), ("number", 1), ("1", 20)] {
        let mut queue = Queue::new();
        limit(&mut queue, "queue", "default", 5);
        queue.run(&format!(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args)
             SELECT 'default', 'task', jsonb_build_object('tenant', {tenant}) FROM generate_series(1, 3001) AS number;
             SELECT procrastinate_diesel_assign_keys_v1(10000, now())"
        ));
        let mut other = queue.another_connection();
        sql(&mut other, "BEGIN; SELECT FROM procrastinate_jobs WHERE id <= 3000 FOR UPDATE");
        // One after the other, with all of them compared each time, they took half a minute.
        queue.run("SET statement_timeout = '5s'");
        assert_eq!(rows(&mut queue.connection, &fetching(wanted)), ["3001"], "{tenant}");
    }
}

#[test]
fn a_job_behind_very_many_of_its_key_that_cannot_start_does_start() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "default", 5);
    let locked = json!({ "args": { "tenant": "a" }, "lock": "x" });
    queue.add(Value::Array(vec![locked; 500]));
    queue.add(json!([{ "args": { "tenant": "a" } }, { "args": { "tenant": "a" } }]));
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    assert_eq!(queue.rows(&fetching(1)), ["501"]);
    assert_eq!(queue.rows(&fetching(9)), ["502"]);
    assert_eq!(queue.rows(&fetching(9)), NONE);
}

#[test]
fn the_next_job_of_a_lock_starts_when_the_former_one_ends_whatever_its_key() {
    for end in [
        "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{1}', '{succeeded}', NULL, 0)",
        "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
             NULL, '{}', '{}', NULL, 0, deleted_job_ids => '{1}')",
        "SELECT procrastinate_finish_job_v1(1, 'succeeded', false)",
        "SELECT procrastinate_finish_job_v1(1, 'succeeded', true)",
    ] {
        let mut queue = Queue::new();
        limit(&mut queue, "queue", "default", 1);
        let of = |tenant: &str| json!({ "args": { "tenant": tenant }, "lock": "x" });
        queue.add(json!([of("a"), of("b")]));
        assert_eq!(queue.rows(&fetching(9)), ["1"]);
        // The key of the second job goes to sleep.
        assert!(wait(&mut queue) > 0.02);
        queue.rows(end);
        assert_eq!(queue.rows(&fetching(9)), ["2"], "{end}");
    }
}

#[test]
fn a_key_starts_as_soon_as_another_limit_has_room_again() {
    for (keyed, other) in [(("queue", "default"), ("task", "task")), (("task", "task"), ("queue", "default"))] {
        let tenants: Vec<Value> = (0..40).map(|tenant| json!({ "args": { "tenant": tenant } })).collect();
        let mut queue = Queue::with_jobs(Value::Array(tenants));
        limit(&mut queue, keyed.0, keyed.1, 1);
        queue.run(&format!("SELECT procrastinate_diesel_set_limit_v1('{}', '{}', 2, NULL, NULL)", other.0, other.1));
        for _ in 0..20 {
            let started = queue.rows(&fetching(9));
            assert_eq!(started.len(), 2, "{keyed:?}");
            for id in started {
                queue.run(&format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)"));
            }
        }
    }
}

#[test]
fn the_longer_no_job_of_a_key_can_start_the_more_seldom_it_is_looked_at() {
    let mut queue = Queue::with_jobs(json!([{ "args": { "tenant": "a" } }, { "args": { "tenant": "b" } }]));
    limit(&mut queue, "queue", "default", 1);
    queue.run("SELECT procrastinate_diesel_pause_v1('task', 'task')");
    for least in [0.9, 1.4, 2.2, 3.3, 5.0, 7.5, 9.9, 9.9] {
        let seconds = wait(&mut queue);
        assert!(seconds >= least && seconds <= 10.0, "{seconds} instead of at least {least}");
        queue.run("UPDATE procrastinate_diesel_limit_keys SET wakes_at = now()");
    }
    wait(&mut queue);
    queue.run("SELECT procrastinate_diesel_resume_v1('task', 'task')");
    assert_eq!(queue.rows(&fetching(9)), ["1", "2"]);
    // It does not matter how often it was in vain.
    queue.run("SELECT procrastinate_diesel_pause_v1('task', 'task')");
    queue.add(json!([{ "args": { "tenant": "c" } }]));
    for _ in 0..2 {
        queue.run("UPDATE procrastinate_diesel_limit_keys SET wakes_at = now() WHERE key = 'c'");
        assert_eq!(queue.rows(&fetching(9)), NONE);
    }
    queue.run("SELECT procrastinate_diesel_resume_v1('task', 'task')");
    assert_eq!(queue.rows(&fetching(9)), ["3"]);
    assert_eq!(queue.rows("SELECT DISTINCT vain_searches FROM procrastinate_diesel_limit_keys"), ["0"]);
}

#[test]
fn a_job_of_high_priority_that_cannot_start_does_not_lift_the_others_of_its_key() {
    for (blocked, wanted) in [("paused", 1), ("locked", 1), ("paused", 2), ("locked", 2)] {
        let mut queue = Queue::new();
        limit(&mut queue, "queue", "default", 2);
        let job = |tenant: &str, priority: i32| json!({ "args": { "tenant": tenant }, "priority": priority });
        queue.add(json!([
            { "lock": "x", "queue_name": "other", "status": "doing" }, job("a", 0), job("a", 0), job("b", 5),
            job("c", 5), job("b", 5), job("c", 5),
        ]));
        if blocked == "paused" {
            queue.run("SELECT procrastinate_diesel_pause_v1('task', 'paused')");
            queue.add(json!([{ "args": { "tenant": "a" }, "priority": 9, "task_name": "paused" }]));
        } else {
            queue.add(json!([{ "args": { "tenant": "a" }, "priority": 9, "lock": "x" }]));
        }
        let started: Vec<String> = (0..6 / wanted).flat_map(|_| queue.rows(&fetching(wanted))).collect();
        assert_eq!(started, ["4", "5", "6", "7", "2", "3"], "{blocked}, {wanted}");
    }
}

#[test]
fn jobs_that_were_not_started_in_time_leave_no_rows() {
    let job = json!({ "args": { "tenant": "a" } });
    let mut queue = Queue::with_jobs(json!([job, job, { "args": { "tenant": "a" }, "lock": "x" }]));
    limit(&mut queue, "queue", "default", 2);
    queue.run("SELECT procrastinate_diesel_assign_keys_v1(10, now())");
    queue.run(
        "SELECT procrastinate_diesel_store_options_v1('{1, 3}', '{new, new}', '{fail, fail}',
             ARRAY[now(), now()], '{NULL, NULL}')",
    );
    assert_eq!(queue.rows(&fetching(9)), ["2"]);
    queue.run("SELECT procrastinate_finish_job_v1(2, 'succeeded', false)");
    assert_eq!(queue.rows(&fetching(9)), NONE);
    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_diesel_keyed_jobs"), NONE);
}

#[test]
fn a_fetch_does_not_wait_for_another_one_that_adds_a_key() {
    let job = json!({ "args": { "tenant": "a" } });
    let mut queue = Queue::with_jobs(json!([job]));
    limit(&mut queue, "queue", "default", 2);
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN");
    assert_eq!(rows(&mut other, &fetching(9)), ["1"]);
    queue.add(json!([job, { "queue_name": "other" }]));
    queue.run("SET statement_timeout = '3s'");
    assert_eq!(queue.rows(&fetching(9)), ["3"]);
    let seconds = wait(&mut queue);
    assert!((0.02..=0.25).contains(&seconds), "{seconds}");
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetching(9)), ["2"]);
}

#[test]
fn a_fetch_does_not_wait_for_a_row_of_a_limit_that_was_removed() {
    let mut queue = Queue::with_jobs(json!([{ "args": { "tenant": "a" }, "queue_name": "former" }]));
    limit(&mut queue, "queue", "former", 2);
    queue.run("SELECT procrastinate_diesel_assign_keys_v1(10, now())");
    limit(&mut queue, "queue", "default", 2);
    queue.add(json!([{ "args": { "tenant": "a" } }]));
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'former', NULL, NULL, NULL, NULL)");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_keyed_jobs WHERE job_id = 1 FOR UPDATE");
    queue.run("SET statement_timeout = '3s'");
    assert_eq!(queue.rows(&fetching(9)), ["1", "2"]);
}
