//! Jobs that must start by some time. Both functions that fetch cancel those that did not, so workers of every language
//! do.

use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::json;

use super::queue::{Queue, fetch};
use crate::support::{rows, sql, try_rows};

const EXPIRED: &str = "SELECT job_id FROM procrastinate_diesel_job_options WHERE is_expired ORDER BY job_id";
const OPEN: &str = "SELECT job_id FROM procrastinate_diesel_job_options WHERE checked_at IS NULL ORDER BY job_id";
const MARKERS: &str = "SELECT count(*) FROM procrastinate_diesel_flow_controls WHERE kind = 'deadline'";

/// The crate's function, for so many jobs.
fn finish_and_fetch(wanted: usize) -> String {
    format!(
        "SELECT kind, id, wait_seconds FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', NULL, \
         {wanted}) ORDER BY id"
    )
}

/// Lets jobs expire at a time.
fn start_before(ids: &str, time: &str) -> String {
    format!(
        "SELECT procrastinate_diesel_store_options_v1(array_agg(id), array_agg('new'::text), array_agg('fail'::text), \
         array_agg('{time}'::timestamptz), array_agg(NULL::text)) FROM procrastinate_jobs WHERE id IN ({ids})"
    )
}

/// Fetches all that can start by either function, and returns the same of both: the IDs, and the expired jobs.
fn outcome(queue: &mut Queue) -> (Vec<String>, Vec<String>) {
    let by_contract = queue.and_undo(|queue| {
        let mut ids: Vec<i64> = std::iter::from_fn(|| queue.fetch("NULL")).collect();
        ids.sort_unstable();
        (ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>(), queue.rows(EXPIRED))
    });
    let by_ours = queue.and_undo(|queue| {
        let fetched = queue.rows(&finish_and_fetch(100));
        let ids = fetched.iter().filter_map(|row| Some(row.strip_prefix("fetched | ")?.split_once(" |")?.0.to_owned()));
        (ids.collect::<Vec<_>>(), queue.rows(EXPIRED))
    });
    assert_eq!(by_ours, by_contract, "by the crate's function, and by the contract's");
    by_ours
}

#[test]
fn a_job_that_is_not_started_in_time_is_cancelled() {
    let jobs = json!([
        {}, { "lock": "a" }, { "scheduled_at": "yesterday" }, { "priority": 7 },
        {}, { "lock": "b" }, { "scheduled_at": "yesterday" }, { "scheduled_at": "tomorrow" },
    ]);
    let mut queue = Queue::with_jobs(jobs);
    queue.run(&start_before("1, 2, 3, 4", "yesterday"));
    queue.run(&start_before("5, 6", "tomorrow"));
    let (started, expired) = outcome(&mut queue);
    assert_eq!(started, ["5", "6", "7"]);
    assert_eq!(expired, ["1", "2", "3", "4"]);
    queue.rows(&finish_and_fetch(5));
    for id in 1..=4 {
        assert_eq!(queue.job(id, "status, attempts, abort_requested"), "cancelled | 0 | false");
        let events = if id == 3 { vec!["cancelled", "deferred", "scheduled"] } else { vec!["cancelled", "deferred"] };
        assert_eq!(queue.events(id), events);
    }
    assert_eq!(queue.rows(OPEN), ["5", "6"]);
}

#[test]
fn the_lock_of_an_expired_job_is_free_for_the_next_one_in_the_same_call() {
    let mut queue = Queue::with_jobs(json!([{ "lock": "a" }, { "lock": "a" }, { "lock": "a" }]));
    queue.run(&start_before("1, 2", "yesterday"));
    assert_eq!(outcome(&mut queue), (vec!["3".to_owned()], vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn only_the_first_start_has_to_be_in_time() {
    let jobs = json!([
        { "attempts": 1 }, {}, { "status": "doing" }, { "status": "failed", "attempts": 1 }, { "status": "cancelled" }, {},
    ]);
    let mut queue = Queue::with_jobs(jobs);
    // It was started and put back without an attempt.
    queue.run("INSERT INTO procrastinate_events (job_id, type) VALUES (2, 'started')");
    queue.run(&start_before("1, 2, 3, 4, 5, 6", "yesterday"));
    queue.run("DELETE FROM procrastinate_jobs WHERE id = 6");
    assert_eq!(outcome(&mut queue), (vec!["1".to_owned(), "2".to_owned()], vec![]));
    queue.rows(&finish_and_fetch(5));
    // Each is looked at once.
    assert_eq!(queue.rows(OPEN), [""; 0]);
    queue.run("SELECT procrastinate_retry_job_v2(4, now(), NULL, NULL, NULL)");
    assert_eq!(outcome(&mut queue).0, ["4"]);
}

#[test]
fn thousands_of_expired_jobs_do_not_hide_a_good_one() {
    let mut queue = Queue::new();
    queue.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
         SELECT 'default', 't', CASE WHEN n % 2 = 0 THEN 'lock' END FROM generate_series(1, 3000) AS n;
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('default', 't', NULL), ('default', 't', 'lock')",
    );
    queue.run(&start_before("SELECT generate_series(1, 3000)", "yesterday"));
    let (started, expired) = outcome(&mut queue);
    assert_eq!((started, expired.len()), (vec!["3001".to_owned(), "3002".to_owned()], 3000));
    // So many that a fetch does not end with them: the worker looks again at once.
    queue.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'default', 't' FROM generate_series(1, 3000)",
    );
    queue.run(&start_before("SELECT generate_series(3003, 6002)", "yesterday"));
    assert_eq!(queue.rows(&finish_and_fetch(5)), ["wait | NULL | 0"]);
    assert_eq!(queue.rows(&finish_and_fetch(5)), ["fetched | 3001 | NULL", "fetched | 3002 | NULL"]);
    assert_eq!(queue.rows(EXPIRED).len(), 6000);
}

#[test]
fn a_job_that_somebody_has_locked_neither_starts_late_nor_holds_up_others() {
    let mut queue = Queue::with_jobs(json!([{ "priority": 1 }, {}, { "lock": "a" }, { "scheduled_at": "yesterday" }]));
    queue.run(&start_before("1, 3, 4", "yesterday"));
    let mut other = queue.another_connection();
    // A lock on the row of the options only: a fetch could start the job.
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_job_options WHERE job_id IN (1, 3, 4) FOR UPDATE");
    assert_eq!(queue.and_undo(|queue| queue.fetch("NULL")), Some(2));
    assert_eq!(queue.and_undo(|queue| queue.fetch("'{default}'")), Some(2));
    assert_eq!(queue.rows(&finish_and_fetch(5)), ["fetched | 2 | NULL", "wait | NULL | 0.25"]);
    sql(&mut other, "ROLLBACK; BEGIN; SELECT FROM procrastinate_jobs WHERE id IN (1, 3, 4) FOR UPDATE");
    assert_eq!(queue.rows(&finish_and_fetch(5)), ["wait | NULL | 0.25"]);
    assert_eq!(queue.rows(OPEN), ["1", "3", "4"]);
    sql(&mut other, "ROLLBACK");
    assert_eq!(queue.rows(&finish_and_fetch(5)), [""; 0]);
    assert_eq!(queue.rows(EXPIRED), ["1", "3", "4"]);
}

#[test]
fn fetches_at_the_same_time_start_no_expired_job_and_cancel_each_once() {
    let mut queue = Queue::new();
    queue.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
         SELECT 'default', 't', CASE WHEN n % 3 = 0 THEN 'lock ' || n % 5 END FROM generate_series(1, 400) AS n",
    );
    queue.run(&start_before("SELECT n FROM generate_series(1, 400) AS n WHERE n % 4 <> 0", "yesterday"));
    let barrier = Arc::new(Barrier::new(4));
    let fetchers: Vec<_> = (0..4)
        .map(|fetcher| {
            let (mut connection, barrier) = (queue.another_connection(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for _ in 0..30 {
                    match fetcher % 2 {
                        0 => drop(fetch(&mut connection, "NULL")),
                        _ => drop(rows(&mut connection, &finish_and_fetch(3))),
                    }
                }
            })
        })
        .collect();
    fetchers.into_iter().for_each(|fetcher| fetcher.join().unwrap());
    queue.rows(&finish_and_fetch(0));
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs WHERE status <> 'cancelled' AND id % 4 <> 0"), "0");
    assert_eq!(
        queue.row("SELECT count(*), count(DISTINCT job_id) FROM procrastinate_events WHERE type = 'cancelled'"),
        "300 | 300"
    );
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events WHERE type = 'started' AND job_id % 4 <> 0"), "0");
}

#[test]
fn transactions_that_add_such_jobs_never_wait_for_each_other_and_their_markers_go() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}, {}]));
    let (mut one, mut two) = (queue.another_connection(), queue.another_connection());
    for (connection, id) in [(&mut one, "1"), (&mut two, "2")] {
        sql(connection, "SET lock_timeout = '1s'; BEGIN");
        sql(connection, &start_before(id, "tomorrow"));
    }
    assert_eq!(queue.row(MARKERS), "0");
    sql(&mut one, "COMMIT");
    sql(&mut two, "COMMIT");
    assert_eq!(queue.row(MARKERS), "2");
    // One is enough. A transaction uses it, so that it stays, even if no other job needs it.
    queue.rows("SELECT * FROM procrastinate_diesel_tend_job_options_v1(0)");
    assert_eq!(queue.row(MARKERS), "1");
    sql(&mut one, "BEGIN");
    sql(&mut one, &start_before("3", "tomorrow"));
    assert_eq!(rows(&mut one, MARKERS), ["1"]);
    queue.run("DELETE FROM procrastinate_jobs WHERE id IN (1, 2)");
    queue.rows("SELECT * FROM procrastinate_diesel_tend_job_options_v1(0)");
    assert_eq!((queue.rows(OPEN), queue.row(MARKERS)), (vec![], "1".to_owned()));
    sql(&mut one, "COMMIT");
    // Nobody else can know whether one is needed.
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        sql(&mut two, &format!("BEGIN ISOLATION LEVEL {level}"));
        sql(&mut two, &start_before("4", "tomorrow"));
        sql(&mut two, "SELECT * FROM procrastinate_diesel_tend_job_options_v1(0); ROLLBACK");
    }
    assert_eq!(queue.row(MARKERS), "1");
    let expire = "SELECT expired, has_more FROM procrastinate_diesel_tend_job_options_v1(0, now() + interval '2 days')";
    assert_eq!(queue.row(expire), "1 | false");
    assert_eq!((queue.job(3, "status"), queue.row(MARKERS)), ("cancelled".to_owned(), "0".to_owned()));
    assert_eq!(queue.rows("SELECT * FROM procrastinate_diesel_flow_controls"), [""; 0]);
}

#[test]
fn a_job_whose_transaction_is_committed_too_late_does_not_start() {
    let mut queue = Queue::with_jobs(json!([{ "lock": "a" }]));
    let mut late = queue.another_connection();
    sql(&mut late, "BEGIN; INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 't')");
    sql(&mut late, &start_before("2", "yesterday"));
    assert_eq!(queue.and_undo(|queue| queue.fetch("NULL")), Some(1));
    sql(&mut late, "COMMIT");
    assert_eq!(outcome(&mut queue), (vec!["1".to_owned()], vec!["2".to_owned()]));
}

#[test]
fn in_a_transaction_of_a_higher_isolation_level_no_job_starts_late() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = Queue::with_jobs(json!([{}, {}]));
        queue.run(&start_before("1", "yesterday"));
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM procrastinate_jobs"));
        assert_eq!(fetch(&mut other, "NULL"), Some(2));
        sql(&mut other, &format!("ROLLBACK; BEGIN ISOLATION LEVEL {level}; SELECT FROM procrastinate_jobs"));
        // What another fetch has done since it began is a serialization failure, as usual.
        assert_eq!(queue.fetch("NULL"), Some(2));
        let error = try_rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)").unwrap_err();
        assert!(error.to_string().contains("could not serialize access"), "{error}");
    }
}

#[test]
fn a_job_that_the_database_refuses_to_cancel_does_not_start_and_holds_up_no_other() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
    queue.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
         WHEN (NEW.status = 'cancelled' AND NEW.id = 2) EXECUTE FUNCTION refuse()",
    );
    queue.run(&start_before("1, 2", "yesterday"));
    assert_eq!(outcome(&mut queue), (vec!["3".to_owned()], vec!["1".to_owned()]));
}

#[test]
fn a_step_forgets_the_options_of_jobs_that_are_gone_some_at_a_time() {
    let mut queue = Queue::new();
    queue.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'default', 't' FROM generate_series(1, 1500);
         INSERT INTO procrastinate_diesel_job_options (job_id, limit_key) SELECT generate_series(1, 1500), 'key';
         DELETE FROM procrastinate_jobs WHERE id IN (1, 700, 1200, 1500)",
    );
    let gone = "SELECT count(*) FROM procrastinate_diesel_job_options WHERE job_id IN (1, 700, 1200, 1500)";
    let mut step =
        |from: &str| queue.row(&format!("SELECT stopped_at FROM procrastinate_diesel_tend_job_options_v1({from})"));
    assert_eq!(step("0"), "1000");
    assert_eq!(step("1000"), "0");
    assert_eq!(queue.row(gone), "0");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_diesel_job_options"), "1496");
}

fn numbers(row: &str) -> Vec<i64> {
    row.split(" | ").map(|number| number.parse().unwrap()).collect()
}

#[test]
fn a_fetch_reads_only_the_options_of_jobs_that_are_late() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
    let fetches = [finish_and_fetch(1), "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)".to_owned()];
    queue.run("ALTER TABLE procrastinate_diesel_job_options SET (autovacuum_enabled = false)");
    // Plans of a table that is as good as empty.
    queue.run(&start_before("1", "tomorrow"));
    for _ in 0..8 {
        for fetch in &fetches {
            queue.and_undo(|queue| queue.rows(fetch));
        }
    }
    queue.run(
        "INSERT INTO procrastinate_diesel_job_options (job_id, start_before, checked_at, is_expired)
         SELECT n + 1000, now() + CASE WHEN n % 2 = 0 THEN interval '1 day' ELSE interval '-1 day' END,
                CASE WHEN n % 2 = 1 THEN now() END, n % 2 = 1
         FROM generate_series(1, 20000) AS n",
    );
    queue.run(&start_before("2", "yesterday"));
    let mut new = queue.another_connection();
    for fetch in &fetches {
        for connection in [&mut queue.connection, &mut new] {
            sql(connection, "BEGIN");
            let reads = "SELECT coalesce(seq_scan, 0), coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
                         WHERE relname = 'procrastinate_diesel_job_options'";
            let before = numbers(&rows(connection, reads)[0]);
            rows(connection, fetch);
            let after = numbers(&rows(connection, reads)[0]);
            sql(connection, "ROLLBACK");
            assert_eq!(after[0], before[0], "{fetch}");
            assert!(after[1] - before[1] < 10, "{before:?} {after:?} {fetch}");
        }
    }
}
