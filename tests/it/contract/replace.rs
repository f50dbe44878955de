//! `procrastinate_diesel_defer_or_replace_jobs_v1`, which replaces or keeps the pending jobs with the queueing locks of
//! new ones.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::queue::{Queue, Waiting, arrays_of_jobs, fetch};
use crate::support::{rows, sql, try_rows};

/// A call that defers jobs with these queueing locks and these answers to a taken one.
fn defer(jobs: &[(&str, &str)]) -> String {
    let (locks, choices): (Vec<_>, Vec<_>) = jobs.iter().copied().unzip();
    let choices = choices.iter().map(|choice| format!("'{choice}'")).collect::<Vec<_>>().join(", ");
    call(&arrays_of_jobs(&locks), &format!("ARRAY[{choices}]::text[]"))
}

fn call(jobs: &str, choices: &str) -> String {
    format!(
        "SELECT job_id, effect, taken_queueing_lock
         FROM procrastinate_diesel_defer_or_replace_jobs_v1({jobs}, {choices})"
    )
}

/// A call that defers one job, all of whose values differ from those of [`pending`].
fn defer_other(if_enqueued: &str) -> String {
    call(
        "'{mails}', '{send}', '{7}', '{customer}', '{q}', ARRAY['{\"to\": 2}']::jsonb[], '{2100-01-02 00:00:00+00}'",
        &format!("'{{{if_enqueued}}}'"),
    )
}

/// A pending job that waits for its third attempt.
fn pending() -> Value {
    json!({ "queueing_lock": "q", "args": { "to": 1 }, "attempts": 2, "scheduled_at": "2100-01-01 00:00:00+00" })
}

const COLUMNS: &str = "queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at AT TIME ZONE 'UTC',
    status, attempts";

#[test]
fn the_pending_job_gets_all_values_of_the_new_one_and_keeps_its_attempts() {
    let mut queue = Queue::with_jobs(json!([pending()]));
    assert_eq!(queue.rows(&defer_other("replace")), ["1 | replaced | NULL"]);
    let replaced = "mails | send | 7 | customer | q | {\"to\": 2} | 2100-01-02T00:00:00 | todo | 2";
    assert_eq!(queue.job(1, COLUMNS), replaced);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "1");
}

#[test]
fn the_pending_job_keeps_its_schedule_or_everything_if_asked() {
    let mut queue = Queue::with_jobs(json!([pending()]));
    assert_eq!(queue.rows(&defer_other("replace_except_schedule")), ["1 | replaced | NULL"]);
    let replaced = "mails | send | 7 | customer | q | {\"to\": 2} | 2100-01-01T00:00:00 | todo | 2";
    assert_eq!(queue.job(1, COLUMNS), replaced);

    queue.start_over(json!([{ "queueing_lock": "q" }]));
    assert_eq!(queue.rows(&defer_other("replace_except_schedule")), ["1 | replaced | NULL"]);
    assert_eq!(queue.job(1, "args, scheduled_at"), "{\"to\": 2} | NULL");

    queue.start_over(json!([pending()]));
    assert_eq!(queue.rows(&defer_other("keep")), ["1 | kept | NULL"]);
    assert_eq!(queue.job(1, COLUMNS), "default | task | 0 | NULL | q | {\"to\": 1} | 2100-01-01T00:00:00 | todo | 2");
    assert_eq!(queue.rows(&defer_other("fail")), ["NULL | NULL | q"]);
}

#[test]
fn a_job_whose_queueing_lock_is_free_is_inserted_with_all_its_values() {
    for if_enqueued in ["replace", "replace_except_schedule", "keep", "fail"] {
        let mut queue = Queue::new();
        for status in ["doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
            queue.add(json!([{ "queueing_lock": "q", "status": status }]));
        }
        assert_eq!(queue.rows(&defer_other(if_enqueued)), ["7 | new | NULL"]);
        let inserted = "mails | send | 7 | customer | q | {\"to\": 2} | 2100-01-02T00:00:00 | todo | 0";
        assert_eq!(queue.job(7, COLUMNS), inserted);
    }
}

/// The values of a job as SQL, in the order of the parameters, with their types.
type Values = [(String, &'static str); 8];

fn any_job(random: &mut fastrand::Rng, number: usize) -> Values {
    let text = |text: String| format!("'{text}'");
    let lock = *random.choice(["NULL", "'a'", "'b'", "'c'", "'B'", "'é'"].iter()).unwrap();
    let time = *random.choice(["NULL", "'2001-01-01'", "'2100-01-01'"].iter()).unwrap();
    let choices = ["keep", "replace", "replace_except_schedule", if random.u8(..4) == 0 { "fail" } else { "replace" }];
    [
        (text(format!("queue {number}")), "varchar"),
        (text(format!("task {number}")), "varchar"),
        (number.to_string(), "integer"),
        (text(format!("lock {number}")), "text"),
        (lock.to_owned(), "text"),
        (text(format!("{{\"n\": {number}}}")), "jsonb"),
        (time.to_owned(), "timestamptz"),
        (text((*random.choice(choices.iter()).unwrap()).to_owned()), "text"),
    ]
}

/// A call that defers these jobs.
fn defer_all(jobs: &[Values]) -> String {
    let array = |column: usize| {
        let values: Vec<_> = jobs.iter().map(|job| job[column].0.as_str()).collect();
        format!("ARRAY[{}]::{}[]", values.join(", "), jobs[0][column].1)
    };
    let arrays: Vec<_> = (0..7).map(array).collect();
    call(&arrays.join(", "), &array(7))
}

#[test]
fn a_batch_is_deferred_as_if_its_jobs_came_one_after_the_other() {
    const LOOK: &str = "
        SELECT queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, status, attempts,
               (SELECT array_agg(at ORDER BY id) FROM procrastinate_events
                WHERE job_id = job.id AND type = 'scheduled') AS scheduled,
               (SELECT count(*) FROM procrastinate_events WHERE job_id = job.id AND type = 'deferred') AS deferred
        FROM procrastinate_jobs AS job ORDER BY id";
    let start = json!([
        { "queueing_lock": "a", "attempts": 1, "scheduled_at": "2050-01-01" },
        { "queueing_lock": "B" },
    ]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut queue = Queue::new();
    let (mut effects, mut refused) = (BTreeSet::new(), 0);
    for _ in 0..200 {
        let jobs: Vec<_> = (0..random.usize(1..8)).map(|number| any_job(&mut random, number)).collect();
        queue.start_over(start.clone());
        let untouched = queue.rows(LOOK);
        let one_by_one: Vec<_> =
            jobs.iter().flat_map(|job| queue.rows(&defer_all(std::slice::from_ref(job)))).collect();
        let expected = queue.rows(LOOK);
        queue.start_over(start.clone());
        let batch = queue.rows(&defer_all(&jobs));
        if one_by_one.iter().any(|row| row.starts_with("NULL")) {
            assert!(batch.len() == 1 && one_by_one.contains(&batch[0]), "{batch:?} of {one_by_one:?} for {jobs:?}");
            assert_eq!(queue.rows(LOOK), untouched, "{jobs:?}");
            refused += 1;
        } else {
            assert_eq!(batch, one_by_one, "{jobs:?}");
            assert_eq!(queue.rows(LOOK), expected, "{jobs:?}");
            effects.extend(batch.iter().filter_map(|row| row.split(" | ").nth(1).map(str::to_owned)));
        }
    }
    assert_eq!(effects.into_iter().collect::<Vec<_>>(), ["kept", "new", "replaced"]);
    assert!(refused > 5, "{refused} batches were refused");
}

#[test]
fn the_events_are_those_of_the_triggers() {
    let mut queue = Queue::with_jobs(json!([pending(), { "queueing_lock": "plain" }]));
    queue.rows(&defer_other("replace"));
    queue.rows(&defer(&[("'plain'", "replace"), ("'new'", "replace"), ("'plain'", "keep")]));
    assert_eq!(queue.events(1), ["deferred", "scheduled", "scheduled"]);
    assert_eq!(queue.events(2), ["deferred"]);
    assert_eq!(queue.events(3), [""; 0], "its ID was drawn and not used");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events WHERE at > '2100-01-01 12:00:00+00'"), "1");

    // A trigger of the application that changes jobs meanwhile gets its events from the triggers.
    assert_eq!(queue.row("SELECT coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '')"), "");
    queue.add(json!([{ "scheduled_at": "2100-01-01" }]));
    let last = queue.row("SELECT max(id) FROM procrastinate_jobs").parse().unwrap();
    assert_eq!(queue.events(last), ["deferred", "scheduled"]);
}

#[test]
fn workers_are_notified_of_new_jobs_and_of_replaced_ones_that_are_due() {
    let mut queue = Queue::with_jobs(json!([pending(), { "queueing_lock": "soon", "scheduled_at": "2100-01-01" }]));
    queue.listen(&["procrastinate_queue_v1#mails", "procrastinate_queue_v1#default"]);
    let mut heard = |statement: &str| {
        queue.rows(statement);
        let heard = queue.notifications().into_iter();
        heard.map(|(channel, message)| format!("{} {message}", channel.rsplit('#').next().unwrap())).collect::<Vec<_>>()
    };
    let message = |queue: &str, id: u32| format!("{queue} {{\"type\" : \"job_inserted\", \"job_id\" : {id}}}");
    // It is in another queue, but not due.
    assert_eq!(heard(&defer_other("replace")), [""; 0]);
    assert_eq!(heard(&defer(&[("'soon'", "replace_except_schedule"), ("'soon'", "keep")])), [""; 0]);
    assert_eq!(heard(&defer(&[("'soon'", "replace")])), [message("default", 2)]);
    assert_eq!(heard(&defer(&[("'soon'", "replace_except_schedule")])), [message("default", 2)]);
    assert_eq!(heard(&defer(&[("'soon'", "keep")])), [""; 0]);
    // One for each queue.
    assert_eq!(
        heard(&defer(&[("'soon'", "replace"), ("'x'", "replace"), ("'x'", "replace")])),
        [message("default", 2)]
    );
}

#[test]
fn a_taken_lock_of_a_job_that_fails_undoes_everything_and_leaves_the_transaction_intact() {
    let mut queue =
        Queue::with_jobs(json!([{ "queueing_lock": "q", "args": { "n": 1 } }, { "queueing_lock": "say \"(hi)\"" }]));
    queue.run("BEGIN");
    for batch in [
        vec![("'a'", "replace"), ("'q'", "replace"), ("'say \"(hi)\"'", "fail")],
        // In the order of the locks.
        vec![("'z'", "replace"), ("'z'", "fail"), ("'say \"(hi)\"'", "fail")],
    ] {
        assert_eq!(queue.rows(&defer(&batch)), ["NULL | NULL | say \"(hi)\""]);
    }
    queue.add(json!([{}]));
    queue.run("COMMIT");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "3");
    assert_eq!(queue.job(1, "args"), "{\"n\": 1}");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events"), "3");
}

#[test]
fn an_invalid_choice_is_refused_with_the_value_and_the_rule() {
    let mut queue = Queue::new();
    let rule = "must be fail, keep, replace or replace_except_schedule";
    for (choices, value) in [("ARRAY['replace', 'debounce']", "debounce"), ("ARRAY['replace']", "NULL")] {
        let failure = queue.failure_of(&call(&arrays_of_jobs(&["NULL", "'a'"]), choices));
        assert_eq!(failure.message(), format!("invalid if_enqueued \"{value}\": {rule}"));
    }
    assert_eq!(queue.rows(&defer(&[])), [""; 0]);
}

/// A worker has started job 1 in a transaction that is still open, and a program wants to replace the job.
fn while_it_starts(fetch: &str, if_enqueued: &str) -> (Queue, Waiting) {
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
    let worker = queue.register_worker();
    queue.run("BEGIN");
    assert_eq!(queue.rows(&fetch.replace("$worker", &worker.to_string())), ["1"]);
    let waiting = Waiting::start(&mut queue, &defer_other(if_enqueued));
    (queue, waiting)
}

const FETCHES: [&str; 2] = [
    "SELECT id FROM procrastinate_fetch_job_v2(NULL, $worker)",
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1($worker, NULL, NULL, NULL, 5)",
];

#[test]
fn a_job_that_a_worker_has_just_started_is_not_changed_and_the_new_one_is_inserted() {
    for fetch in FETCHES {
        for if_enqueued in ["replace", "replace_except_schedule", "keep", "fail"] {
            let (mut queue, waiting) = while_it_starts(fetch, if_enqueued);
            queue.run("COMMIT");
            assert_eq!(waiting.rows(), ["2 | new | NULL"], "{if_enqueued}");
            assert_eq!(queue.job(1, "status, args"), "doing | {}");
            assert_eq!(queue.job(2, "status, args"), "todo | {\"to\": 2}");
        }
    }
}

#[test]
fn a_job_whose_start_is_rolled_back_is_replaced() {
    for fetch in FETCHES {
        let (mut queue, waiting) = while_it_starts(fetch, "replace");
        queue.run("ROLLBACK");
        assert_eq!(waiting.rows(), ["1 | replaced | NULL"]);
        assert_eq!(queue.row("SELECT id, status, args FROM procrastinate_jobs"), "1 | todo | {\"to\": 2}");
    }
}

#[test]
fn a_worker_skips_a_job_that_is_being_replaced_and_then_sees_the_new_values() {
    for fetch in FETCHES {
        let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
        let worker = queue.register_worker();
        let fetch = fetch.replace("$worker", &worker.to_string()).replace("SELECT id", "SELECT id, args");
        let mut other = queue.another_connection();
        queue.run("BEGIN");
        let now = call("'{q}', '{t}', '{0}', '{NULL}', '{q}', ARRAY['{\"n\": 2}']::jsonb[], '{NULL}'", "'{replace}'");
        assert_eq!(queue.rows(&now), ["1 | replaced | NULL"]);
        assert!(!rows(&mut other, &fetch).iter().any(|row| row.starts_with('1')));
        queue.run("COMMIT");
        assert_eq!(rows(&mut other, &fetch), ["1 | {\"n\": 2}"]);
    }
}

#[test]
fn a_worker_that_has_seen_a_job_before_it_was_moved_into_the_future_does_not_start_it() {
    // A gate holds the worker between its look at the jobs and its locking of a row.
    let gate = "
        CREATE FUNCTION go_through_gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END; $$;
        CREATE TRIGGER gate BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (NEW.status = 'doing')
            EXECUTE FUNCTION go_through_gate();
        SELECT pg_advisory_lock(1)";
    for fetch in FETCHES {
        let mut queue = Queue::with_jobs(json!([{ "lock": "x" }, { "queueing_lock": "q", "lock": "x" }, {}]));
        let worker = queue.register_worker();
        queue.run(gate);
        let fetch = fetch.replace("$worker", &worker.to_string()).replace(", 5)", ", 1)");
        let waiting = Waiting::start(&mut queue, &fetch);
        // It has locked job 1 only, so job 2 can be replaced.
        assert_eq!(queue.rows(&defer_other("replace")), ["2 | replaced | NULL"]);
        queue.run("SELECT pg_advisory_unlock(1)");
        assert_eq!(waiting.rows(), ["1"]);
        let mut started = rows(&mut queue.connection, &fetch);
        started.append(&mut rows(&mut queue.connection, &fetch));
        assert!(started.iter().all(|row| row == "3" || row == "NULL"), "{started:?}");
        assert_eq!(queue.job(2, "status, lock"), "todo | customer");
    }
}

#[test]
fn of_two_programs_that_replace_a_job_the_second_waits_and_wins() {
    for (end, expected) in [("COMMIT", "{\"to\": 2}"), ("ROLLBACK", "{\"to\": 2}")] {
        let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
        queue.run("BEGIN");
        assert_eq!(queue.rows(&defer(&[("'q'", "replace")])), ["1 | replaced | NULL"]);
        let second = Waiting::start(&mut queue, &defer_other("replace"));
        queue.run(end);
        assert_eq!(second.rows(), ["1 | replaced | NULL"]);
        assert_eq!(queue.row("SELECT id, args FROM procrastinate_jobs"), format!("1 | {expected}"));
    }
}

#[test]
fn of_two_programs_that_insert_a_job_the_second_waits_and_replaces() {
    for (end, expected) in [("COMMIT", "1 | replaced | NULL"), ("ROLLBACK", "2 | new | NULL")] {
        let mut queue = Queue::new();
        queue.run("BEGIN");
        assert_eq!(queue.rows(&defer(&[("'q'", "replace")])), ["1 | new | NULL"]);
        let second = Waiting::start(&mut queue, &defer_other("replace"));
        queue.run(end);
        assert_eq!(second.rows(), [expected]);
        assert_eq!(queue.row("SELECT args FROM procrastinate_jobs"), "{\"to\": 2}");
    }
}

#[test]
fn a_job_that_is_cancelled_or_deleted_meanwhile_is_not_changed_and_the_new_one_is_inserted() {
    for delete in [false, true] {
        for if_enqueued in ["replace", "keep", "fail"] {
            let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
            queue.run("BEGIN");
            queue.row(&format!("SELECT procrastinate_cancel_job_v1(1, false, {delete})"));
            let waiting = Waiting::start(&mut queue, &defer_other(if_enqueued));
            queue.run("COMMIT");
            assert_eq!(waiting.rows(), ["2 | new | NULL"]);
            let expected = if delete { vec!["todo"] } else { vec!["cancelled", "todo"] };
            assert_eq!(queue.rows("SELECT status FROM procrastinate_jobs ORDER BY id"), expected);
        }
    }
}

#[test]
fn a_worker_that_requeues_a_job_with_the_same_lock_waits_and_fails_it() {
    // The lock is free while the job runs, and another one has it when the job should be retried.
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
    assert_eq!(queue.fetch("NULL"), Some(1));
    queue.run("BEGIN");
    assert_eq!(queue.rows(&defer_other("replace")), ["2 | new | NULL"]);
    let retry = Waiting::start(&mut queue, "SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)::text");
    queue.run("COMMIT");
    assert!(retry.result().unwrap_err().to_string().contains("procrastinate_jobs_queueing_lock_idx_v1"));

    // The other way round, the requeued job is replaced.
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
    assert_eq!(queue.fetch("NULL"), Some(1));
    queue.run("BEGIN");
    queue.row("SELECT procrastinate_retry_job_v2(1, '2100-01-01', NULL, NULL, NULL)::text");
    let waiting = Waiting::start(&mut queue, &defer_other("replace"));
    queue.run("COMMIT");
    assert_eq!(waiting.rows(), ["1 | replaced | NULL"]);
    assert_eq!(queue.job(1, "status, attempts, args"), "todo | 1 | {\"to\": 2}");
}

#[test]
fn batches_in_different_orders_and_choices_do_not_deadlock() {
    let queue = Queue::new();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let mut connection = queue.another_connection();
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..40 {
                    let mut locks: Vec<String> = (0..20).map(|number| format!("'lock {number}'")).collect();
                    random.shuffle(&mut locks);
                    let choice = |_| *random.choice(["keep", "replace", "replace_except_schedule"].iter()).unwrap();
                    let choices: Vec<&str> = (0..20).map(choice).collect();
                    let jobs: Vec<_> = locks.iter().map(String::as_str).zip(choices).collect();
                    sql(&mut connection, "BEGIN");
                    rows(&mut connection, &defer(&jobs));
                    sql(&mut connection, if random.bool() { "COMMIT" } else { "ROLLBACK" });
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn no_job_is_lost_while_workers_and_programs_meet_at_one_lock() {
    let queue = Queue::new();
    let replacers: Vec<_> = (0..3)
        .map(|program| {
            let mut connection = queue.another_connection();
            std::thread::spawn(move || {
                for number in 0..60 {
                    let args = format!("ARRAY['{{\"p\": {program}, \"n\": {number}}}']::jsonb[]");
                    let arrays = format!("'{{q}}', '{{t}}', '{{0}}', '{{NULL}}', '{{x}}', {args}, '{{NULL}}'");
                    let found = rows(&mut connection, &call(&arrays, "'{replace}'"));
                    assert!(found[0].ends_with("| NULL"), "{found:?}");
                }
            })
        })
        .collect();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut worker = queue.another_connection();
    let fetched = std::thread::spawn(move || {
        let mut fetched = Vec::new();
        loop {
            let is_last = stopped.try_recv().is_ok();
            while let Some(id) = fetch(&mut worker, "NULL") {
                let job = format!("SELECT lpad(id::text, 5), args FROM procrastinate_jobs WHERE id = {id}");
                fetched.push(rows(&mut worker, &job).remove(0));
                sql(&mut worker, &format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)"));
            }
            if is_last {
                return fetched;
            }
        }
    });
    for replacer in replacers {
        replacer.join().unwrap();
    }
    stop.send(()).unwrap();
    let mut fetched = fetched.join().unwrap();
    // The last job of each program has run, or another one has replaced it, which then was the last to run.
    assert!(fetched.last().unwrap().contains("\"n\": 59"), "{fetched:?}");
    let mut queue = queue;
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"), "0");
    // What ran has not been changed after its start. IDs are drawn before a job waits for another one.
    fetched.sort();
    assert_eq!(queue.rows("SELECT lpad(id::text, 5), args FROM procrastinate_jobs ORDER BY id"), fetched);
}

#[test]
fn a_transaction_with_an_old_snapshot_replaces_what_it_sees_and_fails_at_what_it_does_not_see() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "q" }]));
        let mut other = queue.another_connection();
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM procrastinate_jobs");
        sql(&mut other, &begin);
        assert_eq!(rows(&mut other, &defer_other("replace")), ["1 | replaced | NULL"]);
        assert_eq!(rows(&mut other, &defer(&[("'new'", "replace"), ("'new'", "replace")])).len(), 2);
        sql(&mut other, "COMMIT");

        for if_enqueued in ["replace", "keep"] {
            sql(&mut other, &begin);
            queue.rows(&defer(&[("'q'", "replace")]));
            let error = try_rows(&mut other, &defer_other(if_enqueued)).unwrap_err().to_string();
            assert!(error.contains("could not serialize access"), "{error}");
            sql(&mut other, "ROLLBACK");
        }
    }
}
