//! `procrastinate_retry_job_v1` and `procrastinate_retry_job_v2`.

use serde_json::{Value, json};

use super::queue::{Queue, Waiting};

const FUNCTIONS: [&str; 2] = ["procrastinate_retry_job_v1", "procrastinate_retry_job_v2"];

fn running() -> Value {
    json!({ "status": "doing", "attempts": 2, "worker_id": 1 })
}

fn running_and_to_be_aborted() -> Value {
    json!({ "status": "doing", "attempts": 2, "worker_id": 1, "abort_requested": true })
}

/// What retrying, without anything to change, does to a job.
fn effect_of(queue: &mut Queue, function: &str, start: &Value) -> String {
    queue.start_over(json!([]));
    assert_eq!(queue.register_worker(), 1);
    queue.effect(start, &format!("SELECT {function}($id, NULL, NULL, NULL, NULL)"))
}

#[test]
fn a_retried_running_job_is_pending_with_one_more_attempt() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        assert_eq!(effect_of(&mut queue, function, &running()), " -> todo | 3 | false | 1; deferred_for_retry");
    }
}

#[test]
fn a_job_with_an_abort_request_fails_and_is_not_retried() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        assert_eq!(effect_of(&mut queue, function, &running_and_to_be_aborted()), " -> failed | 2 | true | 1; failed");
    }
}

#[test]
fn a_failed_job_can_be_retried_by_the_second_version_only() {
    let mut queue = Queue::new();
    let failed = json!({ "status": "failed", "attempts": 2 });
    assert_eq!(effect_of(&mut queue, "procrastinate_retry_job_v2", &failed), " -> todo | 3 | false | NULL; retried");
    let error = effect_of(&mut queue, "procrastinate_retry_job_v1", &failed);
    assert!(error.starts_with("error: ") && error.contains("$id"), "{error}");
}

#[test]
fn a_failed_job_with_an_abort_request_can_be_retried() {
    let mut queue = Queue::new();
    let failed = json!({ "status": "failed", "attempts": 2, "abort_requested": true });
    assert_eq!(effect_of(&mut queue, "procrastinate_retry_job_v2", &failed), " -> todo | 3 | false | NULL; retried");
}

#[test]
fn a_job_in_any_other_status_cannot_be_retried() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        for status in ["todo", "succeeded", "cancelled", "aborting", "aborted"] {
            let error = effect_of(&mut queue, function, &json!({ "status": status }));
            assert!(error.starts_with("error: ") && error.contains("$id"), "{function} of {status}: {error}");
        }
    }
}

#[test]
fn a_missing_job_cannot_be_retried() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        let failure = queue.failure_of(&format!("SELECT {function}(99, NULL, NULL, NULL, NULL)"));
        assert!(failure.message().contains("99"), "{}", failure.message());
    }
}

#[test]
fn given_values_are_replaced_and_others_stay_where_null_is_given() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        for (arguments, columns) in [
            ("NULL, NULL, NULL, NULL", "mails | 4 | x | NULL"),
            ("'2026-05-06 07:08:09+00', NULL, NULL, NULL", "mails | 4 | x | 2026-05-06T07:08:09"),
            ("NULL, -5, NULL, NULL", "mails | -5 | x | NULL"),
            ("NULL, 0, 'other', NULL", "other | 0 | x | NULL"),
            ("NULL, NULL, NULL, 'y'", "mails | 4 | y | NULL"),
            ("'infinity', 1, 'a', 'b'", "a | 1 | b | infinity"),
        ] {
            let start = json!([{
                "status": "doing", "queue_name": "mails", "priority": 4, "lock": "x", "scheduled_at": "yesterday",
                "args": { "a": 1 }, "queueing_lock": "q",
            }]);
            queue.and_undo(|queue| {
                let id = queue.add(start)[0];
                queue.row(&format!("SELECT {function}({id}, {arguments})"));
                let changed = "queue_name, priority, lock, scheduled_at AT TIME ZONE 'UTC'";
                assert_eq!(queue.job(id, changed), columns, "{function}: {arguments}");
                let unchanged = "task_name, args, queueing_lock";
                assert_eq!(queue.job(id, unchanged), "task | {\"a\": 1} | q", "{function}: {arguments}");
            });
        }
    }
}

#[test]
fn a_retry_for_later_is_an_event_with_that_date() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        queue.start_over(json!([{ "status": "doing" }]));
        queue.row(&format!("SELECT {function}(1, '2096-05-06 07:08:09+00', NULL, NULL, NULL)"));
        assert_eq!(queue.events(1), ["deferred_for_retry", "scheduled"]);
        let date = "SELECT at AT TIME ZONE 'UTC' FROM procrastinate_events WHERE type = 'scheduled'";
        assert_eq!(queue.row(date), "2096-05-06T07:08:09");
        assert_eq!(queue.fetch("NULL"), None);
    }
}

#[test]
fn a_retried_job_can_be_fetched_again() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        queue.start_over(json!([{}]));
        assert_eq!(queue.fetch("NULL"), Some(1));
        queue.row(&format!("SELECT {function}(1, now(), NULL, NULL, NULL)"));
        assert_eq!(queue.fetch("NULL"), Some(1));
        assert_eq!(queue.job(1, "attempts"), "1");
    }
}

#[test]
fn a_retry_fails_if_a_new_job_holds_the_queueing_lock() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        queue.start_over(json!([{ "queueing_lock": "q" }]));
        queue.fetch("NULL");
        queue.add(json!([{ "queueing_lock": "q" }]));
        let failure = queue.failure_of(&format!("SELECT {function}(1, NULL, NULL, NULL, NULL)"));
        assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_queueing_lock_idx_v1"));
        assert_eq!(queue.job(1, "status"), "doing");
    }
}

#[test]
fn an_abort_that_arrives_before_a_retry_is_not_lost() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        queue.start_over(json!([{ "status": "doing" }]));
        queue.run("BEGIN");
        queue.row("SELECT procrastinate_cancel_job_v1(1, true, false)");
        let retry = Waiting::start(&mut queue, &format!("SELECT {function}(1, NULL, NULL, NULL, NULL)"));
        queue.run("COMMIT");
        retry.rows();
        assert_eq!(queue.job(1, "status, abort_requested"), "failed | true", "{function}");
    }
}

#[test]
fn an_abort_that_arrives_during_a_retry_cancels_the_job() {
    let mut queue = Queue::new();
    for function in FUNCTIONS {
        queue.start_over(json!([{ "status": "doing" }]));
        queue.run("BEGIN");
        queue.row(&format!("SELECT {function}(1, NULL, NULL, NULL, NULL)"));
        let abort = Waiting::start(&mut queue, "SELECT procrastinate_cancel_job_v1(1, true, false)");
        queue.run("COMMIT");
        assert_eq!(abort.rows(), ["1"], "{function}");
        assert_eq!(queue.job(1, "status, abort_requested"), "cancelled | true", "{function}");
    }
}
