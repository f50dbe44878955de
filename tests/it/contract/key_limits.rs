//! Limits for each key: a value in the arguments of a job. Both functions that fetch obey them.

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::{rows, sql, try_rows};

/// The keys of the jobs that both functions fetch, in the order in which the contract's function fetches them. The
/// crate's function must fetch the same ones in one call.
fn fetched_keys(queue: &mut Queue, queues: &str, wanted: usize) -> String {
    let mut by_contract = Vec::new();
    queue.and_undo(|queue| by_contract = (0..wanted).map_while(|_| queue.fetch(queues)).collect());
    let by_ours = queue.and_undo(|queue| fetch(queue, queues, wanted));
    let mut sorted = by_contract.clone();
    sorted.sort_unstable();
    assert_eq!(by_ours, sorted, "by the crate's function, and by the contract's");
    keys(queue, &by_contract)
}

/// Fetches by the crate's function.
fn fetch(queue: &mut Queue, queues: &str, wanted: usize) -> Vec<i64> {
    let ids = queue.rows(&format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', {queues}, {wanted}) \
         WHERE kind = 'fetched' ORDER BY id"
    ));
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

/// The tenants of jobs, or their task if they have none.
fn keys(queue: &mut Queue, ids: &[i64]) -> String {
    let key = |id: &i64| queue.job(*id, "coalesce(args ->> 'tenant', task_name)");
    ids.iter().map(key).collect::<Vec<_>>().join(" ")
}

/// Jobs of these tenants, in this order.
fn jobs_of(tenants: &str) -> Value {
    tenants.split(' ').map(|tenant| json!({ "args": { "tenant": tenant } })).collect()
}

fn limit(queue: &mut Queue, kind: &str, name: &str, numbers: &str) {
    queue.run(&format!("SELECT procrastinate_diesel_limit_keys_v1('{kind}', '{name}', '{{tenant}}', {numbers})"));
}

/// A queue with jobs of these tenants, of each of which at most so many may run.
fn limited(tenants: &str, most: i32) -> Queue {
    let mut queue = Queue::with_jobs(jobs_of(tenants));
    limit(&mut queue, "queue", "default", &format!("{most}, NULL, NULL"));
    queue
}

#[test]
fn no_more_jobs_of_a_key_run_than_the_limit_allows() {
    for (kind, name) in [("queue", "default"), ("task", "task")] {
        for is_set_before in [true, false] {
            let mut queue = Queue::new();
            if is_set_before {
                limit(&mut queue, kind, name, "2, NULL, NULL");
            }
            queue.add(jobs_of("a a a b a b"));
            if !is_set_before {
                limit(&mut queue, kind, name, "2, NULL, NULL");
            }
            assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a b a b", "{kind}");
            assert_eq!(fetched_keys(&mut queue, "'{default}'", 9), "a b a b", "{kind}");
            assert_eq!(fetched_keys(&mut queue, "'{default,other}'", 9), "a b a b", "{kind}");
            assert_eq!(fetched_keys(&mut queue, "'{other}'", 9), "", "{kind}");
        }
    }
}

#[test]
fn the_keys_take_turns_and_a_key_with_many_jobs_holds_up_no_other() {
    let mut queue = limited("a a a a a b c b", 10);
    assert_eq!(fetched_keys(&mut queue, "NULL", 8), "a b c a b a a a");
    assert_eq!(fetch(&mut queue, "NULL", 1), [1]);
    queue.add(jobs_of("d"));
    // It was never the turn of the others. Those with older jobs come first.
    assert_eq!(fetched_keys(&mut queue, "NULL", 4), "b c d a");
}

#[test]
fn a_higher_priority_comes_first_within_a_key_and_among_keys() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "default", "5, NULL, NULL");
    let job = |tenant: &str, priority: i32| json!({ "args": { "tenant": tenant }, "priority": priority });
    queue.add(json!([job("a", 0), job("a", 5), job("b", 0), job("c", 9)]));
    let ids: Vec<_> = (0..4).map_while(|_| queue.fetch("NULL")).collect();
    assert_eq!(ids, [4, 2, 3, 1]);
}

#[test]
fn jobs_without_a_key_are_not_limited_and_those_of_other_tasks_are_as_before() {
    let mut queue = Queue::new();
    limit(&mut queue, "task", "limited", "1, NULL, NULL");
    let job = |args: Value| json!({ "task_name": "limited", "args": args });
    let without_key = [json!({}), json!({ "tenant": null }), json!({ "tenant": "" }), json!({ "other": 7 })];
    queue.add(without_key.into_iter().map(job).collect());
    queue.add(json!([{ "task_name": "free" }, job(json!({ "tenant": 7 })), job(json!({ "tenant": "7" }))]));
    let mut ids = fetch(&mut queue, "NULL", 10);
    ids.sort_unstable();
    // A number and its text are the same key.
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert_eq!(queue.fetch("NULL"), None);
}

#[test]
fn the_key_can_be_in_nested_arguments_and_longer_than_an_index_allows() {
    let mut queue = Queue::new();
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{customer,id}', 1, NULL, NULL)");
    let long = |end: &str| json!({ "args": { "customer": { "id": "x".repeat(100_000) + end } } });
    queue.add(json!([long("a"), long("a"), long("b")]));
    assert_eq!(fetch(&mut queue, "NULL", 5), [1, 3]);
}

#[test]
fn the_place_of_an_ended_job_is_taken_at_once_however_it_ended() {
    for end in [
        "procrastinate_finish_job_v1(1, 'succeeded', false)",
        "procrastinate_finish_job_v1(1, 'failed', true)",
        "procrastinate_retry_job_v2(1, now() + interval '1 day', NULL, NULL, NULL)",
        "procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{1}', '{succeeded}', '{none}', 0)",
        "procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', '{none}', 0, NULL, '{1}')",
        "procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', '{none}', 0, '[{\"job_id\": 1, \"retry_in\": 9}]')",
    ] {
        let mut queue = limited("a a a", 1);
        assert_eq!(queue.fetch("NULL"), Some(1));
        assert_eq!(queue.fetch("NULL"), None);
        queue.rows(&format!("SELECT * FROM {end}"));
        assert_eq!(queue.fetch("NULL"), Some(2), "{end}");
        assert_eq!(queue.fetch("NULL"), None, "{end}");
    }
    // In the same statement.
    let mut queue = limited("a a a", 1);
    assert_eq!(fetch(&mut queue, "NULL", 5), [1]);
    let next = "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{1}', '{succeeded}', NULL, 1)";
    assert_eq!(queue.rows(next), ["2"]);
}

#[test]
fn a_retried_job_waits_for_its_key_again() {
    let mut queue = limited("a a", 1);
    assert_eq!(queue.fetch("NULL"), Some(1));
    queue.rows("SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)");
    assert_eq!(queue.fetch("NULL"), Some(1));
    assert_eq!(queue.fetch("NULL"), None);
    queue.run("SELECT procrastinate_finish_job_v1(1, 'failed', false); SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)");
    let both = [queue.fetch("NULL"), queue.fetch("NULL")];
    assert_eq!(both, [Some(1), None]);
}

#[test]
fn deleted_and_cancelled_jobs_hold_up_nobody() {
    let mut queue = limited("a a a a", 1);
    queue.run("SELECT procrastinate_cancel_job_v1(1, false, false); DELETE FROM procrastinate_jobs WHERE id = 2");
    assert_eq!(queue.fetch("NULL"), Some(3));
    queue.run("DELETE FROM procrastinate_jobs WHERE id = 3");
    // The deletion is not noticed at once.
    queue.run("UPDATE procrastinate_diesel_limit_keys SET wakes_at = now()");
    assert_eq!(queue.fetch("NULL"), Some(4));
}

#[test]
fn scheduled_jobs_and_jobs_with_a_lock_start_when_they_may() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "default", "3, NULL, NULL");
    let job = |extra: Value| {
        let mut job = json!({ "args": { "tenant": "a" } });
        job.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        job
    };
    queue.add(json!([
        job(json!({ "scheduled_at": "tomorrow" })),
        job(json!({ "lock": "x" })),
        job(json!({ "lock": "x" })),
        job(json!({ "scheduled_at": "yesterday" })),
    ]));
    assert_eq!(fetch(&mut queue, "NULL", 5), [2, 4]);
    queue.run("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id = 1");
    assert_eq!(fetch(&mut queue, "NULL", 5), [1]);
    queue.run("SELECT procrastinate_finish_job_v1(2, 'succeeded', false)");
    assert_eq!(fetch(&mut queue, "NULL", 5), [3]);
}

#[test]
fn starts_of_each_key_are_limited_within_any_period() {
    let mut queue = Queue::with_jobs(jobs_of("a a a b"));
    limit(&mut queue, "queue", "default", "NULL, 2, 3600");
    assert_eq!(fetch(&mut queue, "NULL", 9), [1, 2, 4]);
    queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    assert_eq!(queue.fetch("NULL"), None);
    let wait = "SELECT wait_seconds BETWEEN 3500 AND 3640 FROM \
                procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', NULL, 1) WHERE kind = 'wait'";
    assert_eq!(queue.rows(wait), ["true"]);
    let in_an_hour = "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
                      NULL, '{}', '{}', NULL, 1, due_at => now() + interval '61 minutes') WHERE kind = 'fetched'";
    assert_eq!(queue.rows(in_an_hour), ["3"]);
}

#[test]
fn the_limits_of_a_queue_of_its_keys_and_of_a_task_hold_at_once() {
    let mut queue = limited("a a b b c c", 1);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', 2, NULL, NULL)");
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a b");
    queue.run("SELECT procrastinate_diesel_set_limit_v1('task', 'task', 1, NULL, NULL)");
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a");
    queue.run("SELECT procrastinate_diesel_pause_v1('task', 'task')");
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "");
    queue.run(
        "SELECT procrastinate_diesel_resume_v1('task', 'task');
         SELECT procrastinate_diesel_set_limit_v1('task', 'task', NULL, NULL, NULL);
         SELECT procrastinate_diesel_set_limit_v1('queue', 'default', NULL, NULL, NULL)",
    );
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a b c");
    assert_eq!(
        queue.row("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', NULL, NULL, NULL, NULL)"),
        "true"
    );
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a a b b c c");
    assert_eq!(
        queue.row("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', NULL, NULL, NULL, NULL)"),
        "false"
    );
    assert_eq!(queue.rows("SELECT kind FROM procrastinate_diesel_flow_controls"), [""; 0]);
    queue.run("SELECT procrastinate_diesel_clean_keys_v1(1000)");
    for table in ["keyed_jobs", "limit_keys"] {
        assert_eq!(queue.row(&format!("SELECT count(*) FROM procrastinate_diesel_{table}")), "0");
    }
}

#[test]
fn the_key_of_the_queue_comes_before_that_of_the_task() {
    let mut queue = limited("a a a", 2);
    limit(&mut queue, "task", "task", "1, NULL, NULL");
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a a");
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', NULL, NULL, NULL, NULL)");
    assert_eq!(fetched_keys(&mut queue, "NULL", 9), "a");
}

#[test]
fn a_raised_a_lowered_and_another_limit_hold_with_the_next_fetch() {
    let mut queue = limited("a a a a b", 2);
    assert_eq!(fetch(&mut queue, "NULL", 9), [1, 2, 5]);
    limit(&mut queue, "queue", "default", "1, NULL, NULL");
    queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    assert_eq!(queue.fetch("NULL"), None);
    limit(&mut queue, "queue", "default", "2, NULL, NULL");
    queue.run("UPDATE procrastinate_diesel_limit_keys SET wakes_at = now() WHERE wakes_at IS NOT NULL");
    assert_eq!(queue.fetch("NULL"), Some(3));
    // Of another field. The jobs have none, so they are not limited.
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{other}', 1, NULL, NULL)");
    assert_eq!(queue.fetch("NULL"), Some(4));
}

#[test]
fn jobs_of_a_transaction_that_did_not_see_the_limit_are_found() {
    let mut queue = Queue::with_jobs(jobs_of("a"));
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM procrastinate_jobs");
    limit(&mut queue, "task", "task", "1, NULL, NULL");
    assert_eq!(queue.fetch("NULL"), Some(1));
    sql(
        &mut other,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('default', 'task', '{\"tenant\": 1}');
         COMMIT",
    );
    assert_eq!(queue.fetch("NULL"), None);
    let later = "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
                 NULL, '{}', '{}', NULL, 1, due_at => now() + interval '2 seconds') WHERE kind = 'fetched'";
    assert_eq!(queue.rows(later), ["2"]);
}

#[test]
fn a_key_that_another_fetch_has_locked_is_passed_over() {
    let mut queue = limited("a a b", 1);
    queue.run("BEGIN");
    assert_eq!(queue.fetch("NULL"), Some(1));
    let mut other = queue.another_connection();
    // What the first fetch has seen stays unknown to others until its end, which comes soon.
    let fetch = "SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', NULL, 2)";
    assert_eq!(rows(&mut other, fetch), ["wait | NULL"]);
    queue.run("COMMIT");
    assert_eq!(rows(&mut other, fetch), ["wait | NULL", "fetched | 3"]);
    // A transaction that only locks the row of the key does not hold up those who defer and finish.
    queue.run("BEGIN; SELECT FROM procrastinate_diesel_limit_keys FOR UPDATE");
    sql(&mut other, "SET lock_timeout = '1s'");
    sql(
        &mut other,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('default', 'task', '{\"tenant\": \"a\"}');
         SELECT procrastinate_finish_job_v1(1, 'succeeded', false)",
    );
    assert_eq!(rows(&mut other, fetch), ["wait | NULL"]);
    queue.run("COMMIT");
    assert_eq!(rows(&mut other, fetch)[0], "wait | NULL");
    assert_eq!(queue.rows("SELECT id FROM procrastinate_jobs WHERE status = 'doing' ORDER BY id"), ["2", "3"]);
}

#[test]
fn a_fetch_that_cannot_see_the_jobs_of_others_fails_instead_of_exceeding_the_limit() {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = limited("a a a a", 1);
        assert_eq!(queue.fetch("NULL"), Some(1));
        queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
        queue.run("SELECT procrastinate_diesel_assign_keys_v1(10, now())");
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN ISOLATION LEVEL {isolation}"));
        assert_eq!(rows(&mut other, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"), ["0"]);
        assert_eq!(queue.fetch("NULL"), Some(2));
        let outcome = try_rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)");
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("could not serialize access"), "{error}");
        sql(&mut other, "ROLLBACK");
        assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["NULL"]);
    }
}

#[test]
fn a_transaction_that_sets_or_removes_a_limit_holds_up_nobody() {
    for path in ["'{tenant}', 2", "'{other}', 2", "NULL, NULL"] {
        let mut queue = limited("a a b b", 1);
        assert_eq!(queue.fetch("NULL"), Some(1));
        queue.run(&format!("BEGIN; SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', {path}, NULL, NULL)"));
        let mut other = queue.another_connection();
        sql(&mut other, "SET lock_timeout = '1s'");
        assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["3"]);
        sql(&mut other, "SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
        assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["2"]);
        queue.run("COMMIT");
    }
}

#[test]
fn jobs_that_are_deferred_at_the_same_time_wait_for_nobody() {
    let mut queue = limited("a", 1);
    queue.run("BEGIN");
    queue.add(jobs_of("x a y"));
    let mut other = queue.another_connection();
    sql(&mut other, "SET lock_timeout = '1s'");
    let defer = "SELECT job_id FROM procrastinate_diesel_defer_jobs_v1(
                     '{default,default,default}', '{task,task,task}', '{0,0,0}', '{NULL,NULL,NULL}', '{NULL,NULL,NULL}',
                     '{\"{\\\"tenant\\\": \\\"y\\\"}\",\"{\\\"tenant\\\": \\\"a\\\"}\",\"{\\\"tenant\\\": \\\"x\\\"}\"}',
                     '{NULL,NULL,NULL}')";
    assert_eq!(rows(&mut other, defer).len(), 3);
    assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["1"]);
    queue.run("COMMIT");
}

#[test]
fn a_job_whose_priority_ages_comes_first_within_its_key() {
    let mut queue = limited("a", 5);
    queue.run(
        "SELECT procrastinate_diesel_assign_keys_v1(10, now());
         SELECT procrastinate_diesel_raise_priorities_v1('{1}', '{7}');
         INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority)
         VALUES ('default', 'task', '{\"tenant\": \"a\"}', 5), ('default', 'task', '{\"tenant\": \"a\"}', 9)",
    );
    assert_eq!([queue.fetch("NULL"), queue.fetch("NULL"), queue.fetch("NULL")], [Some(3), Some(1), Some(2)]);
}

#[test]
fn the_key_can_be_given_with_the_job() {
    let mut queue = Queue::new();
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{}', 1, NULL, NULL)");
    queue.add(jobs_of("a a a a a"));
    queue.run(
        "INSERT INTO procrastinate_diesel_job_options (job_id, limit_key) VALUES (1, 'x'), (2, 'x'), (3, 'y'), (4, NULL)",
    );
    assert_eq!(fetch(&mut queue, "NULL", 9), [1, 3, 4, 5]);
}

#[test]
fn a_job_whose_time_is_removed_can_start() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "default", "1, NULL, NULL");
    queue.add(json!([{ "args": { "tenant": "a" }, "scheduled_at": "2100-01-01" }]));
    assert_eq!(fetched_keys(&mut queue, "NULL", 1), "");
    queue.run("UPDATE procrastinate_jobs SET scheduled_at = NULL");
    assert_eq!(fetched_keys(&mut queue, "NULL", 1), "a");
}

#[test]
fn a_job_that_is_retried_in_another_queue_leaves_its_key() {
    let mut queue = limited("a a", 1);
    assert_eq!(fetch(&mut queue, "NULL", 2), [1]);
    // Without the mark, the key would be looked at a second later.
    queue.run("SELECT procrastinate_retry_job_v2(1, NULL, NULL, 'other', NULL)");
    assert_eq!(fetch(&mut queue, "'{default}'", 2), [2]);
    assert_eq!(fetch(&mut queue, "'{other}'", 2), [1]);
}
