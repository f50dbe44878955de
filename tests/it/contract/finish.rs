//! `procrastinate_finish_job_v1`.

use serde_json::{Value, json};

use super::queue::{Queue, Waiting};

const WRONG_JOB: &str = "error: Job was not found or not in \"doing\" or \"todo\" status (job id: $id)";
const WRONG_STATUS: &str = "error: End status should be either \"succeeded\", \"failed\" or \"aborted\" (job id: $id)";

fn waiting() -> Value {
    json!({ "attempts": 2 })
}

fn running() -> Value {
    json!({ "status": "doing", "attempts": 2, "worker_id": 1 })
}

/// Checks what the call does to a job, for each state of the job before.
fn assert_effects(queue: &mut Queue, call: &str, effects: &[(Value, &str)]) {
    queue.start_over(json!([]));
    assert_eq!(queue.register_worker(), 1);
    for (start, effect) in effects {
        assert_eq!(queue.effect(start, &format!("SELECT procrastinate_finish_job_v1({call})")), *effect, "{start}");
    }
}

#[test]
fn a_finished_running_job_has_its_status_and_one_more_attempt() {
    let mut queue = Queue::new();
    assert_effects(&mut queue, "$id, 'succeeded', false", &[(running(), " -> succeeded | 3 | false | 1; succeeded")]);
    assert_effects(&mut queue, "$id, 'failed', false", &[(running(), " -> failed | 3 | false | 1; failed")]);
    assert_effects(&mut queue, "$id, 'aborted', false", &[(running(), " -> aborted | 3 | false | 1; aborted")]);
}

#[test]
fn the_request_to_abort_is_cleared() {
    let mut queue = Queue::new();
    let to_be_aborted = || json!({ "status": "doing", "abort_requested": true, "worker_id": 1 });
    assert_effects(
        &mut queue,
        "$id, 'succeeded', false",
        &[(to_be_aborted(), " -> succeeded | 1 | false | 1; succeeded")],
    );
    assert_effects(&mut queue, "$id, 'failed', false", &[(to_be_aborted(), " -> failed | 1 | false | 1; failed")]);
    assert_effects(&mut queue, "$id, 'aborted', false", &[(to_be_aborted(), " -> aborted | 1 | false | 1; aborted")]);
}

#[test]
fn a_finished_pending_job_has_its_status_and_no_more_attempts() {
    let mut queue = Queue::new();
    assert_effects(
        &mut queue,
        "$id, 'succeeded', false",
        &[(waiting(), " -> succeeded | 2 | false | NULL; cancelled")],
    );
    assert_effects(&mut queue, "$id, 'failed', false", &[(waiting(), " -> failed | 2 | false | NULL; cancelled")]);
    assert_effects(&mut queue, "$id, 'aborted', false", &[(waiting(), " -> aborted | 2 | false | NULL; ")]);
}

#[test]
fn a_finished_pending_job_keeps_its_former_worker() {
    let mut queue = Queue::new();
    let retried = json!({ "attempts": 2, "worker_id": 1 });
    assert_effects(&mut queue, "$id, 'failed', false", &[(retried, " -> failed | 2 | false | 1; cancelled")]);
}

#[test]
fn a_job_can_be_deleted_when_it_finishes_with_any_status() {
    let mut queue = Queue::new();
    for status in ["succeeded", "failed", "aborted"] {
        let call = format!("$id, '{status}', true");
        assert_effects(&mut queue, &call, &[(running(), " -> gone; "), (waiting(), " -> gone; ")]);
    }
}

#[test]
fn a_finished_job_cannot_finish_again() {
    let mut queue = Queue::new();
    for delete in [false, true] {
        let ended = ["succeeded", "failed", "cancelled", "aborting", "aborted"];
        let effects = ended.map(|status| (json!({ "status": status }), WRONG_JOB));
        assert_effects(&mut queue, &format!("$id, 'succeeded', {delete}"), &effects);
    }
}

#[test]
fn a_missing_job_cannot_finish() {
    let mut queue = Queue::with_jobs(json!([{}]));
    for delete in [false, true] {
        let failure = queue.failure_of(&format!("SELECT procrastinate_finish_job_v1(99, 'succeeded', {delete})"));
        assert_eq!(failure.message(), WRONG_JOB.replace("error: ", "").replace("$id", "99"));
        assert_eq!(queue.job(1, "status"), "todo");
    }
}

#[test]
fn a_job_cannot_finish_with_any_other_status() {
    let mut queue = Queue::new();
    for status in ["'todo'", "'doing'", "'cancelled'", "'aborting'", "NULL"] {
        for delete in [false, true] {
            let call = format!("$id, {status}, {delete}");
            assert_effects(&mut queue, &call, &[(running(), WRONG_STATUS), (waiting(), WRONG_STATUS)]);
        }
    }
}

#[test]
fn a_deleted_job_takes_its_events_along_and_leaves_its_tick() {
    let mut queue = Queue::new();
    let defer = "SELECT procrastinate_defer_periodic_job_v2('default', NULL, NULL, 'task', 0, '', 60, '{}')";
    assert_eq!(queue.row(defer), "1");
    queue.fetch("NULL");
    assert_eq!(queue.events(1), ["deferred", "started"]);

    queue.row("SELECT procrastinate_finish_job_v1(1, 'succeeded', true)");

    assert_eq!(queue.events(1), [""; 0]);
    assert_eq!(queue.row("SELECT defer_timestamp, job_id FROM procrastinate_periodic_defers"), "60 | NULL");
}

#[test]
fn only_one_of_two_concurrent_calls_finishes_a_job() {
    let mut queue = Queue::with_jobs(json!([{ "status": "doing" }]));
    queue.run("BEGIN");
    queue.row("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    let other = Waiting::start(&mut queue, "SELECT procrastinate_finish_job_v1(1, 'failed', false)");
    queue.run("COMMIT");

    let error = other.result().unwrap_err().to_string();

    assert_eq!(error, WRONG_JOB.replace("error: ", "").replace("$id", "1"));
    assert_eq!(queue.job(1, "status, attempts"), "succeeded | 1");
}
