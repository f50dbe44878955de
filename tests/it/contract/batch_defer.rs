//! `procrastinate_diesel_defer_jobs_v1`, this crate's own way to defer many jobs.

use serde_json::json;

use super::queue::{Queue, Waiting, arrays_of_jobs};

/// A call that defers these jobs.
fn defer(queueing_locks: &[&str]) -> String {
    format!(
        "SELECT job_id, taken_queueing_lock FROM procrastinate_diesel_defer_jobs_v1({})",
        arrays_of_jobs(queueing_locks)
    )
}

#[test]
fn every_job_has_all_given_values() {
    let mut queue = Queue::new();
    let ids = queue.rows(
        "SELECT job_id, taken_queueing_lock
         FROM procrastinate_diesel_defer_jobs_v1(
             queue_names => '{mails,default}',
             task_names => '{send,\"say, \\\"Zoë\\\"\"}',
             priorities => '{-7,3}',
             locks => '{customer 7,NULL}',
             queueing_locks => '{NULL,once}',
             arguments => ARRAY['{\"to\": \"Zoë\"}', '{}']::jsonb[],
             scheduled_ats => '{2026-03-29 01:30:00+00,NULL}')",
    );
    assert_eq!(ids, ["1 | NULL", "2 | NULL"]);

    let columns = "queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at AT TIME ZONE 'UTC'";
    assert_eq!(
        queue.job(1, columns),
        "mails | send | -7 | customer 7 | NULL | {\"to\": \"Zoë\"} | 2026-03-29T01:30:00"
    );
    assert_eq!(queue.job(2, columns), "default | say, \"Zoë\" | 3 | NULL | once | {} | NULL");
    for job in [1, 2] {
        assert_eq!(queue.job(job, super::queue::STANDING), "todo | 0 | false | NULL");
    }
}

#[test]
fn ids_come_in_the_order_of_the_input() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
    // Whatever the jobs could be sorted by goes up and down along the input.
    let out_of_place = queue.rows(
        "WITH input AS (
            SELECT array_agg(format('queue %s', n * 7 % 10)::varchar ORDER BY n) AS queues,
                   array_agg(format('task %s', n)::varchar ORDER BY n) AS tasks,
                   array_agg(n * 7 % 10 ORDER BY n) AS priorities,
                   array_agg(format('lock %s', n * 3 % 10) ORDER BY n) AS locks,
                   array_agg('{}'::jsonb ORDER BY n) AS args
            FROM generate_series(1, 1000) AS n),
        answer AS (
            SELECT deferred.job_id, deferred.place
            FROM input, procrastinate_diesel_defer_jobs_v1(
                     queues, tasks, priorities, locks, locks_of_none, args, dates)
                 WITH ORDINALITY AS deferred (job_id, taken, place))
        SELECT * FROM answer"
            .replace("locks_of_none", "array_fill(NULL::text, ARRAY[1000])")
            .replace("dates", "array_fill(NULL::timestamptz, ARRAY[1000])")
            .as_str(),
    );
    assert_eq!(out_of_place.len(), 1000);
    for (n, row) in (1..).zip(&out_of_place) {
        assert_eq!(*row, format!("{} | {n}", n + 3));
        assert_eq!(queue.job(n + 3, "task_name"), format!("task {n}"));
    }
}

#[test]
fn no_jobs_give_no_rows() {
    let mut queue = Queue::new();
    assert_eq!(queue.rows(&defer(&[])), [""; 0]);
}

#[test]
fn the_events_are_those_of_any_deferred_job() {
    let mut queue = Queue::new();
    queue.rows(&defer(&["NULL", "'q'"]));
    assert_eq!(queue.events(1), ["deferred"]);
    assert_eq!(queue.events(2), ["deferred"]);
}

#[test]
fn a_taken_queueing_lock_is_named_and_no_job_is_deferred() {
    let mut queue = Queue::new();
    for lock in ["plain", "with (parens)", ")=(", "März, 7 €", "say \"hi\"", "two\nlines", "", " ", "(", ")", "a) b"]
    {
        queue.start_over(json!([{ "queueing_lock": lock }]));
        let answer = queue.rows(&defer(&["'free'", "NULL", &format!("'{lock}'"), "'free as well'"]));
        assert_eq!(answer, [format!("NULL | {lock}")]);
        assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "1");
        assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events"), "1");
    }
}

#[test]
fn a_queueing_lock_that_occurs_twice_is_named_and_no_job_is_deferred() {
    let mut queue = Queue::new();
    assert_eq!(queue.rows(&defer(&["'a'", "'b'", "'c'", "'b'"])), ["NULL | b"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "0");
}

#[test]
fn the_queueing_lock_of_a_job_that_is_not_pending_is_free() {
    let mut queue = Queue::new();
    for status in ["doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
        queue.add(json!([{ "queueing_lock": "q", "status": status }]));
    }
    assert_eq!(queue.rows(&defer(&["'q'"])), ["7 | NULL"]);
}

#[test]
fn the_callers_transaction_stays_intact() {
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "taken" }]));
    queue.run("BEGIN");
    queue.add(json!([{ "task_name": "before" }]));
    assert_eq!(queue.rows(&defer(&["'free'", "'taken'"])), ["NULL | taken"]);
    queue.add(json!([{ "task_name": "after" }]));
    queue.run("COMMIT");
    let names = queue.rows("SELECT task_name FROM procrastinate_jobs ORDER BY id");
    assert_eq!(names, ["task", "before", "after"]);
}

#[test]
fn a_queueing_lock_that_another_transaction_has_just_taken_is_named() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    queue.add(json!([{ "queueing_lock": "q" }]));
    let other = Waiting::start(&mut queue, &defer(&["'free'", "'q'"]));
    queue.run("COMMIT");
    assert_eq!(other.rows(), ["NULL | q"]);
}

#[test]
fn a_queueing_lock_is_free_after_the_other_transaction_rolls_back() {
    let mut queue = Queue::new();
    queue.run("BEGIN");
    queue.add(json!([{ "queueing_lock": "q" }]));
    let other = Waiting::start(&mut queue, &defer(&["'q'"]));
    queue.run("ROLLBACK");
    assert_eq!(other.rows(), ["2 | NULL"]);
}

#[test]
fn any_other_violation_is_an_error() {
    let mut queue = Queue::new();
    queue.run("CREATE UNIQUE INDEX one_of_a_kind ON procrastinate_jobs (task_name)");
    assert_eq!(queue.failure_of(&defer(&["NULL", "NULL"])).constraint_name(), Some("one_of_a_kind"));
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "0");
}

#[test]
fn a_taken_lock_is_named_whatever_backslashes_mean_in_the_session() {
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "(a)\\b" }]));
    for conforming in ["on", "off"] {
        queue.run(&format!("SET standard_conforming_strings = {conforming}; SET escape_string_warning = off"));
        let taken = queue.row(
            "SELECT taken_queueing_lock FROM procrastinate_diesel_defer_jobs_v1(
                 '{q}', '{t}', '{0}', '{NULL}', ARRAY[E'(a)\\\\b'], ARRAY['{}']::jsonb[], '{NULL}')",
        );
        assert_eq!(taken, "(a)\\b", "{conforming}");
    }
}

#[test]
fn programs_that_take_the_same_locks_in_different_orders_do_not_deadlock() {
    let queue = Queue::new();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let mut connection = queue.another_connection();
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..40 {
                    let mut locks: Vec<String> = (0..20).map(|number| format!("lock {number}")).collect();
                    random.shuffle(&mut locks);
                    let of_each = |value: &str| format!("array_fill({value}, ARRAY[20])");
                    let defer = format!(
                        "SELECT count(*) FROM procrastinate_diesel_defer_jobs_v1({}, {}, {}, {}, '{{{}}}', {}, {})",
                        of_each("'q'::varchar"),
                        of_each("'t'::varchar"),
                        of_each("0"),
                        of_each("NULL::text"),
                        locks.join(","),
                        of_each("'{}'::jsonb"),
                        of_each("NULL::timestamptz"),
                    );
                    crate::support::sql(&mut connection, "BEGIN");
                    crate::support::rows(&mut connection, &defer);
                    crate::support::sql(&mut connection, "ROLLBACK");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
