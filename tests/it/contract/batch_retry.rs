//! `procrastinate_diesel_finish_and_fetch_jobs_v1` again: jobs of a worker that are to be retried.

use serde_json::{Value, json};

use super::queue::{Queue, STANDING, Waiting};

/// Worker 1, which the tests speak for, and worker 2.
fn start_over(queue: &mut Queue, jobs: Value) {
    queue.start_over(json!([]));
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    queue.add(jobs);
}

fn queue_with_two_workers(jobs: Value) -> Queue {
    let mut queue = Queue::new();
    start_over(&mut queue, jobs);
    queue
}

/// A call in which worker 1 asks for retries and has this many free slots. The result is sorted: `kind | id`.
fn query(retries: &Value, free_slots: i32) -> String {
    format!(
        "SELECT kind, id
         FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{{}}', '{{}}', NULL, {free_slots}, '{retries}')
         ORDER BY kind, id"
    )
}

fn call(queue: &mut Queue, retries: Value, free_slots: i32) -> Vec<String> {
    queue.rows(&query(&retries, free_slots))
}

fn mine() -> Value {
    json!({ "status": "doing", "worker_id": 1, "attempts": 2 })
}

#[test]
fn a_retried_job_is_pending_with_one_more_attempt_and_can_start_immediately() {
    let mut queue = queue_with_two_workers(json!([mine(), mine()]));
    queue.run("BEGIN");
    assert_eq!(call(&mut queue, json!([{ "job_id": 1 }]), 0), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "todo | 3 | false | NULL");
    assert_eq!(queue.job(1, "scheduled_at = now()"), "true");
    assert_eq!(queue.events(1), ["deferred_for_retry", "scheduled"]);
    assert_eq!(queue.job(2, STANDING), "doing | 2 | false | 1");
}

#[test]
fn a_delay_counts_by_the_clock_of_the_database() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    queue.run("BEGIN");
    assert_eq!(call(&mut queue, json!([{ "job_id": 1, "retry_in": 90.5 }]), 0), [""; 0]);
    assert_eq!(queue.job(1, "status, scheduled_at - now()"), "todo | 00:01:30.5");
}

#[test]
fn given_values_are_replaced_and_others_stay() {
    let mut queue = Queue::new();
    for (retry, columns) in [
        (json!({ "retry_at": "2096-05-06T07:08:09+00:00" }), "mails | 4 | x | 2096-05-06T07:08:09"),
        (json!({ "retry_at": "2096-05-06T07:08:09Z", "priority": -5 }), "mails | -5 | x | 2096-05-06T07:08:09"),
        (json!({ "retry_at": "infinity", "queue_name": "other" }), "other | 4 | x | infinity"),
        (json!({ "retry_at": "infinity", "lock": "y" }), "mails | 4 | y | infinity"),
        (
            json!({ "retry_at": "infinity", "priority": null, "queue_name": null, "lock": null }),
            "mails | 4 | x | infinity",
        ),
    ] {
        let job = json!({
            "status": "doing", "worker_id": 1, "queue_name": "mails", "priority": 4, "lock": "x", "args": { "a": 1 },
        });
        start_over(&mut queue, json!([job]));
        let mut with_id = retry.clone();
        with_id["job_id"] = 1.into();
        assert_eq!(call(&mut queue, json!([with_id]), 0), [""; 0]);
        let changed = "queue_name, priority, lock, scheduled_at AT TIME ZONE 'UTC'";
        assert_eq!(queue.job(1, changed), columns, "{retry}");
        assert_eq!(queue.job(1, "task_name, args"), "task | {\"a\": 1}", "{retry}");
    }
}

#[test]
fn a_job_with_an_abort_request_fails_and_is_otherwise_unchanged() {
    let mut queue = queue_with_two_workers(json!([{
        "status": "doing", "worker_id": 1, "attempts": 2, "abort_requested": true, "lock": "x",
    }]));
    let rest = "queue_name, priority, lock, scheduled_at, attempts, abort_requested";
    let before = queue.job(1, rest);
    let retry = json!([{ "job_id": 1, "retry_at": "tomorrow", "priority": 5, "queue_name": "other", "lock": "y" }]);
    assert_eq!(call(&mut queue, retry, 0), ["failed | 1"]);
    assert_eq!(queue.job(1, "status"), "failed");
    assert_eq!(queue.job(1, rest), before);
    assert_eq!(queue.events(1), ["failed"]);
}

#[test]
fn an_abort_request_at_the_same_moment_is_not_lost() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    queue.run("BEGIN");
    queue.row("SELECT procrastinate_cancel_job_v1(1, true, false)");
    let worker = Waiting::start(&mut queue, &query(&json!([{ "job_id": 1 }]), 0));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), ["failed | 1"]);
    assert_eq!(queue.job(1, STANDING), "failed | 2 | true | NULL");
}

#[test]
fn a_job_fails_if_another_pending_job_has_its_queueing_lock() {
    let with_lock = |status, lock| json!({ "status": status, "worker_id": 1, "queueing_lock": lock });
    let mut queue = queue_with_two_workers(json!([
        with_lock("doing", "taken"),
        with_lock("todo", "taken"),
        with_lock("doing", "same"),
        with_lock("doing", "same"),
        with_lock("doing", "free"),
    ]));
    let retries = json!([{ "job_id": 1 }, { "job_id": 3 }, { "job_id": 4 }, { "job_id": 5 }]);
    assert_eq!(call(&mut queue, retries, 0), ["failed | 1", "failed | 4"]);
    assert_eq!(
        queue.rows("SELECT status, attempts FROM procrastinate_jobs ORDER BY id"),
        ["failed | 1", "todo | 0", "todo | 1", "failed | 1", "todo | 1"]
    );
    assert_eq!(queue.events(1), ["failed"]);
}

#[test]
fn a_job_that_another_worker_holds_is_lost_and_unchanged() {
    let mut queue = Queue::new();
    for worker in [json!(2), json!(null)] {
        start_over(&mut queue, json!([{ "status": "doing", "worker_id": worker }, mine()]));
        let before = queue.job(1, "*");
        assert_eq!(call(&mut queue, json!([{ "job_id": 1 }, { "job_id": 2 }]), 0), ["lost | 1"]);
        assert_eq!(queue.job(1, "*"), before);
        assert_eq!(queue.job(2, "status"), "todo");
    }
}

#[test]
fn a_job_that_no_worker_holds_is_unchanged() {
    let mut queue = Queue::new();
    for status in ["todo", "succeeded", "failed", "cancelled", "aborted"] {
        start_over(&mut queue, json!([{ "status": status, "worker_id": 1 }]));
        let before = queue.job(1, "*");
        assert_eq!(call(&mut queue, json!([{ "job_id": 1 }, { "job_id": 99 }]), 0), [""; 0], "{status}");
        assert_eq!(queue.job(1, "*"), before, "{status}");
    }
}

#[test]
fn a_job_that_is_due_can_be_taken_again_in_the_same_call() {
    let mut queue = queue_with_two_workers(json!([mine(), mine()]));
    let retries = json!([{ "job_id": 1 }, { "job_id": 2, "retry_at": "tomorrow" }]);
    assert_eq!(call(&mut queue, retries, 5), ["fetched | 1"]);
    assert_eq!(queue.job(1, STANDING), "doing | 3 | false | 1");
}

#[test]
fn a_job_that_is_retried_keeps_its_place_before_those_with_its_lock() {
    let with_lock = |status| json!({ "status": status, "worker_id": 1, "lock": "x" });
    let mut queue = queue_with_two_workers(json!([with_lock("doing"), with_lock("todo")]));
    assert_eq!(call(&mut queue, json!([{ "job_id": 1, "retry_at": "tomorrow" }]), 5), [""; 0]);

    start_over(&mut queue, json!([with_lock("doing"), with_lock("todo")]));
    let with_lower_priority = json!([{ "job_id": 1, "retry_at": "tomorrow", "priority": -1 }]);
    assert_eq!(call(&mut queue, with_lower_priority, 5), ["fetched | 2"]);
}

#[test]
fn one_call_can_finish_and_retry_and_fetch() {
    let mut queue = queue_with_two_workers(json!([mine(), mine(), mine(), {}]));
    let retries = json!([{ "job_id": 2, "retry_at": "tomorrow" }, { "job_id": 99 }]);
    let answer = queue.rows(&format!(
        "SELECT kind, id
         FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{{1,98}}', '{{succeeded,failed}}', NULL, 5, '{retries}')
         ORDER BY kind, id"
    ));
    assert_eq!(answer, ["fetched | 4", "lost | 98"]);
    let statuses = queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id");
    assert_eq!(statuses, ["succeeded", "todo", "doing", "doing"]);
}

#[test]
fn no_retries_are_null_or_an_empty_array() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    for none in ["NULL", "'[]'"] {
        let call = format!("procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{{}}', '{{}}', NULL, 5, {none})");
        assert_eq!(queue.rows(&format!("SELECT id FROM {call}")), [""; 0]);
        assert_eq!(queue.job(1, STANDING), "doing | 2 | false | 1");
    }
}
