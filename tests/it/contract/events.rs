//! The events that triggers write.

use serde_json::json;

use super::queue::Queue;

const STATUSES: [&str; 7] = ["todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted"];

/// The changes of status that are events; no other is.
fn event_of_change(from: &str, to: &str) -> Option<&'static str> {
    match (from, to) {
        ("todo", "doing") => Some("started"),
        ("todo", "cancelled" | "failed" | "succeeded") => Some("cancelled"),
        ("doing", "todo") => Some("deferred_for_retry"),
        ("doing", "failed") => Some("failed"),
        ("doing", "succeeded") => Some("succeeded"),
        ("doing", "aborted") => Some("aborted"),
        ("failed", "todo") => Some("retried"),
        _ => None,
    }
}

/// The rows of a job's events, but for the first ones up to this id.
fn events_after(queue: &mut Queue, job: i64, newest: &str) -> Vec<String> {
    queue.rows(&format!(
        "SELECT type, at = now() FROM procrastinate_events WHERE job_id = {job} AND id > {newest} ORDER BY type::text"
    ))
}

const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM procrastinate_events";

#[test]
fn inserting_a_pending_job_is_a_deferred_event() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    for status in STATUSES {
        let id = queue.add(json!([{ "status": status }]))[0];
        let expected: &[&str] = if status == "todo" { &["deferred | true"] } else { &[] };
        assert_eq!(events_after(&mut queue, id, "0"), expected, "{status}");
    }
}

#[test]
fn every_job_of_a_batch_has_its_event() {
    let mut queue = Queue::with_jobs(json!([{}, { "scheduled_at": "tomorrow" }, { "status": "failed" }, {}]));
    assert_eq!(queue.events(1), ["deferred"]);
    assert_eq!(queue.events(2), ["deferred", "scheduled"]);
    assert_eq!(queue.events(3), [""; 0]);
    assert_eq!(queue.events(4), ["deferred"]);
}

#[test]
fn every_change_of_status_is_its_event_or_none() {
    let mut queue = Queue::new();
    for from in STATUSES {
        for to in STATUSES {
            let events = queue.and_undo(|queue| {
                let id = queue.add(json!([{ "status": from }]))[0];
                let newest = queue.row(NEWEST);
                queue.run(&format!("UPDATE procrastinate_jobs SET status = '{to}' WHERE id = {id}"));
                events_after(queue, id, &newest)
            });
            let expected: Vec<_> =
                event_of_change(from, to).map(|event| format!("{event} | true")).into_iter().collect();
            assert_eq!(events, expected, "from {from} to {to}");
        }
    }
}

#[test]
fn every_job_that_one_statement_changes_has_its_event() {
    let mut queue = Queue::with_jobs(json!([{}, { "status": "doing" }, { "status": "failed" }, {}]));
    queue.run(
        "UPDATE procrastinate_jobs
         SET status = CASE status WHEN 'todo' THEN 'doing' ELSE 'todo' END::procrastinate_job_status",
    );
    assert_eq!(queue.events(1), ["deferred", "started"]);
    assert_eq!(queue.events(2), ["deferred_for_retry"]);
    assert_eq!(queue.events(3), ["retried"]);
    assert_eq!(queue.events(4), ["deferred", "started"]);
}

#[test]
fn every_update_of_the_schedule_of_a_pending_job_is_an_event_with_the_date() {
    let mut queue = Queue::with_jobs(json!([{ "scheduled_at": "2096-01-02 03:04:05+00" }]));
    let dates = "SELECT at AT TIME ZONE 'UTC' FROM procrastinate_events WHERE type = 'scheduled' ORDER BY id";
    assert_eq!(queue.rows(dates), ["2096-01-02T03:04:05"]);

    queue.run("UPDATE procrastinate_jobs SET priority = 3");
    queue.run("UPDATE procrastinate_jobs SET scheduled_at = '1996-01-02 03:04:05+00'");

    assert_eq!(queue.rows(dates), ["2096-01-02T03:04:05", "2096-01-02T03:04:05", "1996-01-02T03:04:05"]);
    assert_eq!(queue.events(1), ["deferred", "scheduled", "scheduled", "scheduled"]);
}

#[test]
fn a_job_is_scheduled_when_it_gets_a_date_or_becomes_pending_with_one() {
    let mut queue = Queue::new();
    let mut scheduled = |from: serde_json::Value, change: &str| {
        queue.start_over(json!([from]));
        let newest = queue.row(NEWEST);
        queue.run(&format!("UPDATE procrastinate_jobs SET {change}"));
        queue
            .rows(&format!("SELECT type FROM procrastinate_events WHERE id > {newest}"))
            .contains(&"scheduled".to_owned())
    };
    assert!(scheduled(json!({}), "scheduled_at = now()"));
    assert!(scheduled(json!({ "status": "doing" }), "status = 'todo', scheduled_at = now()"));
    assert!(scheduled(json!({ "status": "doing", "scheduled_at": "yesterday" }), "status = 'todo'"));
    assert!(!scheduled(json!({ "status": "doing" }), "status = 'todo'"));
    assert!(!scheduled(json!({ "scheduled_at": "yesterday" }), "scheduled_at = NULL"));
    assert!(!scheduled(json!({ "scheduled_at": "yesterday" }), "status = 'doing'"));
    assert!(!scheduled(json!({ "status": "doing", "scheduled_at": "yesterday" }), "priority = 3"));
}

#[test]
fn only_a_pending_job_is_scheduled() {
    let mut queue = Queue::new();
    for status in STATUSES {
        let id = queue.add(json!([{ "status": status, "scheduled_at": "tomorrow" }]))[0];
        let expected: &[&str] = if status == "todo" { &["deferred", "scheduled"] } else { &[] };
        assert_eq!(queue.events(id), expected, "{status}");
    }
}

#[test]
fn a_request_to_abort_is_an_event_each_time_it_is_made() {
    let mut queue = Queue::new();
    for status in STATUSES.into_iter().filter(|status| *status != "todo") {
        let id = queue.add(json!([{ "status": status }]))[0];
        for change in ["abort_requested = true", "abort_requested = true", "abort_requested = false", "priority = 3"] {
            queue.run(&format!("UPDATE procrastinate_jobs SET {change} WHERE id = {id}"));
        }
        assert_eq!(queue.events(id), ["abort_requested", "abort_requested"], "{status}");
    }
}

#[test]
fn an_update_that_keeps_the_status_is_no_event() {
    let mut queue = Queue::with_jobs(json!([{}, { "status": "doing" }]));
    let changes = "priority = 1, queue_name = 'other', task_name = 'other', lock = 'x', queueing_lock = id::text,
                   args = '{\"a\": 1}', attempts = 7, status = status, abort_requested = abort_requested";
    queue.run(&format!("UPDATE procrastinate_jobs SET {changes}"));
    assert_eq!(queue.events(1), ["deferred"]);
    assert_eq!(queue.events(2), [""; 0]);
}

#[test]
fn a_deleted_job_takes_its_events_along_and_leaves_those_of_others() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    for defer in [1, 2, 3] {
        queue.run(&format!(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id) VALUES ('task', {defer}, 1)"
        ));
    }
    queue.run("INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id) VALUES ('task', 4, 2)");

    queue.run("DELETE FROM procrastinate_jobs WHERE id = 1");

    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_events"), ["2"]);
    let links = "SELECT defer_timestamp, job_id FROM procrastinate_periodic_defers ORDER BY defer_timestamp";
    assert_eq!(queue.rows(links), ["1 | NULL", "2 | NULL", "3 | NULL", "4 | 2"]);
}

#[test]
fn a_trigger_unlinks_a_deleted_job_even_if_the_foreign_key_has_no_action() {
    let mut queue = Queue::with_jobs(json!([{}]));
    queue.run(
        "ALTER TABLE procrastinate_periodic_defers
             DROP CONSTRAINT procrastinate_periodic_defers_job_id_fkey,
             ADD FOREIGN KEY (job_id) REFERENCES procrastinate_jobs",
    );
    queue.run("INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id) VALUES ('task', 1, 1)");
    queue.run("DELETE FROM procrastinate_jobs");
    assert_eq!(queue.rows("SELECT job_id FROM procrastinate_periodic_defers"), ["NULL"]);
}

#[test]
fn an_event_needs_a_job() {
    let mut queue = Queue::new();
    queue.failure_of("INSERT INTO procrastinate_events (job_id, type) VALUES (99, 'deferred')");
}
