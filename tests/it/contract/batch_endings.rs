//! `procrastinate_diesel_finish_and_fetch_jobs_v1` again: jobs that are deleted when they finish, errors that are
//! stored, and a worker that was pruned meanwhile.

use serde_json::{Value, json};

use super::queue::{Queue, STANDING, Waiting};

const ERRORS: &str = "SELECT job_id, attempt, error, worker_id, worker_name, duration_seconds
                      FROM procrastinate_diesel_job_errors ORDER BY job_id, attempt";

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

fn mine() -> Value {
    json!({ "status": "doing", "worker_id": 1, "attempts": 2 })
}

/// What worker 1 reports in one call, as the function takes it: SQL for each, NULL where there is nothing.
struct Call {
    finished: &'static str,
    end_statuses: &'static str,
    retries: Value,
    deleted: &'static str,
    errors: Value,
}

impl Default for Call {
    fn default() -> Self {
        Self { finished: "{}", end_statuses: "{}", retries: json!(null), deleted: "{}", errors: json!(null) }
    }
}

impl Call {
    /// The result, sorted: `kind | id`.
    fn query(&self, free_slots: i32) -> String {
        let Self { finished, end_statuses, retries, deleted, errors } = self;
        let jsonb = |value: &Value| if value.is_null() { "NULL".to_owned() } else { format!("'{value}'") };
        format!(
            "SELECT kind, id
             FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
                 1, '{finished}', '{end_statuses}', NULL, {free_slots}, {}, '{deleted}', {})
             ORDER BY kind, id",
            jsonb(retries),
            jsonb(errors)
        )
    }

    fn run(&self, queue: &mut Queue) -> Vec<String> {
        queue.rows(&self.query(0))
    }
}

fn deleting(deleted: &'static str) -> Call {
    Call { deleted, ..Call::default() }
}

fn error(job_id: i64) -> Value {
    json!({ "job_id": job_id, "error": "out of paper", "worker_name": "printer", "duration_seconds": 1.5 })
}

// ---- Deleting ----

#[test]
fn a_job_that_is_deleted_when_it_finishes_takes_its_events_and_errors_along() {
    let mut queue = queue_with_two_workers(json!([mine(), mine()]));
    queue.run("INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error) VALUES (1, 1, 'e')");
    assert_eq!(deleting("{1}").run(&mut queue), [""; 0]);
    assert_eq!(queue.rows("SELECT id FROM procrastinate_jobs"), ["2"]);
    assert_eq!(queue.events(1), [""; 0]);
    assert_eq!(queue.rows(ERRORS), [""; 0]);
}

#[test]
fn a_tick_outlives_its_job_that_is_deleted_when_it_finishes() {
    let mut queue = queue_with_two_workers(json!([mine(), mine()]));
    queue.run(
        "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id) VALUES ('task', 1, 1), ('task', 2, 2)",
    );
    assert_eq!(deleting("{1}").run(&mut queue), [""; 0]);
    let links = "SELECT defer_timestamp, job_id FROM procrastinate_periodic_defers ORDER BY defer_timestamp";
    assert_eq!(queue.rows(links), ["1 | NULL", "2 | 2"]);
}

#[test]
fn only_deletions_by_others_call_the_trigger_that_unlinks_ticks() {
    let mut queue = queue_with_two_workers(json!([mine(), mine(), { "status": "succeeded" }]));
    queue.run(
        "CREATE OR REPLACE FUNCTION procrastinate_unlink_periodic_defers_v1() RETURNS trigger LANGUAGE plpgsql
         AS 'BEGIN RAISE EXCEPTION ''called for job %'', OLD.id; END'",
    );
    queue.run("UPDATE procrastinate_events SET at = now() - interval '2 hours'");
    queue
        .run("INSERT INTO procrastinate_events (job_id, type, at) VALUES (3, 'succeeded', now() - interval '2 hours')");

    assert_eq!(deleting("{1}").run(&mut queue), [""; 0]);
    let old = "SELECT deleted FROM procrastinate_diesel_delete_old_jobs_v1('{succeeded}', '1 hour', NULL, NULL, NULL)";
    assert_eq!(queue.row(old), "1");
    let failure = queue.failure_of("DELETE FROM procrastinate_jobs WHERE id = 2");
    assert_eq!(failure.message(), "called for job 2");
}

#[test]
fn a_job_whose_deletion_had_no_response_is_not_lost() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    for _ in 0..2 {
        assert_eq!(deleting("{1}").run(&mut queue), [""; 0]);
    }
}

#[test]
fn only_jobs_that_this_worker_is_doing_are_deleted() {
    let mut queue = Queue::new();
    for start in [
        json!({ "status": "doing", "worker_id": 2 }),
        json!({ "status": "doing" }),
        json!({ "status": "todo", "worker_id": 1 }),
        json!({ "status": "succeeded", "worker_id": 1 }),
    ] {
        start_over(&mut queue, json!([start, mine()]));
        let before = queue.job(1, "*");
        assert_eq!(deleting("{1,2}").run(&mut queue), ["lost | 1"], "{start}");
        assert_eq!(queue.job(1, "*"), before, "{start}");
        assert_eq!(queue.rows("SELECT id FROM procrastinate_jobs"), ["1"], "{start}");
    }
}

#[test]
fn a_lock_that_a_deleted_job_held_is_free_in_the_same_call() {
    let mut queue =
        queue_with_two_workers(json!([{ "status": "doing", "worker_id": 1, "lock": "x" }, { "lock": "x" }]));
    assert_eq!(queue.rows(&deleting("{1}").query(1)), ["fetched | 2"]);
}

#[test]
fn a_job_is_not_deleted_if_another_worker_takes_it_at_the_same_moment() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    queue.run("BEGIN");
    queue.run("UPDATE procrastinate_jobs SET worker_id = 2");
    let worker = Waiting::start(&mut queue, &deleting("{1}").query(0));
    queue.run("COMMIT");
    assert_eq!(worker.rows(), ["lost | 1"]);
    assert_eq!(queue.job(1, STANDING), "doing | 2 | false | 2");
}

// ---- Errors ----

#[test]
fn the_error_of_an_attempt_is_stored_with_every_outcome() {
    let mut queue = queue_with_two_workers(json!([mine(), mine(), mine()]));
    queue.run("BEGIN");
    let call = Call {
        finished: "{1,2}",
        end_statuses: "{failed,aborted}",
        retries: json!([{ "job_id": 3 }]),
        errors: json!([error(1), error(2), { "job_id": 3, "error": "Zoë said \"no\"" }]),
        ..Call::default()
    };
    assert_eq!(call.run(&mut queue), [""; 0]);
    assert_eq!(
        queue.rows(ERRORS),
        [
            "1 | 3 | out of paper | 1 | printer | 1.5",
            "2 | 3 | out of paper | 1 | printer | 1.5",
            "3 | 3 | Zoë said \"no\" | 1 | NULL | NULL",
        ]
    );
    assert_eq!(queue.rows("SELECT DISTINCT at = now() FROM procrastinate_diesel_job_errors"), ["true"]);
}

#[test]
fn an_error_is_kept_once_for_each_attempt() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    queue.run("INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error) VALUES (1, 3, 'the first')");
    let call = Call { errors: json!([error(1)]), ..Call::default() };
    assert_eq!(call.run(&mut queue), [""; 0]);
    assert_eq!(queue.rows(ERRORS), ["1 | 3 | the first | NULL | NULL | NULL"]);
}

#[test]
fn the_last_hundred_errors_of_a_job_are_kept() {
    let mut queue = queue_with_two_workers(json!([
        { "status": "doing", "worker_id": 1, "attempts": 150 },
        { "status": "doing", "worker_id": 1, "attempts": 99 },
    ]));
    queue.run(
        "INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error)
         SELECT job.id, attempt, 'e' FROM procrastinate_jobs AS job, generate_series(1, job.attempts) AS attempt",
    );
    let failure = |job_id: i64, attempts: i64| json!({ "job_id": job_id, "attempts": attempts, "error": "e" });
    let call = Call { errors: json!([failure(1, 150), failure(2, 99)]), ..Call::default() };
    assert_eq!(queue.rows(&call.query(0)), [""; 0]);
    let kept = "SELECT job_id, min(attempt), max(attempt), count(*)
                FROM procrastinate_diesel_job_errors GROUP BY job_id ORDER BY job_id";
    assert_eq!(queue.rows(kept), ["1 | 52 | 151 | 100", "2 | 1 | 100 | 100"]);
}

#[test]
fn no_error_is_stored_for_a_job_that_the_worker_does_not_hold_or_that_is_deleted() {
    let mut queue = queue_with_two_workers(json!([
        { "status": "doing", "worker_id": 2 },
        { "status": "doing" },
        { "status": "failed", "worker_id": 1 },
    ]));
    let call = Call { errors: json!([error(1), error(2), error(3), error(99)]), ..Call::default() };
    assert_eq!(call.run(&mut queue), [""; 0]);
    assert_eq!(queue.rows(ERRORS), [""; 0]);
}

#[test]
fn an_error_that_is_sent_again_is_not_stored_for_the_next_attempt() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    let mut failure = error(1);
    failure["attempts"] = 2.into();
    let call = Call { retries: json!([{ "job_id": 1, "attempts": 2 }]), errors: json!([failure]), ..Call::default() };
    // The response, which contains the job again, is lost.
    assert_eq!(queue.rows(&call.query(1)), ["fetched | 1"]);
    assert_eq!(call.run(&mut queue), [""; 0]);
    assert_eq!(queue.job(1, STANDING), "doing | 3 | false | 1");
    assert_eq!(queue.rows(ERRORS), ["1 | 3 | out of paper | 1 | printer | 1.5"]);
}

#[test]
fn the_retry_of_an_earlier_attempt_does_nothing_and_that_of_another_workers_job_is_lost() {
    let mut queue = Queue::new();
    for (worker, attempts, answer) in
        [(1, 2, vec![]), (1, 3, vec![]), (1, 1, vec!["lost | 1"]), (2, 2, vec!["lost | 1"]), (2, 3, vec!["lost | 1"])]
    {
        start_over(&mut queue, json!([{ "status": "doing", "worker_id": worker, "attempts": attempts }]));
        let call = Call { retries: json!([{ "job_id": 1, "attempts": 2 }]), ..Call::default() };
        assert_eq!(call.run(&mut queue), answer, "worker {worker}, {attempts} attempts");
        let expected = if (worker, attempts) == (1, 2) {
            "todo | 3 | false | NULL".to_owned()
        } else {
            format!("doing | {attempts} | false | {worker}")
        };
        assert_eq!(queue.job(1, STANDING), expected);
    }
}

// ---- A pruned worker ----

#[test]
fn a_pruned_worker_gets_an_error_before_it_loses_a_job() {
    let endings = [
        Call { finished: "{1,2}", end_statuses: "{succeeded,failed}", ..Call::default() },
        deleting("{1,2}"),
        Call { retries: json!([{ "job_id": 1 }, { "job_id": 2 }]), ..Call::default() },
    ];
    let mut queue = Queue::new();
    for call in endings {
        start_over(&mut queue, json!([mine(), { "status": "doing", "worker_id": 2 }]));
        queue.run("DELETE FROM procrastinate_workers WHERE id = 1");
        let failure = queue.failure_of(&call.query(0));
        assert_eq!(failure.message(), "Worker 1 is not registered");
        assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_worker_id_fkey"));
        let jobs = "SELECT status, worker_id FROM procrastinate_jobs ORDER BY id";
        assert_eq!(queue.rows(jobs), ["doing | NULL", "doing | 2"]);
    }
}

#[test]
fn a_worker_pruned_at_the_same_moment_stores_its_outcome_or_gets_an_error() {
    // Removing the worker comes first.
    let call = Call { finished: "{1}", end_statuses: "{succeeded}", ..Call::default() };
    let mut queue = queue_with_two_workers(json!([mine()]));
    queue.run("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = 1");
    let prune = "SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(30)";
    queue.run("BEGIN");
    assert_eq!(queue.rows(prune), ["1"]);
    let worker = Waiting::start(&mut queue, &call.query(0));
    queue.run("COMMIT");
    assert!(worker.result().unwrap_err().to_string().contains("Worker 1 is not registered"));
    assert_eq!(queue.job(1, STANDING), "doing | 2 | false | NULL");

    // Finishing comes first.
    start_over(&mut queue, json!([mine()]));
    queue.run("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = 1");
    queue.run("BEGIN");
    assert_eq!(call.run(&mut queue), [""; 0]);
    let pruner = Waiting::start(&mut queue, prune);
    queue.run("COMMIT");
    assert_eq!(pruner.rows(), ["1"]);
    assert_eq!(queue.job(1, STANDING), "succeeded | 3 | false | NULL");
}

#[test]
fn a_locked_row_is_not_awaited_for_long() {
    let mut queue = queue_with_two_workers(json!([mine()]));
    queue.run("BEGIN; SELECT FROM procrastinate_jobs FOR UPDATE; SELECT FROM procrastinate_workers FOR UPDATE");
    let waiting = [
        "procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{1}', '{failed}', NULL, 0)",
        "procrastinate_diesel_update_heartbeat_v1(1)",
    ]
    .map(|call| Waiting::start(&mut queue, &format!("SELECT * FROM {call}")));
    for waiting in waiting {
        assert!(waiting.result().unwrap_err().to_string().contains("lock timeout"));
    }
}
