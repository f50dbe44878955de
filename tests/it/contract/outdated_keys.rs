//! Limits for each key, and jobs that were changed while nobody noted it for the limit: it was not set, the transaction
//! did not see it, or the database refused an event.

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::{rows, sql};

const NONE: [&str; 0] = [];

/// Sets the limit of the queue: how many run, how many start, in how many seconds.
fn limit(queue: &mut Queue, limits: &str) {
    let path = if limits == "NULL, NULL, NULL" { "NULL" } else { "'{tenant}'" };
    queue.run(&format!("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', {path}, {limits})"));
}

const ONE: &str = "1, NULL, NULL";
const NO_LIMIT: &str = "NULL, NULL, NULL";
const ONE_AN_HOUR: &str = "NULL, 1, 3600";

fn job(tenant: &str) -> Value {
    json!({ "args": { "tenant": tenant } })
}

fn fetching(wanted: usize) -> String {
    format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', NULL, {wanted}) \
         WHERE kind = 'fetched' ORDER BY id"
    )
}

/// Fetches again at this time, in seconds from now.
fn fetching_in(seconds: u32) -> String {
    fetching(9).replace(", 9)", &format!(", 9, due_at => now() + interval '{seconds} seconds')"))
}

#[test]
fn a_key_does_not_wait_for_the_end_of_a_period_that_is_not_the_limits_any_more() {
    for changes in [&["NULL, 100, 3600"][..], &["10, NULL, NULL"], &[NO_LIMIT, "9, NULL, NULL"], &["NULL, 1, 1"]] {
        let mut queue = Queue::with_jobs(json!([job("a"), job("a"), job("a")]));
        limit(&mut queue, ONE_AN_HOUR);
        assert_eq!(queue.rows(&fetching(9)), ["1"]);
        assert_eq!(queue.rows(&fetching(9)), NONE);
        for change in changes {
            limit(&mut queue, change);
        }
        if changes == ["NULL, 1, 1"] {
            // The first start counts until the end of a hundredth of the hour.
            assert_eq!(queue.rows(&fetching_in(40)), ["2"]);
        } else {
            assert_eq!(queue.rows(&fetching(9)), ["2", "3"], "{changes:?}");
        }
    }
}

#[test]
fn a_key_that_was_looked_at_while_the_clock_was_wrong_is_looked_at_again() {
    for limits in [ONE, "NULL, 1, 1"] {
        let mut queue = Queue::with_jobs(json!([job("a"), job("a")]));
        limit(&mut queue, limits);
        let tomorrow = fetching_in(86_400);
        assert_eq!(queue.rows(&tomorrow), ["1"]);
        assert_eq!(queue.rows(&tomorrow), NONE);
        queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', false); DELETE FROM procrastinate_diesel_keyed_jobs WHERE job_id = 1");
        assert_eq!(queue.rows(&fetching(9)), ["2"], "{limits}");
    }
}

#[test]
fn a_job_that_is_retried_without_the_limit_starts_under_it() {
    let mut queue = Queue::with_jobs(json!([job("a")]));
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(9)), ["1"]);
    limit(&mut queue, NO_LIMIT);
    queue.run("SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)");
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(9)), ["1"]);
    assert_eq!(queue.rows("SELECT state FROM procrastinate_diesel_keyed_jobs"), ["running"]);
}

#[test]
fn a_job_whose_time_is_changed_without_the_limit_starts_at_the_new_time() {
    let later = json!({ "args": { "tenant": "a" }, "scheduled_at": "2100-01-01" });
    let mut queue = Queue::with_jobs(json!([later, job("b")]));
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(9)), ["2"]);
    limit(&mut queue, NO_LIMIT);
    queue.run("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id = 1");
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(9)), ["1"]);
}

#[test]
fn a_job_that_gets_another_key_without_the_limit_counts_for_the_new_one() {
    let mut queue = Queue::with_jobs(json!([job("a"), job("b"), { "args": { "tenant": "c" }, "priority": 5 }]));
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(1)), ["3"]);
    limit(&mut queue, NO_LIMIT);
    queue.run(r#"UPDATE procrastinate_jobs SET args = '{"tenant": "c"}' WHERE id = 1"#);
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(9)), ["2"]);
}

#[test]
fn a_transaction_that_did_not_see_the_limit_is_noticed_a_second_later() {
    for change in [
        "SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)",
        "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id = 1",
    ] {
        let mut first = json!({ "args": { "tenant": "a" }, "status": "doing" });
        if change.starts_with("UPDATE") {
            first = json!({ "args": { "tenant": "a" }, "scheduled_at": "2100-01-01" });
        }
        let mut queue = Queue::with_jobs(json!([first, job("b")]));
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN; {change}"));
        limit(&mut queue, ONE);
        assert_eq!(queue.rows(&fetching(9)), ["2"]);
        sql(&mut other, "COMMIT");
        // The check marks the job, and the same fetch starts it.
        assert_eq!(queue.rows(&fetching_in(2)), ["1"], "{change}");
    }
}

#[test]
fn a_job_whose_retry_is_stored_without_its_event_starts_again() {
    let mut queue = Queue::with_jobs(json!([job("a")]));
    limit(&mut queue, ONE);
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    queue.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not that event'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_events FOR EACH ROW
             WHEN (NEW.type = 'deferred_for_retry') EXECUTE FUNCTION refuse()",
    );
    let retry = r#"SELECT kind FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
        NULL, '{}', '{}', NULL, 0, '[{"job_id": 1}]', one_by_one => true)"#;
    assert_eq!(queue.rows(retry), ["without_event"]);
    assert_eq!(queue.rows(&fetching(9)), ["1"]);
}

#[test]
fn running_jobs_count_for_a_new_limit_however_many_jobs_wait() {
    let mut queue = Queue::new();
    queue.run(
        r#"INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority)
           SELECT 'default', 'task', '{"tenant": "a"}', 0 FROM generate_series(1, 2500);
           INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority)
           VALUES ('default', 'task', '{"tenant": "a"}', 9)"#,
    );
    assert_eq!(queue.rows(&fetching(1)), ["2501"]);
    limit(&mut queue, ONE);
    for _ in 0..3 {
        assert_eq!(queue.rows(&fetching(1)), NONE);
    }
}

#[test]
fn no_job_starts_under_the_limit_of_its_task_any_more_when_its_queue_has_one() {
    let mut queue = Queue::new();
    queue.run(
        r#"SELECT procrastinate_diesel_limit_keys_v1('task', 'task', '{tenant}', 100, NULL, NULL);
           INSERT INTO procrastinate_jobs (queue_name, task_name, args)
           SELECT 'default', 'task', '{"tenant": "a"}' FROM generate_series(1, 10500);
           SELECT procrastinate_diesel_assign_keys_v1(20000, now())"#,
    );
    limit(&mut queue, ONE);
    // The first fetch notes ten thousand of them, and assigns one thousand.
    assert_eq!(queue.rows(&fetching(10)), ["1"]);
    for _ in 0..12 {
        assert_eq!(queue.rows(&fetching(10)), NONE);
    }
    let states = "SELECT state, count(*) FROM procrastinate_diesel_keyed_jobs AS keyed
        JOIN procrastinate_diesel_limit_keys AS known ON known.id = keyed.key_id
        WHERE known.kind = 'task' AND state <> 'new' GROUP BY state";
    assert_eq!(queue.rows(states), NONE);
}

#[test]
fn a_changed_path_moves_all_jobs_to_their_new_keys() {
    let mut queue = Queue::new();
    queue.run(
        r#"INSERT INTO procrastinate_jobs (queue_name, task_name, args)
           SELECT 'default', 'task', '{"tenant": "a", "account": 1}' FROM generate_series(1, 10500)"#,
    );
    limit(&mut queue, "2, NULL, NULL");
    queue.run("SELECT procrastinate_diesel_assign_keys_v1(20000, now())");
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{account}', 2, NULL, NULL)");
    assert_eq!(queue.rows(&fetching(9)).len(), 1);
    // Each fetch goes on where the former one ended, and says that there is more to do.
    let waits = fetching(9).replace("SELECT id", "SELECT wait_seconds").replace("'fetched'", "'wait'");
    let fetches = (0..30).take_while(|_| queue.rows(&waits) == ["0.01"]).count();
    assert!((9..20).contains(&fetches), "{fetches}");
    let former = "SELECT count(*) FROM procrastinate_diesel_keyed_jobs AS keyed
        JOIN procrastinate_diesel_limit_keys AS known ON known.id = keyed.key_id WHERE known.key_path = '{tenant}'";
    assert_eq!(queue.row(former), "0");
}

#[test]
fn a_long_path_is_refused() {
    let mut queue = Queue::new();
    let path = |length| {
        format!("SELECT procrastinate_diesel_limit_keys_v1('task', 't', ARRAY[repeat('x', {length})], 1, NULL, NULL)")
    };
    queue.run(&path(1022));
    assert!(queue.failure_of(&path(1023)).message().contains("key_path"));
    for period in ["NaN", "Infinity", "1e14", "1e-300", "0"] {
        for function in ["set_limit_v1('task', 't', NULL, 5,", "limit_keys_v1('task', 't', '{x}', NULL, 5,"] {
            let set = format!("SELECT procrastinate_diesel_{function} '{period}')");
            assert!(queue.failure_of(&set).message().contains("period_seconds"), "{set}");
        }
    }
    assert_eq!(rows(&mut queue.connection, "SELECT count(*) FROM procrastinate_diesel_flow_controls"), ["1"]);
}

#[test]
fn a_running_job_counts_while_another_fetch_assigns_it() {
    let mut queue = Queue::with_jobs(json!([job("a"), job("a"), job("b")]));
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    limit(&mut queue, ONE);
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_keyed_jobs WHERE job_id = 1 FOR UPDATE");
    assert_eq!(queue.rows(&fetching(9)), ["3"]);
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetching(9)), NONE);
}

#[test]
fn no_job_starts_before_the_running_ones_are_known_under_a_changed_limit() {
    for change in [
        "SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{other}', 1, NULL, NULL)",
        "SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', NULL, NULL, NULL, NULL);
         SELECT procrastinate_diesel_limit_keys_v1('task', 'task', '{other}', 1, NULL, NULL)",
    ] {
        let both = json!({ "args": { "tenant": "a", "other": "x" } });
        let mut queue = Queue::with_jobs(json!([both, both, job("b")]));
        limit(&mut queue, ONE);
        assert_eq!(queue.rows(&fetching(1)), ["1"]);
        queue.run(change);
        // As a fetch that compares the jobs with the limit.
        let mut other = queue.another_connection();
        sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_limit_states WHERE slot = 0 FOR UPDATE");
        assert_eq!(queue.rows(&fetching(9)), NONE, "{change}");
        sql(&mut other, "COMMIT");
        assert_eq!(queue.rows(&fetching(9)), ["3"], "{change}");
        assert_eq!(queue.rows(&fetching(9)), NONE, "{change}");
    }
}

#[test]
fn a_job_that_is_being_marked_does_not_start_without_a_record() {
    let mut queue = Queue::with_jobs(json!([job("a"), job("a")]));
    limit(&mut queue, ONE_AN_HOUR);
    queue.run("SELECT procrastinate_diesel_assign_keys_v1(10, now())");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; UPDATE procrastinate_diesel_keyed_jobs SET state = 'new' WHERE job_id = 1");
    queue.run("SET statement_timeout = '3s'");
    assert_eq!(queue.rows(&fetching(1)), ["2"]);
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetching(9)), NONE);
}

#[test]
fn an_open_transaction_that_sets_a_limit_for_each_key_beside_another_limit_holds_up_no_fetch() {
    let mut queue = Queue::with_jobs(json!([job("a"), job("a")]));
    queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', 5, NULL, NULL)");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{tenant}', 1, NULL, NULL)");
    queue.run("SET statement_timeout = '3s'");
    assert_eq!(queue.rows(&fetching(1)), ["1"]);
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetching(9)), NONE);
}
