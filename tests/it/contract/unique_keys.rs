//! Keys that refuse further jobs while a job holds them, and for a period after its end.

use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::json;

use super::queue::{Queue, Waiting, arrays_of_jobs};
use crate::support::{rows, sql};

/// Defers a job for each key, which it keeps for so many seconds.
fn defer(keys: &[&str], label: &str, seconds: u32) -> String {
    let all = |value: &str| vec![value; keys.len()].join(", ");
    let nulls = all("NULL");
    format!(
        "SELECT job_id, effect, taken_unique_key FROM procrastinate_diesel_defer_unique_jobs_v1({}, ARRAY[{}], \
         ARRAY[{nulls}]::timestamptz[], ARRAY[{nulls}]::text[], ARRAY[{}]::text[], ARRAY[{}]::double precision[])",
        arrays_of_jobs(&vec!["NULL"; keys.len()]),
        all(&format!("'{label}'")),
        keys.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", "),
        all(&seconds.to_string()),
    )
}

const FINISH: &str = "SELECT procrastinate_finish_job_v1(1, 'succeeded', false)";
const TEND: &str = "SELECT * FROM procrastinate_diesel_tend_unique_keys_v1(0)";

#[test]
fn a_key_is_taken_while_its_job_is_pending_or_running_and_free_after_its_end() {
    for (end, still_there) in [
        (FINISH, true),
        ("SELECT procrastinate_finish_job_v1(1, 'failed', false)", true),
        ("SELECT procrastinate_finish_job_v1(1, 'aborted', true)", false),
        ("DELETE FROM procrastinate_jobs WHERE id = 1", false),
        ("SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{1}', '{succeeded}', NULL, 0)", true),
        (
            "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', NULL, 0,
                 deleted_job_ids => '{1}', deleted_attempts => '{0}')",
            false,
        ),
    ] {
        let mut queue = Queue::new();
        assert_eq!(queue.row(&defer(&["k"], "fail", 0)), "1 | new | NULL");
        for _ in 0..2 {
            assert_eq!(queue.row(&defer(&["k"], "fail", 0)), "1 | NULL | k");
            assert_eq!(queue.row(&defer(&["k"], "keep", 0)), "1 | kept | NULL");
            queue.fetch("NULL");
        }
        queue.run(end);
        assert_eq!(queue.rows("SELECT FROM procrastinate_jobs WHERE id = 1").len(), usize::from(still_there), "{end}");
        assert!(queue.row(&defer(&["k"], "fail", 0)).ends_with(" | new | NULL"), "{end}");
    }
}

#[test]
fn the_period_of_the_job_that_holds_the_key_counts_from_its_end() {
    let end = |queue: &mut Queue, is_deleted: bool, by: &str| {
        queue.fetch("NULL");
        match by {
            "the contract" => queue.run(&format!("SELECT procrastinate_finish_job_v1(1, 'succeeded', {is_deleted})")),
            "a retention" => {
                queue.run(FINISH);
                queue.rows(TEND);
                queue.run("DELETE FROM procrastinate_jobs");
            }
            _ if is_deleted => queue.run(
                "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', NULL, 0,
                     deleted_job_ids => '{1}', deleted_attempts => '{0}')",
            ),
            _ => queue
                .run("SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{1}', '{failed}', NULL, 0)"),
        }
    };
    for (by, is_deleted) in [
        ("the contract", true),
        ("the contract", false),
        ("a worker", true),
        ("a worker", false),
        ("a retention", true),
    ] {
        let mut queue = Queue::new();
        queue.run(&defer(&["k"], "fail", 3600));
        end(&mut queue, is_deleted, by);
        for _ in 0..2 {
            // The period of the next one does not matter.
            assert_eq!(queue.row(&defer(&["k"], "fail", 0)), "1 | NULL | k", "{by}, {is_deleted}");
            queue.rows(TEND);
        }
        queue.run(
            "UPDATE procrastinate_events SET at = at - interval '1 hour';
             UPDATE procrastinate_diesel_unique_keys SET free_at = free_at - interval '1 hour'",
        );
        queue.and_undo(|queue| {
            queue.rows(TEND);
            assert_eq!(queue.rows("SELECT key FROM procrastinate_diesel_unique_keys"), [""; 0], "{by}, {is_deleted}");
        });
        assert!(queue.row(&defer(&["k"], "fail", 0)).ends_with(" | new | NULL"), "{by}, {is_deleted}");
    }
}

#[test]
fn a_job_that_is_retried_holds_its_key_again() {
    let mut queue = Queue::new();
    queue.run(&defer(&["k"], "fail", 0));
    queue.fetch("NULL");
    queue.run("SELECT procrastinate_finish_job_v1(1, 'failed', false)");
    queue.run(
        "UPDATE procrastinate_diesel_unique_keys SET free_at = now();
         SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)",
    );
    queue.rows(TEND);
    assert_eq!(queue.row("SELECT job_id, free_at FROM procrastinate_diesel_unique_keys"), "1 | NULL");
    assert_eq!(queue.row(&defer(&["k"], "fail", 0)), "1 | NULL | k");
}

#[test]
fn a_batch_is_stored_as_a_whole_or_not_at_all() {
    let mut queue = Queue::new();
    queue.run(&defer(&["c"], "fail", 0));
    assert_eq!(queue.rows(&defer(&["a", "b", "c"], "fail", 0)), ["1 | NULL | c"]);
    assert_eq!(queue.rows(&defer(&["a", "b", "a"], "fail", 0)), ["NULL | NULL | a"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "1");
    assert_eq!(queue.row("SELECT key, job_id FROM procrastinate_diesel_unique_keys"), "c | 1");
    let kept = queue.rows(&defer(&["b", "a", "c", "b"], "keep", 0));
    let ids: Vec<_> = kept.iter().map(|row| row.split(" | ").next().unwrap()).collect();
    assert_eq!((ids[2], ids[0]), ("1", ids[3]));
    let effects: Vec<_> = kept.iter().map(|row| row.split(" | ").nth(1).unwrap()).collect();
    assert_eq!(effects, ["new", "new", "kept", "kept"]);
    let keys = format!("SELECT job_id FROM procrastinate_diesel_unique_keys WHERE key = 'b' AND job_id = {}", ids[0]);
    assert_eq!(queue.rows(&keys).len(), 1);
    // Within the caller's transaction, which goes on.
    queue.run("BEGIN");
    assert_eq!(queue.rows(&defer(&["d", "c"], "fail", 0)), ["1 | NULL | c"]);
    assert_eq!(queue.rows(&defer(&["d"], "fail", 0)).len(), 1);
    queue.run("COMMIT");
    assert_eq!(queue.rows("SELECT FROM procrastinate_diesel_unique_keys WHERE key = 'd'").len(), 1);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_diesel_unique_keys WHERE job_id = 0"), "0");
}

#[test]
fn of_two_transactions_with_one_key_the_second_waits_for_the_first() {
    for (ending, expected) in [("COMMIT", "1 | NULL | k"), ("ROLLBACK", "2 | new | NULL")] {
        let mut queue = Queue::new();
        let mut first = queue.another_connection();
        sql(&mut first, "BEGIN");
        assert_eq!(rows(&mut first, &defer(&["k"], "fail", 0)), ["1 | new | NULL"]);
        let second = Waiting::start(&mut queue, &defer(&["k"], "fail", 0));
        sql(&mut first, ending);
        assert_eq!(second.rows(), [expected], "{ending}");
        assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "1");
    }
}

#[test]
fn of_two_transactions_that_claim_the_key_of_a_job_that_has_ended_one_gets_it() {
    let mut queue = Queue::new();
    queue.run(&defer(&["k"], "fail", 0));
    queue.fetch("NULL");
    queue.run(FINISH);
    let mut first = queue.another_connection();
    sql(&mut first, "BEGIN");
    assert_eq!(rows(&mut first, &defer(&["k"], "fail", 0)), ["2 | new | NULL"]);
    let second = Waiting::start(&mut queue, &defer(&["k"], "keep", 0));
    sql(&mut first, "COMMIT");
    assert_eq!(second.rows(), ["2 | kept | NULL"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "2");
}

#[test]
fn in_a_transaction_of_a_higher_isolation_level_a_key_that_others_have_claimed_is_a_serialization_failure() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = Queue::new();
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM procrastinate_jobs"));
        queue.run(&defer(&["k"], "fail", 0));
        let error = crate::support::try_rows(&mut other, &defer(&["k"], "fail", 0)).unwrap_err().to_string();
        assert!(error.contains("could not serialize access"), "{error}");
    }
}

#[test]
fn a_worker_does_not_wait_for_a_transaction_that_has_locked_a_key() {
    let mut queue = Queue::new();
    queue.run(&defer(&["k"], "fail", 3600));
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_unique_keys FOR UPDATE");
    queue.run("SET lock_timeout = '1s'");
    assert_eq!(queue.row(&defer(&["k"], "fail", 0)), "1 | NULL | k");
    queue.fetch("NULL");
    queue.rows(TEND);
    queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', true)");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "0");
}

#[test]
fn programs_that_defer_shuffled_keys_never_deadlock_and_store_each_key_once() {
    let mut queue = Queue::new();
    let barrier = Arc::new(Barrier::new(4));
    let programs: Vec<_> = (0..4)
        .map(|program| {
            let (mut connection, barrier) = (queue.another_connection(), barrier.clone());
            let mut random = fastrand::Rng::with_seed(program);
            thread::spawn(move || {
                barrier.wait();
                for round in 0..20 {
                    let mut keys: Vec<String> = (0..8).map(|key| format!("{round} {key}")).collect();
                    random.shuffle(&mut keys);
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    rows(&mut connection, &defer(&keys, if program % 2 == 0 { "fail" } else { "keep" }, 0));
                }
            })
        })
        .collect();
    programs.into_iter().for_each(|program| program.join().unwrap());
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs"), "160");
    let held =
        "SELECT count(*) FROM procrastinate_diesel_unique_keys JOIN procrastinate_jobs AS job ON job.id = job_id";
    assert_eq!(queue.row(held), "160");
}

#[test]
fn without_any_key_nothing_is_looked_up_and_jobs_have_no_rows() {
    let mut queue = Queue::with_jobs(json!([{}]));
    queue.fetch("NULL");
    queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', true)");
    assert_eq!(queue.row(TEND), "false | 0");
    assert_eq!(queue.rows("SELECT FROM procrastinate_diesel_unique_keys"), [""; 0]);
}

#[test]
fn a_caller_that_keeps_the_other_job_does_not_hide_its_end() {
    let mut queue = Queue::new();
    let mut other = queue.another_connection();
    queue.run("BEGIN");
    assert_eq!(queue.row(&defer(&["k"], "keep", 3_600)), "1 | new | NULL");
    // It claims the key, too, and its transaction stays open until the job has ended.
    sql(&mut other, "BEGIN");
    let waiting = thread::spawn(move || (rows(&mut other, &defer(&["k"], "keep", 3_600)), other));
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while queue.row(waits) == "0" {
        assert!(!waiting.is_finished(), "the claim did not wait");
    }
    queue.run("COMMIT");
    let (kept, mut other) = waiting.join().unwrap();
    assert_eq!(kept, ["1 | kept | NULL"]);
    queue.fetch("NULL");
    queue.rows(
        "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', NULL, 0,
             deleted_job_ids => '{1}', deleted_attempts => '{0}')",
    );
    sql(&mut other, "COMMIT");
    assert_eq!(queue.row(&defer(&["k"], "keep", 0)), "1 | kept | NULL");
}

#[test]
fn a_batch_reads_a_few_rows_of_keys_for_each_job() {
    let keys: Vec<_> = (0..400).map(|number| format!("key {number}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    for is_analyzed in [false, true] {
        let mut queue = Queue::new();
        for batch in 0..2 {
            if is_analyzed {
                queue.run("ANALYZE procrastinate_diesel_unique_keys");
            }
            queue.run("BEGIN");
            assert_eq!(queue.rows(&defer(&keys, "keep", 0)).len(), 400);
            let read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables
                 WHERE relname = 'procrastinate_diesel_unique_keys'";
            let read: i64 = queue.row(read).parse().unwrap();
            assert!(read <= 5 * 400, "{read} rows, batch {batch}");
            queue.run("COMMIT; UPDATE procrastinate_jobs SET status = 'cancelled'");
        }
    }
}
