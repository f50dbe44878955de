//! `procrastinate_diesel_change_jobs_v1`: one change of many jobs.

use std::sync::{Arc, Barrier};
use std::thread;

use diesel::result::{DatabaseErrorKind, Error};
use serde_json::{Value, json};

use super::queue::{Queue, Waiting};
use crate::support::{rows, sql, try_rows};

/// The changes, each with its value, and the statement that does the same to one job.
const CHANGES: [(&str, &str, &str); 8] = [
    ("retry", "", "SELECT new_status FROM procrastinate_diesel_retry_job_v1($id, NULL, NULL, NULL, NULL)"),
    ("cancel", "", "SELECT procrastinate_cancel_job_v1($id, false, false)"),
    ("abort", "", "SELECT procrastinate_cancel_job_v1($id, true, false)"),
    ("run_now", "", "UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE id = $id"),
    (
        "reschedule",
        ", new_scheduled_at => '2099-01-01'",
        "UPDATE procrastinate_jobs SET scheduled_at = '2099-01-01' WHERE id = $id",
    ),
    ("priority", ", new_priority => 7", "UPDATE procrastinate_jobs SET priority = 7 WHERE id = $id"),
    ("queue", ", new_queue_name => 'other'", "UPDATE procrastinate_jobs SET queue_name = 'other' WHERE id = $id"),
    ("delete", "", "DELETE FROM procrastinate_jobs WHERE id = $id"),
];

fn change(ids: &str, change: &str, value: &str) -> String {
    format!(
        "SELECT job_id, effect, problem FROM procrastinate_diesel_change_jobs_v1('{{{ids}}}', '{change}'{value}) \
         ORDER BY job_id"
    )
}

/// The states of a job, and the changes that each allows.
fn states() -> [(Value, &'static [&'static str]); 10] {
    let pending: &[&str] = &["cancel", "abort", "reschedule", "priority", "queue", "delete"];
    let scheduled: &[&str] = &["cancel", "abort", "run_now", "reschedule", "priority", "queue", "delete"];
    [
        (json!({}), pending),
        (json!({ "scheduled_at": "2098-01-01", "attempts": 2 }), scheduled),
        (json!({ "status": "doing", "worker_id": 1 }), &["abort"]),
        (json!({ "status": "doing", "attempts": 1 }), &["retry", "abort"]),
        (json!({ "status": "doing", "worker_id": 2 }), &["retry", "abort"]),
        (json!({ "status": "doing", "abort_requested": true }), &["retry"]),
        (json!({ "status": "failed", "attempts": 3, "abort_requested": true }), &["retry", "delete"]),
        (json!({ "status": "succeeded" }), &["delete"]),
        (json!({ "status": "aborting" }), &[]),
        (json!({ "status": "aborted" }), &["delete"]),
    ]
}

#[test]
fn each_change_does_what_the_change_of_one_job_does_or_nothing() {
    let mut queue = Queue::new();
    assert_eq!((queue.register_worker(), queue.register_worker()), (1, 2));
    queue.run("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds' WHERE id = 2");
    queue.run("CREATE FUNCTION run(statement text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE statement; END$$");
    for (name, value, of_one) in CHANGES {
        let statement = change("$id", name, value);
        for (state, allowed) in states() {
            let effect = queue.effect(&state, &statement);
            let (row, after) = effect.split_once(" -> ").unwrap_or_else(|| panic!("{name} of {state}: {effect}"));
            if allowed.contains(&name) {
                assert_eq!(row, "$id | changed | NULL", "{name} of {state}");
                let expected = queue.effect(&state, &format!("SELECT run($run${of_one}$run$)"));
                assert_eq!(after, expected.split_once(" -> ").unwrap().1, "{name} of {state}");
            } else {
                assert_eq!(row, "$id | skipped | NULL", "{name} of {state}");
                let unchanged = queue.effect(&state, "SELECT 1");
                assert_eq!(after, unchanged.split_once(" -> ").unwrap().1, "{name} of {state}");
            }
        }
    }
}

#[test]
fn the_values_are_set_and_those_of_another_change_are_ignored() {
    let all = ", new_scheduled_at => '2099-01-01Z', new_priority => 7, new_queue_name => 'other'";
    let columns = "status, scheduled_at = timestamptz '2099-01-01Z', priority, queue_name";
    let mut queue = Queue::new();
    queue.run("SET TIME ZONE 'Asia/Tokyo'");
    for (name, start, expected) in [
        ("retry", json!({ "status": "failed" }), "todo | true | 7 | other"),
        ("cancel", json!({}), "cancelled | NULL | 0 | default"),
        ("run_now", json!({ "scheduled_at": "tomorrow" }), "todo | NULL | 0 | default"),
        ("reschedule", json!({}), "todo | true | 0 | default"),
        ("priority", json!({}), "todo | NULL | 7 | default"),
        ("queue", json!({}), "todo | NULL | 0 | other"),
    ] {
        queue.start_over(json!([start]));
        queue.rows(&change("1", name, all));
        assert_eq!(queue.job(1, columns), expected, "{name}");
    }
}

#[test]
fn jobs_that_are_gone_or_have_another_status_than_expected_are_skipped() {
    let mut queue = Queue::with_jobs(json!([{}, { "status": "failed" }, {}]));
    assert_eq!(
        queue.rows(&change("3,99,2,1,3,NULL", "delete", ", only_status => 'failed'")),
        ["1 | skipped | NULL", "2 | changed | NULL", "3 | skipped | NULL", "99 | skipped | NULL"]
    );
    assert_eq!(queue.rows("SELECT id FROM procrastinate_jobs ORDER BY id"), ["1", "3"]);
    assert_eq!(queue.rows(&change("", "delete", "")), [""; 0]);
}

#[test]
fn a_job_that_the_database_refuses_to_change_does_not_hold_back_the_others() {
    let failed = |queueing_lock: Value| json!({ "status": "failed", "queueing_lock": queueing_lock });
    let mut queue = Queue::with_jobs(json!([
        failed(json!("a")), failed(json!(null)), failed(json!("b")), failed(json!("b")), { "queueing_lock": "a" },
        failed(json!("c")), failed(json!("d")), failed(json!(null)),
    ]));
    queue.run(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.id = 6 THEN RAISE 'not this one' USING ERRCODE = 'P0007'; END IF;
             IF NEW.id = 7 THEN RETURN NULL; END IF;
             RETURN NEW;
         END;
         $$;
         CREATE TRIGGER guard BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION guard()",
    );
    assert_eq!(
        queue.rows(&change("1,2,3,4,5,6,7,8", "retry", "")),
        [
            "1 | refused | another pending job has its queueing lock",
            "2 | changed | NULL",
            "3 | changed | NULL",
            "4 | refused | another pending job has its queueing lock",
            "5 | skipped | NULL",
            "6 | refused | not this one (SQLSTATE P0007)",
            "7 | refused | a trigger of the database has prevented it",
            "8 | changed | NULL",
        ]
    );
    let events = "SELECT job_id FROM procrastinate_events WHERE type = 'retried' ORDER BY job_id";
    assert_eq!(queue.rows(events), ["2", "3", "8"]);
}

#[test]
fn an_error_that_is_not_about_a_job_fails_the_whole_call() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    queue.run(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN RAISE 'stop' USING ERRCODE = 'deadlock_detected'; END$$;
         CREATE TRIGGER guard BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 2)
             EXECUTE FUNCTION guard()",
    );
    assert_eq!(queue.failure_of(&change("1,2", "cancel", "")).message(), "stop");
    assert_eq!(queue.rows("SELECT DISTINCT status FROM procrastinate_jobs"), ["todo"]);
}

#[test]
fn an_unknown_change_or_one_without_its_value_is_an_error() {
    let mut queue = Queue::with_jobs(json!([{}]));
    for (name, value) in [("fail", ""), ("reschedule", ""), ("priority", ", new_queue_name => 'a'"), ("queue", "")] {
        let message = queue.failure_of(&change("1", name, value)).message().to_owned();
        assert!(message.contains(&format!("'{name}'")), "{message}");
    }
    queue.failure_of("SELECT * FROM procrastinate_diesel_change_jobs_v1('{1}', NULL)");
}

#[test]
fn workers_are_notified_once_for_each_queue_with_jobs_that_can_start() {
    let mut queue = Queue::with_jobs(json!([
        { "status": "failed", "queue_name": "a" }, { "status": "failed", "queue_name": "a" },
        { "status": "failed", "queue_name": "b" }, { "scheduled_at": "tomorrow" }, { "scheduled_at": "tomorrow" },
        { "queue_name": "a" }, { "status": "doing" }, { "status": "doing" },
    ]));
    queue.listen(&["procrastinate_any_queue_v1"]);
    let mut heard = |ids: &str, name: &str, value: &str| {
        queue.rows(&change(ids, name, value));
        let messages = queue.notifications().into_iter();
        messages.map(|(_, payload)| serde_json::from_str(&payload).unwrap()).collect::<Vec<Value>>()
    };
    let inserted = |id: i64| json!({ "type": "job_inserted", "job_id": id });
    let to_abort = |id: i64| json!({ "type": "abort_job_requested", "job_id": id });
    assert_eq!(heard("1,2,3", "retry", ""), [inserted(1), inserted(3)]);
    assert_eq!(heard("4", "reschedule", ", new_scheduled_at => '2099-01-01'"), [Value::Null; 0]);
    assert_eq!(heard("4", "reschedule", ", new_scheduled_at => '2009-01-01'"), [inserted(4)]);
    assert_eq!(heard("5", "queue", ", new_queue_name => 'c'"), [Value::Null; 0]);
    assert_eq!(heard("5", "run_now", ""), [inserted(5)]);
    assert_eq!(heard("6", "queue", ", new_queue_name => 'c'"), [inserted(6)]);
    assert_eq!(heard("6", "priority", ", new_priority => 1"), [Value::Null; 0]);
    assert_eq!(heard("1,4,5", "cancel", ""), [Value::Null; 0]);
    assert_eq!(heard("6,7,8", "abort", ""), [to_abort(7), to_abort(8)]);
    // It was requested before.
    assert_eq!(heard("7,8", "abort", ""), [Value::Null; 0]);
}

#[test]
fn limits_for_each_key_hold_for_the_changed_jobs() {
    let mut queue = Queue::with_jobs(json!([
        { "queue_name": "a", "args": { "tenant": "x" } },
        { "queue_name": "a", "args": { "tenant": "x" } },
        { "queue_name": "a", "args": { "tenant": "y" }, "scheduled_at": "2099-01-01" },
        { "queue_name": "a", "args": { "tenant": "z" }, "status": "failed" },
        { "queue_name": "b", "args": { "tenant": "x" } },
        { "queue_name": "a", "args": { "tenant": "x" } },
    ]));
    queue.row("SELECT procrastinate_diesel_limit_keys_v1('queue', 'a', '{tenant}', 1, NULL, NULL)");
    assert_eq!(queue.fetch("'{a}'"), Some(1));
    assert_eq!(queue.fetch("'{a}'"), None);
    queue.rows(&change("3", "run_now", ""));
    assert_eq!(queue.fetch("'{a}'"), Some(3));
    queue.rows(&change("4", "retry", ""));
    assert_eq!(queue.fetch("'{a}'"), Some(4));
    // It has left its key, and another one has come.
    queue.rows(&change("2", "queue", ", new_queue_name => 'b'"));
    queue.rows(&change("5", "queue", ", new_queue_name => 'a'"));
    assert_eq!(queue.fetch("'{a}'"), None);
    assert_eq!(queue.fetch("'{b}'"), Some(2));
    let keyed = "SELECT job_id, state FROM procrastinate_diesel_keyed_jobs WHERE job_id IN (2, 5, 6) ORDER BY job_id";
    assert_eq!(queue.rows(keyed), ["5 | pending", "6 | pending"]);
    queue.rows(&change("6", "priority", ", new_priority => 1"));
    queue.row("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    assert_eq!(queue.fetch("'{a}'"), Some(6));
    queue.row("SELECT procrastinate_finish_job_v1(6, 'succeeded', false)");
    queue.rows(&change("5", "delete", ""));
    assert_eq!(queue.fetch("NULL"), None);
}

#[test]
fn of_two_callers_the_second_one_waits_and_skips_what_the_first_has_changed() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
    let mut first = queue.another_connection();
    sql(&mut first, "BEGIN");
    rows(&mut first, &change("3,1", "cancel", ""));
    let second = Waiting::start(&mut queue, &change("1,2,3", "abort", ""));
    sql(&mut first, "COMMIT");
    assert_eq!(second.rows(), ["1 | skipped | NULL", "2 | changed | NULL", "3 | skipped | NULL"]);
    // The other way round: nothing was changed.
    sql(&mut first, "BEGIN; UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 1");
    let second = Waiting::start(&mut queue, &change("1,2", "delete", ""));
    sql(&mut first, "ROLLBACK");
    assert_eq!(second.rows(), ["1 | changed | NULL", "2 | changed | NULL"]);
}

#[test]
fn a_job_that_a_worker_starts_meanwhile_is_skipped() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    let mut worker = queue.another_connection();
    sql(&mut worker, "BEGIN; SELECT procrastinate_fetch_job_v2(NULL, NULL)");
    let bulk = Waiting::start(&mut queue, &change("1,2", "delete", ""));
    sql(&mut worker, "COMMIT");
    assert_eq!(bulk.rows(), ["1 | skipped | NULL", "2 | changed | NULL"]);
}

#[test]
fn callers_with_shuffled_jobs_never_deadlock_and_change_each_job_once() {
    let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); 200]));
    let barrier = Arc::new(Barrier::new(4));
    let callers: Vec<_> = (0..4)
        .map(|seed| {
            let (mut connection, barrier) = (queue.another_connection(), barrier.clone());
            thread::spawn(move || {
                let mut ids: Vec<i64> = (1..=200).collect();
                fastrand::Rng::with_seed(seed).shuffle(&mut ids);
                let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                barrier.wait();
                let effects = rows(&mut connection, &change(&ids, "cancel", ""));
                effects.iter().filter(|row| row.contains("changed")).count()
            })
        })
        .collect();
    let changed: usize = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    assert_eq!(changed, 200);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events WHERE type = 'cancelled'"), "200");
}

#[test]
fn a_transaction_with_an_old_snapshot_fails_rather_than_change_what_it_has_not_seen() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    let mut old = queue.another_connection();
    sql(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM procrastinate_jobs");
    queue.run("UPDATE procrastinate_jobs SET priority = 1 WHERE id = 2");
    let error = try_rows(&mut old, &change("1,2", "cancel", "")).unwrap_err();
    assert!(matches!(error, Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _)), "{error}");
    sql(&mut old, "ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE");
    assert_eq!(rows(&mut old, &change("1,2", "cancel", "")), ["1 | changed | NULL", "2 | changed | NULL"]);
    sql(&mut old, "COMMIT");
}
