//! `procrastinate_diesel_finish_and_fetch_jobs_v1` with `one_by_one`: outcomes that the database refuses.

use diesel::result::Error::DatabaseError;
use serde_json::{Value, json};

use super::queue::{Queue, Waiting};
use crate::support::try_rows;

/// Refuses outcomes of the task `refused`, and starts of the task `kept`, in the way that `raise` says.
const REFUSE: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.task_name = 'refused' AND NEW.status <> 'doing' OR NEW.task_name = 'kept' AND NEW.status = 'doing' THEN
            RAISE $raise;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuse()";

fn queue_that_refuses(jobs: Value, raise: &str) -> Queue {
    let mut queue = Queue::new();
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    queue.add(jobs);
    queue.run(&REFUSE.replace("$raise", raise));
    queue
}

fn mine(task_name: &str) -> Value {
    json!({ "status": "doing", "worker_id": 1, "attempts": 2, "task_name": task_name })
}

fn call(rest: &str) -> String {
    format!("SELECT kind, id, problem FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, {rest}) ORDER BY kind, id")
}

#[test]
fn an_outcome_that_is_refused_is_named_and_the_others_are_stored() {
    let mut queue = queue_that_refuses(
        json!([mine("refused"), mine("stored"), mine("refused"), mine("stored"), mine("stored"), { "task_name": "next" },
            { "status": "doing", "worker_id": 2 }]),
        "'not that one'",
    );
    let retries = json!([{ "job_id": 3 }, { "job_id": 4, "retry_at": "tomorrow" }]);
    let errors = json!([{ "job_id": 1, "error": "e" }, { "job_id": 4, "error": "e" }]);
    let rest = |one_by_one| {
        format!("'{{1,2,7}}', '{{failed,succeeded,failed}}', NULL, 5, '{retries}', '{{5}}', '{errors}', {one_by_one}")
    };
    assert_eq!(queue.failure_of(&call(&rest(false))).message(), "not that one");
    assert_eq!(
        queue.rows(&call(&rest(true))),
        [
            "fetched | 6 | NULL",
            "lost | 7 | NULL",
            "refused | 1 | not that one (SQLSTATE P0001)",
            "refused | 3 | not that one (SQLSTATE P0001)",
        ]
    );
    let statuses = queue.rows("SELECT id, status FROM procrastinate_jobs ORDER BY id");
    assert_eq!(statuses, ["1 | doing", "2 | succeeded", "3 | doing", "4 | todo", "6 | doing", "7 | doing"]);
    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_diesel_job_errors"), ["4"]);
    for (job, events) in [(1, vec![]), (2, vec!["succeeded"]), (4, vec!["deferred_for_retry", "scheduled"])] {
        assert_eq!(queue.events(job), events, "{job}");
    }
    assert_eq!(queue.events(6), ["deferred", "started"]);
}

#[test]
fn a_start_that_is_refused_is_named_and_outcomes_are_stored() {
    let mut queue = queue_that_refuses(json!([mine("stored"), { "task_name": "kept" }]), "'not that one'");
    let answer = queue.rows(&call("'{1}', '{succeeded}', NULL, 5, one_by_one => true"));
    assert_eq!(answer, ["refused | NULL | not that one (SQLSTATE P0001)"]);
    assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["succeeded", "todo"]);
    assert_eq!(queue.events(2), ["deferred"]);
}

#[test]
fn nothing_refused_is_as_in_one_go() {
    let mut queue = queue_that_refuses(json!([mine("stored"), mine("stored"), {}]), "'not that one'");
    let retries = json!([{ "job_id": 2, "retry_at": "tomorrow" }]);
    let answer = queue.rows(&call(&format!("'{{1}}', '{{aborted}}', NULL, 1, '{retries}', one_by_one => true")));
    assert_eq!(answer, ["fetched | 3 | NULL"]);
    assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["aborted", "todo", "doing"]);
    assert_eq!(queue.rows(&call("'{}', '{}', NULL, 1, one_by_one => true")), [""; 0]);
}

#[test]
fn an_error_that_is_not_about_the_job_ends_the_statement() {
    for code in [
        "deadlock_detected",
        "serialization_failure",
        "lock_not_available",
        "query_canceled",
        "admin_shutdown",
        "connection_failure",
        "read_only_sql_transaction",
        "out_of_memory",
        "disk_full",
    ] {
        let mut queue = queue_that_refuses(json!([mine("refused"), mine("stored"), { "task_name": "kept" }]), code);
        for rest in ["'{1,2}', '{failed,failed}', NULL, 0", "'{}', '{}', NULL, 1"] {
            let error = try_rows(&mut queue.connection, &call(&format!("{rest}, one_by_one => true"))).unwrap_err();
            assert!(matches!(error, DatabaseError(..)), "{code}: {error:?}");
        }
        assert_eq!(
            queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"),
            ["doing", "doing", "todo"],
            "{code}"
        );
    }
}

#[test]
fn an_unregistered_worker_gets_an_error() {
    let mut queue = Queue::with_jobs(json!([{}]));
    let failure = queue.failure_of(&call("'{}', '{}', NULL, 1, one_by_one => true"));
    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_worker_id_fkey"));
    let failure = queue.failure_of(&call("'{1}', '{failed}', NULL, 0, one_by_one => true"));
    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_worker_id_fkey"));
}

#[test]
fn a_row_that_stays_locked_ends_the_statement() {
    let mut queue = queue_that_refuses(json!([mine("stored")]), "'not that one'");
    let mut holder = queue.another_connection();
    crate::support::sql(&mut holder, "BEGIN; SELECT FROM procrastinate_jobs WHERE id = 1 FOR UPDATE");
    let waiting = Waiting::start(&mut queue, &call("'{1}', '{succeeded}', NULL, 0, one_by_one => true"));
    assert!(waiting.result().is_err());
    crate::support::sql(&mut holder, "COMMIT");
    assert_eq!(queue.job(1, "status"), "doing");
}

// ---- The time ----

#[test]
fn the_given_time_decides_which_jobs_are_due() {
    let mut queue = queue_that_refuses(
        json!([{ "scheduled_at": "2096-05-06" }, { "scheduled_at": "2096-05-07", "lock": "l" }, { "lock": "l", "priority": -1 }]),
        "'not that one'",
    );
    let due_at = |time: &str| call(&format!("'{{}}', '{{}}', NULL, 5, due_at => '{time}'"));
    assert_eq!(queue.rows(&due_at("2096-05-05")), [""; 0]);
    assert_eq!(queue.rows(&due_at("2096-05-06")), ["fetched | 1 | NULL"]);
    assert_eq!(queue.rows(&due_at("2096-05-08")), ["fetched | 2 | NULL"]);
}
