//! `procrastinate_defer_periodic_job_v2`.

use serde_json::json;

use super::queue::{Queue, Waiting};
use crate::support::{rows, sql, try_rows};

const DEFERS: &str = "SELECT task_name, periodic_id, defer_timestamp, job_id FROM procrastinate_periodic_defers
                      ORDER BY task_name, periodic_id, defer_timestamp";

/// A call that defers a tick.
fn tick(task: &str, periodic_id: &str, timestamp: i64) -> String {
    format!(
        "SELECT procrastinate_defer_periodic_job_v2(
             'mails', 'a lock', NULL, '{task}', 3, '{periodic_id}', {timestamp}, '{{\"timestamp\": {timestamp}}}')"
    )
}

/// A call that defers a tick of one task, with a queueing lock.
fn tick_with_queueing_lock(queueing_lock: &str, timestamp: i64) -> String {
    format!(
        "SELECT procrastinate_defer_periodic_job_v2(
             'mails', NULL, '{queueing_lock}', 'clean', 0, '', {timestamp}, '{{}}')"
    )
}

#[test]
fn a_tick_becomes_a_job_and_is_linked_to_it() {
    let mut queue = Queue::with_jobs(json!([{}]));

    assert_eq!(queue.row(&tick("clean", "daily", 86400)), "2");

    let columns = "queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at";
    assert_eq!(queue.job(2, columns), "mails | clean | 3 | a lock | NULL | {\"timestamp\": 86400} | NULL");
    assert_eq!(queue.job(2, super::queue::STANDING), "todo | 0 | false | NULL");
    assert_eq!(queue.rows(DEFERS), ["clean | daily | 86400 | 2"]);
    assert_eq!(queue.events(2), ["deferred"]);
}

#[test]
fn the_queueing_lock_of_a_tick_is_kept() {
    let mut queue = Queue::new();
    queue.row(&tick_with_queueing_lock("once", 60));
    assert_eq!(queue.job(1, "lock, queueing_lock"), "NULL | once");
}

#[test]
fn a_tick_is_skipped_during_a_pause_that_says_so() {
    let mut queue = Queue::new();
    queue.row(&tick("clean", "daily", 60));
    for (kind, name, timestamp) in [("queue", "mails", 120), ("task", "clean", 180)] {
        queue.run(&format!("SELECT procrastinate_diesel_pause_v1('{kind}', '{name}', p_skips_ticks => true)"));
        assert_eq!(queue.row(&tick("clean", "daily", timestamp)), "NULL");
        let ours = format!(
            "SELECT job_id FROM procrastinate_diesel_defer_periodic_job_v1(
                 'mails', NULL, NULL, 'clean', 0, 'daily', {}, '{{}}')",
            timestamp + 30
        );
        assert_eq!(queue.row(&ours), "NULL");
        assert_eq!(queue.rows(DEFERS), [format!("clean | daily | {} | NULL", timestamp + 30)]);
        queue.run(&format!("SELECT procrastinate_diesel_resume_v1('{kind}', '{name}')"));
    }
    // The skipped ticks stay skipped, and an ordinary pause skips none.
    queue.run("SELECT procrastinate_diesel_pause_v1('queue', 'mails')");
    assert_eq!(queue.row(&tick("clean", "daily", 210)), "NULL");
    assert_eq!(queue.row(&tick("clean", "daily", 240)), "2");
}

#[test]
fn a_tick_that_was_deferred_before_changes_nothing() {
    let mut queue = Queue::new();
    queue.row(&tick("clean", "daily", 60));
    queue.row(&tick("clean", "daily", 120));
    // Also when its job is long gone.
    queue.run("DELETE FROM procrastinate_jobs");

    assert_eq!(queue.row(&tick("clean", "daily", 120)), "NULL");

    assert_eq!(queue.rows(DEFERS), ["clean | daily | 120 | NULL"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "0");
}

#[test]
fn another_task_another_periodic_id_and_another_time_are_other_ticks() {
    let mut queue = Queue::new();
    let ticks = [("clean", "daily", 60), ("clean", "weekly", 60), ("count", "daily", 60), ("clean", "daily", 120)];
    for ((task, periodic_id, timestamp), id) in ticks.into_iter().zip(1..) {
        assert_eq!(queue.row(&tick(task, periodic_id, timestamp)), id.to_string());
    }
}

#[test]
fn only_older_ticks_of_the_same_task_and_periodic_id_are_forgotten() {
    let mut queue = Queue::new();
    for (task, periodic_id, timestamp) in [
        ("clean", "daily", 60),
        ("clean", "weekly", 60),
        ("count", "daily", 60),
        ("clean", "daily", 180),
        ("clean", "daily", 120),
    ] {
        queue.row(&tick(task, periodic_id, timestamp));
    }
    assert_eq!(
        queue.rows(DEFERS),
        ["clean | daily | 120 | 5", "clean | daily | 180 | 4", "clean | weekly | 60 | 2", "count | daily | 60 | 3"]
    );
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "5");
}

#[test]
fn a_tick_whose_queueing_lock_is_taken_changes_nothing() {
    let mut queue = Queue::new();
    queue.row(&tick_with_queueing_lock("once", 60));

    let failure = queue.failure_of(&tick_with_queueing_lock("once", 120));

    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_queueing_lock_idx_v1"));
    assert!(failure.details().unwrap().contains("Key (queueing_lock)=(once)"));
    assert_eq!(queue.rows(DEFERS), ["clean |  | 60 | 1"]);
    // So the tick can still be deferred when the lock is free.
    queue.fetch("NULL");
    assert_ne!(queue.row(&tick_with_queueing_lock("once", 120)), "NULL");
}

#[test]
fn only_one_of_two_concurrent_calls_defers_a_tick() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    assert_eq!(queue.row(&tick("clean", "daily", 60)), "1");
    let other = Waiting::start(&mut queue, &tick("clean", "daily", 60));
    queue.run("COMMIT");
    assert_eq!(other.rows(), ["NULL"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "1");
}

#[test]
fn the_second_call_defers_the_tick_if_the_first_is_rolled_back() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    queue.row(&tick("clean", "daily", 60));
    let other = Waiting::start(&mut queue, &tick("clean", "daily", 60));
    queue.run("ROLLBACK");
    let job = &other.rows()[0];
    assert_eq!(queue.rows(DEFERS), [format!("clean | daily | 60 | {job}")]);
}

/// The crate's function, in a transaction that has begun before the next tick was deferred.
#[test]
fn a_tick_whose_row_was_deleted_meanwhile_is_not_deferred_again_at_higher_levels() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = Queue::new();
        queue.row(&tick("clean", "daily", 60));
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM procrastinate_jobs"));
        queue.row(&tick("clean", "daily", 120));
        let again = "SELECT job_id FROM procrastinate_diesel_defer_periodic_job_v1(
                         'mails', NULL, NULL, 'clean', 0, 'daily', 60, '{}')";
        let error = try_rows(&mut other, again).unwrap_err().to_string();
        assert!(error.contains("could not serialize access"), "{level}: {error}");
        sql(&mut other, "ROLLBACK");
        assert_eq!(rows(&mut other, again), ["NULL"]);
        assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "2");
    }
}

#[test]
fn a_job_that_a_tick_points_to_can_be_deleted() {
    let mut queue = Queue::new();
    queue.row(&tick("clean", "daily", 60));
    queue.row(&tick("count", "daily", 60));

    queue.row("SELECT procrastinate_cancel_job_v1(1, false, true)");

    assert_eq!(queue.rows(DEFERS), ["clean | daily | 60 | NULL", "count | daily | 60 | 2"]);
}

#[test]
fn a_tick_of_a_clock_that_is_far_ahead_makes_no_other_tick_be_deferred_twice() {
    let mut queue = Queue::new();
    // The time passes meanwhile.
    let now: i64 = queue.row("SELECT extract(epoch FROM now())::bigint").parse().unwrap();
    let tick = |seconds: i64| {
        format!(
            "SELECT job_id FROM procrastinate_diesel_defer_periodic_job_v1(
                 'mails', NULL, NULL, 'clean', 0, '', {}, '{{}}')",
            now + seconds
        )
    };
    let first = queue.row(&tick(-60));
    assert_ne!(first, "NULL");
    for hours in [5, 6, 7] {
        assert_ne!(queue.row(&tick(3_600 * hours)), "NULL");
    }
    // Neither the one that was deferred before, nor an older one, nor the wrong ones.
    for seconds in [-60, -120, 3_600 * 5, 3_600 * 6, 3_600 * 7] {
        assert_eq!(queue.row(&tick(seconds)), "NULL", "{seconds}");
    }
    assert_eq!(queue.row("SELECT min(job_id) FROM procrastinate_periodic_defers"), first);
    assert_ne!(queue.row(&tick(0)), "NULL");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "5");
    // The right one deletes the older right one only.
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_periodic_defers"), "4");
}
