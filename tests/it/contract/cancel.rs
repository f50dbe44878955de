//! `procrastinate_cancel_job_v1`.

use serde_json::{Value, json};

use super::queue::{Queue, Waiting};

const NO_MATCH: [(&str, &str); 5] = [
    ("succeeded", "NULL -> succeeded | 2 | false | NULL; "),
    ("failed", "NULL -> failed | 2 | false | NULL; "),
    ("cancelled", "NULL -> cancelled | 2 | false | NULL; "),
    ("aborting", "NULL -> aborting | 2 | false | NULL; "),
    ("aborted", "NULL -> aborted | 2 | false | NULL; "),
];

fn waiting() -> Value {
    json!({ "attempts": 2 })
}

fn running() -> Value {
    json!({ "status": "doing", "attempts": 2, "worker_id": 1 })
}

fn running_and_to_be_aborted() -> Value {
    json!({ "status": "doing", "abort_requested": true })
}

/// Checks what the call, with these values for `abort` and `delete_job`, does to a job, for each state of the job
/// before.
fn assert_effects(queue: &mut Queue, abort: bool, delete_job: bool, effects: &[(Value, &str)]) {
    queue.start_over(json!([]));
    assert_eq!(queue.register_worker(), 1);
    let call = format!("SELECT procrastinate_cancel_job_v1($id, {abort}, {delete_job})");
    for (start, effect) in effects {
        assert_eq!(queue.effect(start, &call), *effect, "{start}");
    }
}

#[test]
fn without_abort_a_pending_job_is_cancelled_and_a_running_one_continues() {
    assert_effects(
        &mut Queue::new(),
        false,
        false,
        &[
            (waiting(), "$id -> cancelled | 2 | false | NULL; cancelled"),
            (running(), "NULL -> doing | 2 | false | 1; "),
            (running_and_to_be_aborted(), "NULL -> doing | 0 | true | NULL; "),
        ],
    );
}

#[test]
fn with_abort_a_pending_job_is_cancelled_and_marked_and_a_running_one_only_marked() {
    assert_effects(
        &mut Queue::new(),
        true,
        false,
        &[
            (waiting(), "$id -> cancelled | 2 | true | NULL; abort_requested, cancelled"),
            (running(), "$id -> doing | 2 | true | 1; abort_requested"),
        ],
    );
}

#[test]
fn a_repeated_abort_of_a_running_job_is_one_more_event() {
    assert_effects(
        &mut Queue::new(),
        true,
        false,
        &[(running_and_to_be_aborted(), "$id -> doing | 0 | true | NULL; abort_requested")],
    );
}

#[test]
fn with_delete_job_a_pending_job_is_deleted_and_a_running_one_continues() {
    assert_effects(
        &mut Queue::new(),
        false,
        true,
        &[(waiting(), "$id -> gone; "), (running(), "NULL -> doing | 2 | false | 1; ")],
    );
}

#[test]
fn with_both_a_pending_job_is_deleted_and_a_running_one_marked() {
    assert_effects(
        &mut Queue::new(),
        true,
        true,
        &[(waiting(), "$id -> gone; "), (running(), "$id -> doing | 2 | true | 1; abort_requested")],
    );
}

#[test]
fn a_finished_job_is_unchanged() {
    let effects = NO_MATCH.map(|(status, effect)| (json!({ "status": status, "attempts": 2 }), effect));
    let mut queue = Queue::new();
    for (abort, delete_job) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_effects(&mut queue, abort, delete_job, &effects);
    }
}

#[test]
fn a_missing_job_is_no_error() {
    let mut queue = Queue::new();
    for (abort, delete_job) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_eq!(queue.row(&format!("SELECT procrastinate_cancel_job_v1(99, {abort}, {delete_job})")), "NULL");
    }
}

#[test]
fn a_cancellation_while_a_worker_fetches_the_job_is_too_late() {
    let mut queue = Queue::new();
    for (delete_job, abort, standing) in
        [(false, false, "doing | false"), (true, false, "doing | false"), (false, true, "doing | true")]
    {
        queue.start_over(json!([{}]));
        queue.run("BEGIN");
        queue.fetch("NULL");
        let cancel = format!("SELECT procrastinate_cancel_job_v1(1, {abort}, {delete_job})");
        let other = Waiting::start(&mut queue, &cancel);
        queue.run("COMMIT");
        assert_eq!(other.rows(), [if abort { "1" } else { "NULL" }]);
        assert_eq!(queue.job(1, "status, abort_requested"), standing);
    }
}
