//! `procrastinate_defer_jobs_v1`.

use serde_json::json;

use super::queue::Queue;

/// A call that defers jobs, each given as the fields of a `procrastinate_job_to_defer_v1`.
fn defer(jobs: &[&str]) -> String {
    let jobs: Vec<_> = jobs.iter().map(|job| format!("ROW({job})::procrastinate_job_to_defer_v1")).collect();
    let jobs = jobs.join(", ");
    format!("SELECT procrastinate_defer_jobs_v1(ARRAY[{jobs}]::procrastinate_job_to_defer_v1[])::text")
}

#[test]
fn a_deferred_job_has_all_given_values() {
    let mut queue = Queue::new();
    let job = r#"'mails', 'send', -7, 'customer 7', 'mail 8', '{"to": "Zoë", "copies": 2}', '2026-03-29 01:30:00+00'"#;

    assert_eq!(queue.row(&defer(&[job])), "{1}");

    let row = queue.row(
        "SELECT queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at AT TIME ZONE 'UTC', status,
                attempts, abort_requested, worker_id
         FROM procrastinate_jobs",
    );
    assert_eq!(
        row,
        "mails | send | -7 | customer 7 | mail 8 | {\"to\": \"Zoë\", \"copies\": 2} | 2026-03-29T01:30:00 \
         | todo | 0 | false | NULL"
    );
}

#[test]
fn locks_and_schedule_are_optional() {
    let mut queue = Queue::new();
    queue.row(&defer(&["'default', 'task', 0, NULL, NULL, '{}', NULL"]));
    assert_eq!(queue.job(1, "lock, queueing_lock, scheduled_at"), "NULL | NULL | NULL");
}

#[test]
fn ids_come_in_the_order_of_the_array() {
    let mut queue = Queue::new();
    queue.add(json!([{}, {}, {}]));
    // Whatever the jobs could be sorted by goes up and down along the array.
    let jobs: Vec<String> = (0..500)
        .map(|n| {
            let scattered = n * 7 % 10;
            format!("'queue {scattered}', 'task {n}', {scattered}, 'lock {scattered}', NULL, '{{\"n\": {n}}}', NULL")
        })
        .collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();

    queue.run(&format!("CREATE TABLE answer AS {}", defer(&jobs)));

    let out_of_place = queue.rows(
        "SELECT answered.place, job.id, job.task_name
         FROM answer, unnest(procrastinate_defer_jobs_v1::bigint[]) WITH ORDINALITY AS answered (id, place)
             LEFT JOIN procrastinate_jobs AS job ON job.id = answered.id
         WHERE job.task_name IS DISTINCT FROM format('task %s', answered.place - 1)",
    );
    assert_eq!(out_of_place, [""; 0]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "503");
}

#[test]
fn no_jobs_give_an_empty_array() {
    let mut queue = Queue::new();
    assert_eq!(queue.row(&defer(&[])), "{}");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "0");
}

#[test]
fn a_taken_queueing_lock_prevents_all_jobs() {
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "taken (1)" }]));

    let failure = queue.failure_of(&defer(&[
        "'default', 'task', 0, NULL, NULL, '{}', NULL",
        "'default', 'task', 0, NULL, 'free', '{}', NULL",
        "'default', 'task', 0, NULL, 'taken (1)', '{}', NULL",
    ]));

    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_queueing_lock_idx_v1"));
    assert!(failure.details().unwrap().contains("Key (queueing_lock)=(taken (1))"));
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "1");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events"), "1");
}

#[test]
fn a_queueing_lock_twice_in_the_array_prevents_all_jobs() {
    let mut queue = Queue::new();
    let job = "'default', 'task', 0, NULL, 'same', '{}', NULL";

    let failure = queue.failure_of(&defer(&[job, job]));

    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_queueing_lock_idx_v1"));
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "0");
}
