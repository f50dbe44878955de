//! Limits for each key that are set, changed and removed while jobs run and wait.

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::{rows, sql};

const NONE: [&str; 0] = [];

fn jobs(count: usize) -> Value {
    vec![json!({ "args": { "tenant": "a" } }); count].into()
}

fn limit(queue: &mut Queue, kind: &str, name: &str, most: &str) {
    let path = if most == "NULL" { "NULL" } else { "'{tenant}'" };
    queue.run(&format!("SELECT procrastinate_diesel_limit_keys_v1('{kind}', '{name}', {path}, {most}, NULL, NULL)"));
}

fn fetching(wanted: usize) -> String {
    format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', NULL, {wanted}) \
         WHERE kind = 'fetched' ORDER BY id"
    )
}

#[test]
fn jobs_that_were_started_while_a_limit_was_not_set_count_when_it_is_set_again() {
    let mut queue = Queue::with_jobs(jobs(8));
    limit(&mut queue, "queue", "default", "3");
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    limit(&mut queue, "queue", "default", "NULL");
    assert_eq!(queue.rows(&fetching(4)), ["2", "3", "4", "5"]);
    limit(&mut queue, "queue", "default", "3");
    assert_eq!(queue.rows(&fetching(9)), NONE);
    for (ended, started) in [("{1,2}", &NONE[..]), ("{3}", &["6"]), ("{4,5,6}", &["7", "8"])] {
        queue.rows(&format!(
            "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{ended}', \
             array_fill('succeeded'::procrastinate_job_status, ARRAY[cardinality('{ended}'::bigint[])]), '{{none}}', 0)"
        ));
        assert_eq!(queue.rows(&fetching(9)), started, "{ended}");
    }
}

#[test]
fn a_new_limit_of_a_queue_holds_for_the_jobs_that_have_a_key_of_their_task() {
    let mut queue = Queue::with_jobs(jobs(9));
    limit(&mut queue, "task", "task", "3");
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    limit(&mut queue, "queue", "default", "1");
    assert_eq!(queue.rows(&fetching(9)), NONE);
    // And the other way round, without a wait.
    limit(&mut queue, "queue", "default", "NULL");
    assert_eq!(queue.rows(&fetching(9)), ["2", "3"]);
    limit(&mut queue, "task", "task", "NULL");
    assert_eq!(queue.rows(&fetching(1)), ["4"]);
    assert_eq!(queue.rows(&fetching(9)).len(), 5);
}

#[test]
fn a_search_for_jobs_without_a_row_waits_for_nobody() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "default", "1");
    queue.add(json!([{}, { "args": { "tenant": "a" } }]));
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    // The job without a key has no row while it runs. This transaction inserts one.
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)");
    queue.run(
        "SET lock_timeout = '2s';
         UPDATE procrastinate_diesel_limit_states SET keys_checked_at = NULL",
    );
    assert_eq!(rows(&mut queue.connection, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["2"]);
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
}

#[test]
fn a_job_with_a_lock_that_the_snapshot_does_not_see_as_taken_ends_no_fetch_in_a_circle() {
    let mut queue = Queue::new();
    limit(&mut queue, "queue", "default", "5");
    queue.add(json!([{ "args": { "tenant": "a" }, "lock": "x" }, { "args": { "tenant": "b" } }]));
    queue.run(
        "SELECT procrastinate_diesel_assign_keys_v1(10, now());
         UPDATE procrastinate_diesel_limit_states AS state
             SET keys_checked_at = now() + interval '1 hour', keys_checked_under = control.keys_changed_at,
                 keys_woken_at = 'infinity', keys_woken_under = control.changed_at
             FROM procrastinate_diesel_flow_controls AS control
             WHERE control.kind = state.kind AND control.name = state.name",
    );
    let mut other = queue.another_connection();
    sql(
        &mut other,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = '10s'; SELECT FROM procrastinate_jobs",
    );
    queue.add(json!([{ "queue_name": "other", "lock": "x", "priority": 10 }]));
    assert_eq!(queue.fetch("'{other}'"), Some(3));
    assert_eq!(rows(&mut other, &fetching(5)), ["2"]);
}

#[test]
fn a_fetch_can_want_as_many_jobs_as_a_number_has_room_for() {
    let mut queue = Queue::with_jobs(jobs(3));
    limit(&mut queue, "queue", "default", "2");
    assert_eq!(queue.rows(&fetching(2_147_483_647)), ["1", "2"]);
}

#[test]
fn jobs_behind_those_that_another_transaction_has_locked_start() {
    for locked in [1, 2, 7, 50] {
        let mut queue = Queue::with_jobs(jobs(60));
        limit(&mut queue, "queue", "default", "3");
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN; SELECT FROM procrastinate_jobs WHERE id <= {locked} FOR UPDATE"));
        let behind: Vec<_> = (locked + 1..=locked + 3).map(|id| id.to_string()).collect();
        assert_eq!(queue.rows(&fetching(1)), behind[..1], "{locked}");
        assert_eq!(queue.rows("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), behind[1..2], "{locked}");
        assert_eq!(queue.rows(&fetching(9)), behind[2..], "{locked}");
        sql(&mut other, "COMMIT");
        assert_eq!(queue.rows(&fetching(9)), NONE, "{locked}");
    }
}

#[test]
fn a_job_that_another_transaction_has_locked_starts_soon_after_it_is_free() {
    let mut queue = Queue::with_jobs(jobs(1));
    limit(&mut queue, "queue", "default", "3");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_jobs FOR UPDATE");
    assert_eq!(queue.rows(&fetching(5)), NONE);
    assert_eq!(queue.rows("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["NULL"]);
    // Nobody searches for it all the time.
    assert_eq!(queue.rows("SELECT is_ready FROM procrastinate_diesel_limit_keys"), ["false"]);
    sql(&mut other, "ROLLBACK; SELECT pg_sleep(0.25)");
    assert_eq!(queue.rows(&fetching(5)), ["1"]);
}

#[test]
fn cleaning_up_after_the_limit_of_a_queue_leaves_its_jobs_to_the_limit_of_their_task() {
    let mut queue = Queue::with_jobs(jobs(4));
    limit(&mut queue, "task", "task", "3");
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    limit(&mut queue, "queue", "default", "1");
    assert_eq!(queue.rows(&fetching(9)), NONE);
    limit(&mut queue, "queue", "default", "NULL");
    queue.run(
        "UPDATE procrastinate_diesel_limit_states AS state
             SET keys_checked_at = now() + interval '1 hour', keys_checked_under = control.keys_changed_at,
                 keys_woken_at = 'infinity', keys_woken_under = control.changed_at
             FROM procrastinate_diesel_flow_controls AS control
             WHERE control.kind = state.kind AND control.name = state.name AND state.kind = 'task';
         SELECT procrastinate_diesel_clean_keys_v1(1000)",
    );
    assert_eq!(queue.rows(&fetching(9)), ["2", "3"]);
}

#[test]
fn a_pause_or_another_number_does_not_compare_the_keys_of_all_jobs() {
    let mut queue = Queue::new();
    queue.run(
        r#"SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{tenant}', 2, NULL, NULL);
           INSERT INTO procrastinate_jobs (queue_name, task_name, args)
           SELECT 'default', 'task', jsonb_build_object('tenant', 'a') FROM generate_series(1, 10);
           SELECT procrastinate_diesel_assign_keys_v1(10, now());
           UPDATE procrastinate_diesel_limit_states SET keys_checked_at = now() + interval '1 hour',
               keys_checked_under = control.keys_changed_at
           FROM procrastinate_diesel_flow_controls AS control"#,
    );
    let checked = "SELECT keys_checked_at, keys_checked_under FROM procrastinate_diesel_limit_states WHERE slot = 0";
    let before = queue.row(checked);
    for change in [
        "pause_v1('queue', 'default')",
        "resume_v1('queue', 'default')",
        "set_limit_v1('queue', 'default', 100, NULL, NULL)",
        "limit_keys_v1('queue', 'default', '{tenant}', 3, NULL, NULL)",
    ] {
        queue.run(&format!(
            "UPDATE procrastinate_diesel_limit_keys SET wakes_at = now() + interval '1 hour' WHERE wakes_at IS NOT NULL;
             SELECT procrastinate_diesel_{change}"
        ));
        queue.rows(&fetching(1));
        assert_eq!(queue.row(checked), before, "{change}");
    }
    // But it wakes the keys.
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"), "3");
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{other}', 3, NULL, NULL)");
    queue.rows(&fetching(1));
    assert_ne!(queue.row(checked), before);
}
