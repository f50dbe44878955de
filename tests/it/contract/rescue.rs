//! Jobs whose worker is gone: found, rescued, or taken back by a worker that was not dead.

use serde_json::{Value, json};

use super::queue::{Queue, STANDING, Waiting};

const WITHOUT_WORKER: &str = "SELECT id FROM procrastinate_diesel_jobs_without_worker_v1('{task}')";

fn queue_with_two_workers(jobs: Value) -> Queue {
    let mut queue = Queue::new();
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    queue.add(jobs);
    queue
}

/// A job that is marked as running while its worker is gone.
fn orphan() -> Value {
    json!({ "status": "doing", "attempts": 2 })
}

/// The result, sorted: `job_id | new_status`.
fn rescue(rescues: &Value) -> String {
    format!("SELECT job_id, new_status FROM procrastinate_diesel_rescue_jobs_v1('{rescues}') ORDER BY job_id")
}

fn retried(job_id: i64) -> Value {
    json!({ "job_id": job_id, "attempts": 2, "is_retried": true, "error": "its worker died" })
}

fn failed(job_id: i64) -> Value {
    json!({ "job_id": job_id, "attempts": 2, "is_retried": false, "error": "its worker died" })
}

/// Re-registers a worker that was pruned. The rows: `job_id | attempts`.
fn reregister_pruned(new_id: i64, job_ids: &str, attempts: &str) -> String {
    reregister(99, new_id, job_ids, attempts)
}

fn reregister(former_id: i64, new_id: i64, job_ids: &str, attempts: &str) -> String {
    format!(
        "SELECT job_id, attempts
         FROM procrastinate_diesel_reregister_worker_v1({former_id}, {new_id}, '{job_ids}', '{attempts}')
         ORDER BY job_id"
    )
}

// ---- Finding ----

#[test]
fn jobs_without_a_worker_are_those_that_are_doing_and_have_none() {
    let mut queue = queue_with_two_workers(json!([
        orphan(),
        { "status": "doing", "worker_id": 1 },
        { "status": "todo" },
        { "status": "succeeded" },
        { "status": "failed" },
        { "status": "aborted" },
        { "status": "doing", "task_name": "other" },
        orphan(),
    ]));
    assert_eq!(queue.rows(WITHOUT_WORKER), ["1", "8"]);
    assert_eq!(queue.rows(&WITHOUT_WORKER.replace("{task}", "{other,task}")), ["1", "7", "8"]);
    assert_eq!(queue.rows(&WITHOUT_WORKER.replace("{task}", "{}")), [""; 0]);
    queue.run("DELETE FROM procrastinate_workers");
    assert_eq!(queue.rows(WITHOUT_WORKER), ["1", "2", "8"]);
}

#[test]
fn jobs_without_a_worker_are_found_a_thousand_at_a_time() {
    let mut queue = Queue::new();
    queue.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT 'q', CASE WHEN number <= 1000 THEN 'other' ELSE 'task' END, 'doing'
         FROM generate_series(1, 2003) AS number",
    );
    // Those that nobody here can rescue are not in the way.
    let count = |queue: &mut Queue| queue.row(&format!("SELECT min(id), count(*) FROM ({WITHOUT_WORKER}) AS found"));
    assert_eq!(count(&mut queue), "1001 | 1000");
    queue.run("UPDATE procrastinate_jobs SET status = 'failed' WHERE id <= 2000");
    assert_eq!(count(&mut queue), "2001 | 3");
}

#[test]
fn the_jobs_of_a_worker_include_abort_requests() {
    let mut queue = queue_with_two_workers(json!([
        { "status": "doing", "worker_id": 1 },
        { "status": "doing", "worker_id": 1, "abort_requested": true },
        { "status": "doing", "worker_id": 2, "abort_requested": true },
        { "status": "failed", "worker_id": 1, "abort_requested": true },
    ]));
    let held = "SELECT job_id, abort_requested FROM procrastinate_diesel_held_jobs_v1(1) ORDER BY job_id";
    assert_eq!(queue.rows(held), ["1 | false", "2 | true"]);
}

// ---- Rescuing ----

#[test]
fn a_rescued_job_is_pending_or_failed_and_the_attempt_counts() {
    let mut queue = queue_with_two_workers(json!([orphan(), orphan()]));
    queue.run("BEGIN");
    assert_eq!(queue.rows(&rescue(&json!([failed(2), retried(1)]))), ["1 | todo", "2 | failed"]);
    assert_eq!(queue.job(1, STANDING), "todo | 3 | false | NULL");
    assert_eq!(queue.job(1, "scheduled_at = now()"), "true");
    assert_eq!(queue.job(2, STANDING), "failed | 3 | false | NULL");
    assert_eq!(queue.events(1), ["deferred_for_retry", "scheduled"]);
    assert_eq!(queue.events(2), ["failed"]);
    let errors = "SELECT job_id, attempt, error, worker_id, duration_seconds
                  FROM procrastinate_diesel_job_errors ORDER BY job_id";
    assert_eq!(queue.rows(errors), ["1 | 3 | its worker died | NULL | NULL", "2 | 3 | its worker died | NULL | NULL"]);
}

#[test]
fn a_rescued_job_is_changed_by_its_retry_strategy() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    let mut decided = retried(1);
    decided["retry_at"] = "infinity".into();
    decided["priority"] = 7.into();
    decided["queue_name"] = "slow".into();
    decided["lock"] = "alone".into();
    assert_eq!(queue.rows(&rescue(&json!([decided]))), ["1 | todo"]);
    assert_eq!(queue.job(1, "scheduled_at, priority, queue_name, lock"), "infinity | 7 | slow | alone");
}

#[test]
fn a_job_whose_abort_was_requested_is_aborted_instead_and_no_lock_stays_held() {
    let mut queue = Queue::new();
    for how in [retried(1), failed(1)] {
        queue.start_over(json!([
            { "status": "doing", "attempts": 2, "abort_requested": true, "lock": "x" },
            { "lock": "x" },
        ]));
        assert_eq!(queue.rows(&rescue(&json!([how]))), ["1 | aborted"]);
        assert_eq!(queue.job(1, STANDING), "aborted | 3 | false | NULL");
        assert_eq!(queue.events(1), ["aborted"]);
        assert_eq!(queue.fetch("NULL"), Some(2));
    }
}

#[test]
fn jobs_with_a_worker_or_another_attempt_or_an_outcome_are_not_rescued() {
    let mut queue = queue_with_two_workers(json!([
        { "status": "doing", "worker_id": 1, "attempts": 2 },
        { "status": "doing", "attempts": 3 },
        { "status": "todo", "attempts": 2 },
        { "status": "succeeded", "attempts": 2 },
        orphan(),
    ]));
    let before = queue.rows("SELECT * FROM procrastinate_jobs WHERE id < 5 ORDER BY id");
    let rescues = json!([failed(1), failed(2), failed(3), failed(4), failed(99), failed(5)]);
    assert_eq!(queue.rows(&rescue(&rescues)), ["5 | failed"]);
    assert_eq!(queue.rows("SELECT * FROM procrastinate_jobs WHERE id < 5 ORDER BY id"), before);
    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_diesel_job_errors"), ["5"]);
    assert_eq!(queue.rows(&rescue(&json!([]))), [""; 0]);
}

#[test]
fn a_job_whose_queueing_lock_is_taken_fails_and_the_others_are_rescued() {
    let with_lock = |status| json!({ "status": status, "attempts": 2, "queueing_lock": "one" });
    let mut queue = queue_with_two_workers(json!([with_lock("doing"), with_lock("todo"), orphan()]));
    assert_eq!(queue.rows(&rescue(&json!([retried(1), retried(3)]))), ["1 | failed", "3 | todo"]);
    assert_eq!(queue.job(1, STANDING), "failed | 3 | false | NULL");
}

#[test]
fn a_rescued_job_is_deleted_if_it_is_not_retried_and_should_be() {
    let mut queue = queue_with_two_workers(json!([orphan(), orphan()]));
    let failed = json!([{ "job_id": 1, "attempts": 2, "is_retried": false, "error": "e", "is_deleted_if_failed": true },
        { "job_id": 2, "attempts": 2, "is_retried": true, "error": "e", "is_deleted_if_failed": true }]);
    assert_eq!(queue.rows(&rescue(&failed)), ["1 | failed", "2 | todo"]);
    assert_eq!(queue.rows("SELECT id FROM procrastinate_jobs"), ["2"]);
}

#[test]
fn a_job_is_rescued_without_the_parts_that_the_database_refuses() {
    let mut queue = queue_with_two_workers(json!([orphan(), orphan(), orphan()]));
    queue.run(
        "CREATE TABLE invoices (job_id bigint REFERENCES procrastinate_jobs);
         INSERT INTO invoices VALUES (1);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_diesel_job_errors FOR EACH ROW
             WHEN (NEW.job_id = 2) EXECUTE FUNCTION refuse();
         CREATE TRIGGER refuse AFTER INSERT ON procrastinate_events FOR EACH ROW
             WHEN (NEW.job_id = 3) EXECUTE FUNCTION refuse()",
    );
    let failed =
        |id| json!({ "job_id": id, "attempts": 2, "is_retried": false, "error": "e", "is_deleted_if_failed": true });
    let rescue =
        rescue(&json!([failed(1), failed(2), failed(3)])).replace("new_status FROM", "new_status, problem FROM");
    let answer = queue.rows(&rescue);
    assert!(answer[0].starts_with("1 | failed | update or delete on table"), "{answer:?}");
    assert_eq!(
        answer[1..],
        ["2 | failed | not this one (SQLSTATE P0001)", "3 | failed | not this one (SQLSTATE P0001)"]
    );
    assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["failed"; 3]);
    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_diesel_job_errors"), ["1"]);
    assert_eq!((queue.events(2), queue.events(3)), (vec!["failed".to_owned()], vec![]));
    // A transaction that goes on writes events again.
    queue.run("DROP TRIGGER refuse ON procrastinate_events");
    queue.add(json!([{ "status": "doing" }]));
    queue.run("SELECT procrastinate_finish_job_v1(4, 'failed', false)");
    assert!(queue.events(4).contains(&"failed".to_owned()));
}

#[test]
fn an_error_that_is_kept_already_stays() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    queue.run("INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error) VALUES (1, 3, 'its own')");
    assert_eq!(queue.rows(&rescue(&json!([retried(1)]))), ["1 | todo"]);
    assert_eq!(queue.rows("SELECT attempt, error FROM procrastinate_diesel_job_errors"), ["3 | its own"]);
}

// ---- Taking back ----

#[test]
fn a_worker_that_re_registers_keeps_the_jobs_that_no_other_worker_has_taken() {
    let mut queue = queue_with_two_workers(json!([
        orphan(),
        { "status": "doing", "attempts": 2, "worker_id": 2 },
        { "status": "doing", "attempts": 3 },
        { "status": "todo", "attempts": 2 },
        { "status": "succeeded", "attempts": 2 },
        orphan(),
    ]));
    let before = queue.rows("SELECT * FROM procrastinate_jobs WHERE id BETWEEN 2 AND 5 ORDER BY id");
    assert_eq!(queue.rows(&reregister_pruned(3, "{1,2,3,4,5,99}", "{2,2,2,2,2,2}")), ["1 | 2"]);
    assert_eq!(queue.job(1, STANDING), "doing | 2 | false | 3");
    assert_eq!(queue.job(6, STANDING), "doing | 2 | false | NULL");
    assert_eq!(queue.rows("SELECT * FROM procrastinate_jobs WHERE id BETWEEN 2 AND 5 ORDER BY id"), before);
    assert_eq!(queue.events(1), [""; 0]);
    assert_eq!(queue.rows("SELECT id FROM procrastinate_workers ORDER BY id"), ["1", "2", "3"]);
}

#[test]
fn a_worker_without_jobs_can_re_register() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    assert_eq!(queue.rows(&reregister_pruned(3, "{}", "{}")), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "doing | 2 | false | NULL");
    assert_eq!(queue.rows("SELECT id FROM procrastinate_workers ORDER BY id"), ["1", "2", "3"]);
}

#[test]
fn a_worker_moves_to_its_new_id_with_all_its_jobs_and_can_repeat_that() {
    let mut queue = queue_with_two_workers(json!([
        { "status": "doing", "attempts": 2, "worker_id": 1 },
        { "status": "doing", "attempts": 5, "worker_id": 1 },
        { "status": "doing", "worker_id": 2 },
        { "status": "failed", "worker_id": 1 },
        orphan(),
    ]));
    let new_id = queue.row("SELECT procrastinate_diesel_draw_worker_id_v1()").parse().unwrap();
    for _ in 0..2 {
        // It does not know of job 2, which was fetched in a lost response.
        assert_eq!(queue.rows(&reregister(1, new_id, "{1,5}", "{2,2}")), ["1 | 2", "2 | 5", "5 | 2"]);
        let workers = queue.rows("SELECT id FROM procrastinate_workers ORDER BY id");
        assert_eq!(workers, ["2".to_owned(), new_id.to_string()]);
        assert_eq!(queue.job(3, STANDING), "doing | 0 | false | 2");
    }
    let next = queue.row("SELECT worker_id FROM procrastinate_register_worker_v1()").parse::<i64>().unwrap();
    assert!(next > new_id, "{next} was drawn before");
}

// ---- At the same time ----

#[test]
fn a_worker_whose_re_registration_had_to_wait_is_not_considered_stalled_after_it() {
    let mut queue = queue_with_two_workers(json!([{ "status": "doing", "worker_id": 1 }]));
    queue.run("BEGIN; LOCK TABLE procrastinate_jobs IN SHARE MODE");
    let worker = Waiting::start(&mut queue, &reregister(1, 3, "{1}", "{0}"));
    // Its heartbeats go on under the former ID.
    assert_eq!(queue.row("SELECT procrastinate_diesel_update_heartbeat_v1(1)"), "2");
    let free_at = queue.row("SELECT clock_timestamp()");
    queue.run("COMMIT");
    assert_eq!(worker.rows(), ["1 | 0"]);
    let is_later = format!("SELECT last_heartbeat >= '{free_at}' FROM procrastinate_workers WHERE id = 3");
    assert_eq!(queue.row(&is_later), "true");
}

#[test]
fn only_one_of_two_workers_rescues_a_job_and_neither_waits() {
    let mut queue = queue_with_two_workers(json!([orphan(), orphan()]));
    let mut other = queue.another_connection();
    queue.run("BEGIN");
    assert_eq!(queue.rows(&rescue(&json!([retried(1)]))), ["1 | todo"]);
    let answer = crate::support::rows(&mut other, &rescue(&json!([retried(1), failed(2)])));
    assert_eq!(answer, ["2 | failed"]);
    queue.run("COMMIT");
    assert_eq!(crate::support::rows(&mut other, &rescue(&json!([failed(1)]))), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "todo | 3 | false | NULL");
}

#[test]
fn a_worker_that_re_registers_during_the_rescue_of_its_job_loses_it() {
    let mut queue = queue_with_two_workers(json!([orphan(), orphan()]));
    queue.run("BEGIN");
    queue.rows(&rescue(&json!([retried(1)])));
    let worker = Waiting::start(&mut queue, &reregister_pruned(3, "{1,2}", "{2,2}"));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), ["2 | 2"]);
    assert_eq!(queue.job(1, STANDING), "todo | 3 | false | NULL");
}

#[test]
fn a_job_that_was_rescued_and_fetched_meanwhile_stays_with_its_new_worker() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    queue.run("BEGIN");
    queue.rows(&rescue(&json!([retried(1)])));
    queue.row("SELECT id FROM procrastinate_fetch_job_v2(NULL, 2)");
    let worker = Waiting::start(&mut queue, &reregister_pruned(3, "{1}", "{2}"));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "doing | 3 | false | 2");
}

#[test]
fn a_job_that_its_worker_reclaims_at_the_same_moment_is_not_rescued() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    let mut rescuer = queue.another_connection();
    queue.run("BEGIN");
    assert_eq!(queue.rows(&reregister_pruned(3, "{1}", "{2}")), ["1 | 2"]);
    assert_eq!(crate::support::rows(&mut rescuer, &rescue(&json!([failed(1)]))), [""; 0]);
    queue.run("COMMIT");
    assert_eq!(crate::support::rows(&mut rescuer, &rescue(&json!([failed(1)]))), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "doing | 2 | false | 3");
}

#[test]
fn an_abort_request_at_the_same_moment_is_left_to_the_next_check() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    let mut rescuer = queue.another_connection();
    queue.run("BEGIN");
    queue.row("SELECT procrastinate_cancel_job_v1(1, true, false)");
    assert_eq!(crate::support::rows(&mut rescuer, &rescue(&json!([retried(1)]))), [""; 0]);
    queue.run("COMMIT");
    assert_eq!(crate::support::rows(&mut rescuer, &rescue(&json!([retried(1)]))), ["1 | aborted"]);
}

#[test]
fn workers_that_re_register_with_the_same_job_do_not_both_hold_it() {
    let mut queue = queue_with_two_workers(json!([orphan()]));
    queue.run("BEGIN");
    assert_eq!(queue.rows(&reregister_pruned(3, "{1}", "{2}")), ["1 | 2"]);
    let other = Waiting::start(&mut queue, &reregister_pruned(4, "{1}", "{2}"));
    queue.run("COMMIT");
    assert_eq!(other.rows(), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "doing | 2 | false | 3");
}
