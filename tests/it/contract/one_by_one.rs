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

/// Refuses to delete jobs, to store errors and to write events, each for the jobs of some tasks.
const REFUSE_PARTS: &str = "
    CREATE TABLE invoices (job_id bigint REFERENCES procrastinate_jobs);
    INSERT INTO invoices SELECT id FROM procrastinate_jobs WHERE task_name LIKE '%deletion%';
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM procrastinate_jobs WHERE id = NEW.job_id AND task_name LIKE TG_ARGV[0]) THEN
            RAISE 'no %', TG_ARGV[0];
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_diesel_job_errors FOR EACH ROW
        EXECUTE FUNCTION refuse('%error%');
    CREATE TRIGGER refuse AFTER INSERT ON procrastinate_events FOR EACH ROW
        WHEN (NEW.type <> 'started') EXECUTE FUNCTION refuse('%event%')";

#[test]
fn an_outcome_is_stored_without_the_parts_that_are_refused() {
    let mut queue = Queue::new();
    queue.register_worker();
    queue.add(json!([
        mine("all"),
        mine("deletion"),
        mine("deletion, error"),
        mine("error"),
        mine("event"),
        mine("error"),
        mine("deletion, event"),
        mine("event")
    ]));
    queue.run("UPDATE procrastinate_jobs SET abort_requested = true WHERE id = 7");
    queue.run("DELETE FROM procrastinate_events");
    queue.run(REFUSE_PARTS);
    let errors: Vec<_> = (1..=8).map(|id| json!({ "job_id": id, "attempts": 2, "error": "e" })).collect();
    let retries = json!([{ "job_id": 6, "attempts": 2 }, { "job_id": 7, "attempts": 2, "is_deleted_if_failed": true },
        { "job_id": 8, "attempts": 2 }]);
    let answer = queue.rows(&call(&format!(
        "'{{1,2,3,4,5}}', '{{failed,failed,aborted,failed,succeeded}}', NULL, 0, '{retries}', '{{1,2,3}}', '{}', true,
         finished_attempts => '{{2,2,2,2,2}}', deleted_attempts => '{{2,2,2}}'",
        json!(errors)
    )));
    let refused = "update or delete on table \"procrastinate_jobs\" violates foreign key constraint \"invoices_job_id_fkey\" \
        on table \"invoices\" (SQLSTATE 23503)";
    let kept = "it is needed";
    let answer: Vec<_> = answer.iter().map(|row| row.replace(refused, kept)).collect();
    assert_eq!(
        answer,
        [
            "failed | 7 | NULL".to_owned(),
            format!("not_deleted | 2 | {kept}"),
            format!("without_error | 3 | {kept}; no %error% (SQLSTATE P0001)"),
            "without_error | 4 | no %error% (SQLSTATE P0001)".to_owned(),
            "without_error | 6 | no %error% (SQLSTATE P0001)".to_owned(),
            "without_event | 5 | no %event% (SQLSTATE P0001)".to_owned(),
            "without_event | 7 | no %event% (SQLSTATE P0001)".to_owned(),
            "without_event | 8 | no %event% (SQLSTATE P0001)".to_owned(),
        ]
    );
    assert_eq!(
        queue.rows("SELECT id, status, attempts, worker_id FROM procrastinate_jobs ORDER BY id"),
        [
            "2 | failed | 3 | NULL",
            "3 | aborted | 3 | NULL",
            "4 | failed | 3 | NULL",
            "5 | succeeded | 3 | NULL",
            "6 | todo | 3 | NULL",
            "7 | failed | 2 | NULL",
            "8 | todo | 3 | NULL"
        ]
    );
    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_diesel_job_errors"), ["2"]);
    for (id, events) in [(2, vec!["failed"]), (3, vec!["aborted"]), (5, vec![]), (7, vec![]), (8, vec![])] {
        assert_eq!(queue.events(id), events, "{id}");
    }
}

#[test]
fn a_trigger_that_keeps_a_row_as_it_is_refuses_the_outcome() {
    let mut queue = Queue::new();
    queue.register_worker();
    queue.add(json!([mine("finished"), mine("retried"), mine("deleted"), mine("other")]));
    queue.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER keep_changed BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
             WHEN (NEW.task_name IN ('finished', 'retried')) EXECUTE FUNCTION keep();
         CREATE TRIGGER keep_deleted BEFORE DELETE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    let rest = |one_by_one| {
        format!(
            "'{{1,3,4}}', '{{failed,failed,failed}}', NULL, 0, '[{{\"job_id\": 2, \"attempts\": 2}}]', '{{3}}',
             NULL, {one_by_one}, finished_attempts => '{{2,2,2}}', deleted_attempts => '{{2}}'"
        )
    };
    let kept = |id| format!("Job {id} could not be changed, because a trigger keeps its row as it is");
    assert_eq!(queue.failure_of(&call(&rest(false))).message(), kept(1));
    assert_eq!(
        queue.rows(&call(&rest(true))),
        [
            format!("not_deleted | 3 | {} (SQLSTATE 09000)", kept(3)),
            format!("refused | 1 | {} (SQLSTATE 09000)", kept(1)),
            format!("refused | 2 | {} (SQLSTATE 09000)", kept(2)),
        ]
    );
    assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), ["doing", "doing", "failed", "failed"]);
}

#[test]
fn a_job_with_the_largest_number_of_attempts_can_finish_be_retried_and_be_rescued() {
    let mut queue = Queue::new();
    queue.register_worker();
    let job = json!({ "status": "doing", "worker_id": 1, "attempts": i32::MAX });
    queue.add(json!([job, job, { "status": "doing", "attempts": i32::MAX }]));
    let retries = json!([{ "job_id": 2, "attempts": i32::MAX }]);
    let errors = json!([{ "job_id": 1, "attempts": i32::MAX, "error": "e" }]);
    let finish = call(&format!(
        "'{{1}}', '{{failed}}', NULL, 0, '{retries}', NULL, '{errors}', finished_attempts => '{{{}}}'",
        i32::MAX
    ));
    // The second time as after a lost response.
    for _ in 0..2 {
        assert_eq!(queue.rows(&finish), [""; 0]);
    }
    let rescue = json!([{ "job_id": 3, "attempts": i32::MAX, "is_retried": false, "error": "it died" }]);
    assert_eq!(
        queue.rows(&format!("SELECT new_status, problem FROM procrastinate_diesel_rescue_jobs_v1('{rescue}')")),
        ["failed | NULL"]
    );
    assert_eq!(
        queue.rows("SELECT status, attempts FROM procrastinate_jobs ORDER BY id"),
        ["failed | 2147483647", "todo | 2147483647", "failed | 2147483647"]
    );
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
