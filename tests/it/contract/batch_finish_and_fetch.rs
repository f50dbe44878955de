//! `procrastinate_diesel_finish_and_fetch_jobs_v1`, this crate's function to finish and fetch many jobs. The rules of
//! fetching and its races are tested together with those of the contract's function.

use serde_json::{Value, json};

use super::queue::{Queue, Waiting};

/// Worker 1, which the tests speak for, and worker 2.
fn queue_with_two_workers(jobs: Value) -> Queue {
    let mut queue = Queue::new();
    start_over(&mut queue, jobs);
    queue
}

fn start_over(queue: &mut Queue, jobs: Value) {
    queue.start_over(json!([]));
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    queue.add(jobs);
}

/// Worker 1 reports outcomes, an array of IDs and one of statuses, and has this many free slots. The result is sorted:
/// `kind | id`.
fn call(queue: &mut Queue, finished: &str, end_statuses: &str, free_slots: i32) -> Vec<String> {
    queue.rows(&query(finished, end_statuses, free_slots))
}

fn query(finished: &str, end_statuses: &str, free_slots: i32) -> String {
    format!(
        "SELECT kind, id
         FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{finished}', '{end_statuses}', NULL, {free_slots})
         ORDER BY kind, id"
    )
}

fn mine(status: &str) -> Value {
    json!({ "status": status, "worker_id": 1, "attempts": 2 })
}

// ---- Finishing ----

#[test]
fn every_finished_job_gets_its_own_end() {
    let to_be_aborted = json!({ "status": "doing", "worker_id": 1, "abort_requested": true });
    let mut queue = queue_with_two_workers(json!([mine("doing"), mine("doing"), to_be_aborted, mine("doing")]));

    assert_eq!(call(&mut queue, "{3,1,2}", "{aborted,succeeded,failed}", 0), [""; 0]);

    let standing = format!("SELECT {} FROM procrastinate_jobs ORDER BY id", super::queue::STANDING);
    assert_eq!(
        queue.rows(&standing),
        [
            "succeeded | 3 | false | NULL",
            "failed | 3 | false | NULL",
            "aborted | 1 | false | NULL",
            "doing | 2 | false | 1"
        ]
    );
    for (job, events) in [(1, "succeeded"), (2, "failed"), (3, "aborted")] {
        assert_eq!(queue.events(job), [events]);
    }
}

#[test]
fn a_job_that_the_worker_no_longer_holds_is_lost_and_unchanged() {
    let mut queue = Queue::new();
    for (start, why) in [
        (json!({ "status": "doing", "worker_id": 2 }), "another worker has it"),
        (json!({ "status": "doing" }), "this worker was taken for dead"),
        (json!({ "status": "todo", "worker_id": 1 }), "it was put back to wait"),
        (json!({ "status": "succeeded", "worker_id": 2 }), "another worker has finished it"),
        (json!({ "status": "failed", "worker_id": 1 }), "it has another end"),
        (json!({ "status": "cancelled", "worker_id": 1 }), "somebody has cancelled it"),
    ] {
        start_over(&mut queue, json!([start]));
        let before = queue.job(1, "*");
        assert_eq!(call(&mut queue, "{1}", "{succeeded}", 0), ["lost | 1"], "{why}");
        assert_eq!(queue.job(1, "*"), before, "{why}");
    }
}

#[test]
fn a_deleted_job_is_lost() {
    let mut queue = queue_with_two_workers(json!([]));
    assert_eq!(call(&mut queue, "{99}", "{succeeded}", 0), ["lost | 99"]);
}

#[test]
fn a_lost_job_prevents_neither_other_outcomes_nor_fetching() {
    let mut queue = queue_with_two_workers(json!([mine("doing"), { "status": "doing", "worker_id": 2 }, {}]));
    let answer = call(&mut queue, "{1,2}", "{failed,failed}", 5);
    assert_eq!(answer, ["fetched | 3", "lost | 2"]);
    assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["failed", "doing", "doing"]);
}

#[test]
fn only_the_id_of_a_lost_job_is_returned() {
    let mut queue = queue_with_two_workers(json!([{ "status": "doing", "worker_id": 2, "lock": "x" }]));
    let answer =
        queue.row("SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{1}', '{failed}', NULL, 0)");
    assert_eq!(answer, format!("lost | 1 | {}", ["NULL"; 12].join(" | ")));
}

#[test]
fn what_an_earlier_call_has_finished_is_not_lost_and_not_counted_again() {
    let mut queue = Queue::new();
    for status in ["succeeded", "failed", "aborted"] {
        start_over(&mut queue, json!([mine("doing")]));
        for _ in 0..2 {
            assert_eq!(call(&mut queue, "{1}", &format!("{{{status}}}"), 0), [""; 0]);
            assert_eq!(queue.job(1, super::queue::STANDING), format!("{status} | 3 | false | NULL"));
            assert_eq!(queue.events(1), [status]);
        }
    }
}

#[test]
fn the_end_of_a_job_is_checked() {
    let mut queue = Queue::new();
    for status in ["todo", "doing", "cancelled", "aborting", "NULL"] {
        start_over(&mut queue, json!([mine("doing"), mine("doing"), {}]));
        let failure = queue.failure_of(&query("{1,2}", &format!("{{succeeded,{status}}}"), 1));
        assert_eq!(
            failure.message(),
            "End status should be either \"succeeded\", \"failed\" or \"aborted\" (job ids: {1,2})"
        );
        assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["doing", "doing", "todo"]);
    }
}

#[test]
fn a_job_without_an_end_is_an_error() {
    let mut queue = queue_with_two_workers(json!([mine("doing"), mine("doing")]));
    queue.failure_of(&query("{1,2}", "{succeeded}", 0));
    assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs"), ["doing", "doing"]);
}

#[test]
fn a_job_is_lost_if_another_worker_takes_it_at_the_same_moment() {
    let mut queue = queue_with_two_workers(json!([mine("doing")]));
    queue.run("BEGIN");
    queue.row("SELECT procrastinate_retry_job_v2(1, NULL, NULL, NULL, NULL)");
    queue.fetch("NULL");
    let worker = Waiting::start(&mut queue, &query("{1}", "{succeeded}", 0));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), ["lost | 1"]);
    assert_eq!(queue.job(1, "status, attempts"), "doing | 3");
}

#[test]
fn an_abort_request_at_the_same_moment_does_not_prevent_the_outcome() {
    let mut queue = queue_with_two_workers(json!([mine("doing")]));
    queue.run("BEGIN");
    queue.row("SELECT procrastinate_cancel_job_v1(1, true, false)");
    let worker = Waiting::start(&mut queue, &query("{1}", "{succeeded}", 0));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), [""; 0]);
    assert_eq!(queue.job(1, super::queue::STANDING), "succeeded | 3 | false | NULL");
}

// ---- Fetching ----

#[test]
fn there_are_no_more_jobs_than_free_slots() {
    let mut queue = Queue::new();
    for (slots, taken) in [("0", 0), ("-1", 0), ("NULL", 0), ("1", 1), ("3", 3), ("5", 5), ("2147483647", 5)] {
        start_over(&mut queue, json!([{}, {}, {}, {}, {}]));
        let call = format!("procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{{}}', '{{}}', NULL, {slots})");
        assert_eq!(queue.rows(&format!("SELECT id FROM {call}")).len(), taken, "{slots} slots");
        let doing = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = 1";
        assert_eq!(queue.row(doing), taken.to_string(), "{slots} slots");
    }
}

#[test]
fn the_slots_go_to_the_first_jobs() {
    let mut queue =
        queue_with_two_workers(json!([{}, { "priority": 1 }, {}, { "priority": 2 }, { "priority": 1 }, {}]));
    assert_eq!(call(&mut queue, "{}", "{}", 2), ["fetched | 2", "fetched | 4"]);
    assert_eq!(call(&mut queue, "{}", "{}", 3), ["fetched | 1", "fetched | 3", "fetched | 5"]);
    assert_eq!(call(&mut queue, "{}", "{}", 3), ["fetched | 6"]);
    assert_eq!(call(&mut queue, "{}", "{}", 3), [""; 0]);
}

#[test]
fn at_most_one_job_of_each_lock_is_fetched_and_others_get_the_slots() {
    let mut queue = queue_with_two_workers(
        json!([{ "lock": "x" }, { "lock": "x" }, { "lock": "y" }, { "lock": "x" }, { "lock": "y" }, {}, {}]),
    );
    assert_eq!(call(&mut queue, "{}", "{}", 3), ["fetched | 1", "fetched | 3", "fetched | 6"]);
    assert_eq!(call(&mut queue, "{}", "{}", 3), ["fetched | 7"]);
}

#[test]
fn a_fetched_job_is_returned_with_all_its_columns() {
    let mut queue = queue_with_two_workers(json!([{
        "queue_name": "mails", "task_name": "send", "priority": 4, "lock": "l", "queueing_lock": "q",
        "args": { "to": "Zoë" }, "scheduled_at": "1996-05-06 07:08:09+00", "attempts": 2, "worker_id": 2,
    }]));
    let columns = "id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, attempts,
                   abort_requested, worker_id";

    let answer = queue.row(&format!(
        "SELECT kind, {columns} FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, NULL, NULL, '{{mails}}', 1)"
    ));

    assert_eq!(answer, format!("fetched | {}", queue.job(1, columns)));
    assert_eq!(queue.job(1, super::queue::STANDING), "doing | 2 | false | 1");
    assert_eq!(queue.events(1), ["deferred", "scheduled", "started"]);
}

#[test]
fn a_schedule_at_infinity_is_returned_as_null() {
    let mut queue = queue_with_two_workers(json!([{ "scheduled_at": "-infinity" }]));
    let call = "procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 1)";
    assert_eq!(queue.row(&format!("SELECT id, scheduled_at FROM {call}")), "1 | NULL");
    assert_eq!(queue.job(1, "scheduled_at"), "-infinity");
}

#[test]
fn an_unregistered_worker_gets_no_job() {
    let mut queue = Queue::with_jobs(json!([{}]));
    queue.failure_of(&query("{}", "{}", 1));
    assert_eq!(queue.job(1, "status"), "todo");
}

// ---- Both ----

#[test]
fn a_lock_that_a_finished_job_releases_is_taken_in_the_same_call() {
    let mut queue = queue_with_two_workers(json!([
        { "lock": "x", "status": "doing", "worker_id": 1 },
        { "lock": "y", "status": "doing", "worker_id": 1 },
        { "lock": "x" },
        { "lock": "y" },
        { "lock": "x" },
    ]));
    assert_eq!(call(&mut queue, "{1}", "{succeeded}", 5), ["fetched | 3"]);
    assert_eq!(call(&mut queue, "{3,2}", "{failed,aborted}", 5), ["fetched | 4", "fetched | 5"]);
}

#[test]
fn a_job_that_was_requeued_meanwhile_can_be_lost_and_fetched_in_the_same_call() {
    let mut queue = queue_with_two_workers(json!([{ "worker_id": 1, "attempts": 1 }]));
    assert_eq!(call(&mut queue, "{1}", "{succeeded}", 1), ["fetched | 1", "lost | 1"]);
    assert_eq!(queue.job(1, super::queue::STANDING), "doing | 1 | false | 1");
}

#[test]
fn the_connections_settings_are_unchanged() {
    let mut queue = queue_with_two_workers(json!([{}]));
    let settings = "SELECT name, setting FROM pg_settings WHERE name LIKE 'enable%' ORDER BY name";
    let before = queue.rows(settings);
    call(&mut queue, "{}", "{}", 1);
    assert_eq!(queue.rows(settings), before);
}
