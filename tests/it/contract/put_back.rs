//! `procrastinate_diesel_requeue_job_v1`, by which jobs go back to wait.

use serde_json::{Value, json};

use super::queue::{Queue, STANDING, Waiting};

fn queue_with_two_workers(jobs: Value) -> Queue {
    let mut queue = Queue::new();
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    queue.add(jobs);
    queue
}

/// Requeues a job without other changes.
fn put_back(job_id: &str, worker_id: &str, attempts: &str, counts: bool) -> String {
    format!(
        "SELECT procrastinate_diesel_requeue_job_v1({job_id}, {worker_id}, {attempts}, NULL, NULL, NULL, NULL, {counts})"
    )
}

#[test]
fn an_attempt_counts_unless_counts_is_false() {
    let mut queue = queue_with_two_workers(json!([]));
    let mine = json!({ "status": "doing", "worker_id": 1, "attempts": 2 });
    for (counts, standing) in [(true, "todo | 3 | false | NULL"), (false, "todo | 2 | false | NULL")] {
        let effect = queue.effect(&mine, &put_back("$id", "1", "2", counts));
        assert_eq!(effect, format!("todo -> {standing}; deferred_for_retry, scheduled"));
    }
}

#[test]
fn only_a_job_of_this_worker_and_of_this_attempt_is_requeued() {
    let mut queue = queue_with_two_workers(json!([]));
    for (start, attempts) in [
        (json!({ "status": "doing", "worker_id": 2, "attempts": 2 }), "2"),
        (json!({ "status": "doing", "attempts": 2 }), "2"),
        (json!({ "status": "doing", "worker_id": 1, "attempts": 3 }), "2"),
        (json!({ "status": "doing", "worker_id": 1, "attempts": 1 }), "2"),
        (json!({ "status": "todo", "worker_id": 1, "attempts": 2 }), "2"),
        (json!({ "status": "failed", "worker_id": 1, "attempts": 2 }), "NULL"),
    ] {
        let effect = queue.effect(&start, &put_back("$id", "1", attempts, true));
        assert!(effect.starts_with("NULL -> ") && effect.ends_with("; "), "{start}: {effect}");
    }
    let any = json!({ "status": "doing", "worker_id": 1, "attempts": 7 });
    assert!(queue.effect(&any, &put_back("$id", "1", "NULL", true)).starts_with("todo -> todo | 8 "));
}

#[test]
fn a_job_that_lost_its_worker_is_requeued_for_a_worker_that_is_null() {
    let mut queue = queue_with_two_workers(json!([]));
    let orphan = json!({ "status": "doing", "attempts": 2 });
    let effect = queue.effect(&orphan, &put_back("$id", "NULL", "2", true));
    assert_eq!(effect, "todo -> todo | 3 | false | NULL; deferred_for_retry, scheduled");
    let taken = json!({ "status": "doing", "worker_id": 2, "attempts": 2 });
    assert_eq!(queue.effect(&taken, &put_back("$id", "NULL", "2", true)), "NULL -> doing | 2 | false | 2; ");
}

#[test]
fn a_job_with_an_abort_request_fails_whether_the_attempt_counts_or_not() {
    let mut queue = queue_with_two_workers(json!([]));
    let aborted = json!({ "status": "doing", "worker_id": 1, "attempts": 2, "abort_requested": true });
    for counts in [true, false] {
        assert_eq!(
            queue.effect(&aborted, &put_back("$id", "1", "2", counts)),
            "failed -> failed | 2 | true | NULL; failed"
        );
    }
}

#[test]
fn a_job_whose_queueing_lock_is_taken_fails_and_the_attempt_counts() {
    let mut queue = queue_with_two_workers(json!([{ "queueing_lock": "one" }]));
    let mine = json!({ "status": "doing", "worker_id": 1, "attempts": 2, "queueing_lock": "one" });
    for counts in [true, false] {
        assert_eq!(
            queue.effect(&mine, &put_back("$id", "1", "2", counts)),
            "failed -> failed | 3 | false | NULL; failed"
        );
    }
}

#[test]
fn a_queueing_lock_that_is_taken_at_the_same_moment_is_noticed() {
    let mut queue = queue_with_two_workers(json!([{ "status": "doing", "worker_id": 1, "queueing_lock": "one" }]));
    queue.run("BEGIN");
    queue.add(json!([{ "queueing_lock": "one" }]));
    let worker = Waiting::start(&mut queue, &put_back("1", "1", "0", true));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), ["failed"]);
    assert_eq!(queue.job(1, STANDING), "failed | 1 | false | NULL");
    assert_eq!(queue.job(2, STANDING), "todo | 0 | false | NULL");
}
