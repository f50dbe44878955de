//! `procrastinate_diesel_defer_each_job_v1`, which inserts the jobs of several callers.

use serde_json::json;

use super::queue::{Queue, arrays_of_jobs};

/// A call that defers these jobs.
fn defer(queueing_locks: &[&str]) -> String {
    format!("SELECT job_id FROM procrastinate_diesel_defer_each_job_v1({})", arrays_of_jobs(queueing_locks))
}

#[test]
fn every_job_has_all_given_values() {
    let mut queue = Queue::new();
    let ids = queue.rows(
        "SELECT job_id
         FROM procrastinate_diesel_defer_each_job_v1(
             queue_names => '{mails,default}',
             task_names => '{send,\"say, \\\"Zoë\\\"\"}',
             priorities => '{-7,3}',
             locks => '{customer 7,NULL}',
             queueing_locks => '{NULL,once}',
             arguments => ARRAY['{\"to\": \"Zoë\"}', '{}']::jsonb[],
             scheduled_ats => '{2026-03-29 01:30:00+00,NULL}')",
    );
    assert_eq!(ids, ["1", "2"]);

    let columns = "queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at AT TIME ZONE 'UTC'";
    assert_eq!(
        queue.job(1, columns),
        "mails | send | -7 | customer 7 | NULL | {\"to\": \"Zoë\"} | 2026-03-29T01:30:00"
    );
    assert_eq!(queue.job(2, columns), "default | say, \"Zoë\" | 3 | NULL | once | {} | NULL");
    assert_eq!(queue.events(1), ["deferred", "scheduled"]);
    assert_eq!(queue.events(2), ["deferred"]);
}

#[test]
fn each_job_whose_queueing_lock_is_taken_is_null_and_the_others_are_deferred() {
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "pending" }]));
    let ids = queue.rows(&defer(&["'z'", "NULL", "'pending'", "'a'", "'z'", "NULL"]));
    assert_eq!(ids, ["2", "3", "NULL", "5", "NULL", "7"]);
    assert_eq!(queue.rows("SELECT id FROM procrastinate_jobs ORDER BY id"), ["1", "2", "3", "5", "7"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events"), "5");
    assert_eq!(queue.rows(&defer(&["'pending'", "'a'"])), ["NULL", "NULL"]);
    assert_eq!(queue.rows(&defer(&[])), [""; 0]);
}

#[test]
fn it_does_not_wait_long_for_an_open_transaction_and_does_not_change_the_setting() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    queue.add(json!([{ "queueing_lock": "open" }]));
    let mut other = queue.another_connection();
    let failure = crate::support::try_rows(&mut other, &defer(&["NULL", "'open'"])).unwrap_err();
    assert_eq!(failure.to_string(), "canceling statement due to lock timeout");
    queue.run("ROLLBACK");
    assert_eq!(crate::support::rows(&mut other, &defer(&["NULL", "'open'"])).len(), 2);
    assert_eq!(crate::support::rows(&mut other, "SELECT current_setting('lock_timeout')"), ["0"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "2");
}
