//! The record of who did what: changes of many jobs in steps, and other actions.

use serde_json::{Value, json};

use super::queue::{Queue, Waiting};
use crate::support::{rows, sql};

const RECORD: &str =
    "SELECT procrastinate_diesel_record_action_v1('anna', 'pause', 'queue mails', '{\"reason\": \"x\"}')";

fn begin(action: &str) -> String {
    format!("SELECT * FROM procrastinate_diesel_begin_action_v1('anna', '{action}', 'jobs', NULL, 3000)")
}

/// A step of the first action.
fn step(from: i64, to: i64, is_last: bool) -> String {
    format!(
        "SELECT * FROM procrastinate_diesel_change_some_jobs_v1(
             1, ARRAY(SELECT generate_series({from}, {to})), {is_last}, 'cancel', NULL, NULL, NULL, NULL)"
    )
}

const COUNTS: &str = "SELECT selected, changed, skipped, refused, finished_at IS NOT NULL, problem
                      FROM procrastinate_diesel_actions WHERE id = 1";
const CHUNKS: &str = "SELECT action_id, first_job_id, cardinality(job_ids), job_ids[cardinality(job_ids)]
                      FROM procrastinate_diesel_action_jobs ORDER BY first_job_id";

#[test]
fn an_action_that_stops_in_the_middle_says_what_was_done() {
    let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); 3_000]));
    queue.run(
        "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 7;
         CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN RAISE 'stop' USING ERRCODE = 'query_canceled'; END$$;
         CREATE TRIGGER guard BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 1500)
             EXECUTE FUNCTION guard()",
    );
    assert_eq!(queue.row(&begin("cancel")), "1 | 0 | 3000");
    assert_eq!(queue.row(&step(1, 1_000, false)), "999 | 1 | 0 | []");
    assert_eq!(queue.failure_of(&step(1_001, 2_000, false)).message(), "stop");
    assert_eq!(queue.row(COUNTS), "3000 | 999 | 1 | 0 | false | NULL");
    assert_eq!(queue.rows(CHUNKS), ["1 | 1 | 999 | 1000"]);
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_jobs WHERE status = 'cancelled'"), "999");
    // What has failed can be done again.
    queue.run("DROP TRIGGER guard ON procrastinate_jobs");
    assert_eq!(queue.row(&step(1_001, 2_000, false)), "1000 | 0 | 0 | []");
    assert_eq!(queue.row(&step(2_001, 3_001, true)), "1000 | 1 | 0 | []");
    assert_eq!(queue.row(COUNTS), "3000 | 2999 | 2 | 0 | true | NULL");
    assert_eq!(queue.rows(CHUNKS), ["1 | 1 | 999 | 1000", "1 | 1001 | 1000 | 2000", "1 | 2001 | 1000 | 3000"]);
    // It is over.
    assert!(queue.failure_of(&step(7, 7, true)).message().contains("action 1"));
    assert_eq!(queue.row("SELECT procrastinate_diesel_end_action_v1(1, 'late')"), "false");
}

#[test]
fn an_action_keeps_its_first_problem_and_returns_five() {
    let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); 20]));
    queue.run(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
         CREATE TRIGGER guard BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id % 2 = 0)
             EXECUTE FUNCTION guard()",
    );
    queue.row(&begin("cancel"));
    let problems = queue.row(&step(1, 20, false));
    assert!(problems.starts_with("10 | 0 | 10 | ["), "{problems}");
    assert_eq!(problems.matches("no (SQLSTATE P0001)").count(), 5);
    assert_eq!(queue.row(COUNTS), "3000 | 10 | 0 | 10 | false | job 2: no (SQLSTATE P0001)");
    assert_eq!(queue.row("SELECT procrastinate_diesel_end_action_v1(1, 'lost')"), "true");
    assert_eq!(queue.row(COUNTS), "3000 | 10 | 0 | 10 | true | lost");
}

#[test]
fn the_range_of_an_action_begins_at_the_first_job_with_its_status_and_ends_at_the_newest() {
    let begin = "SELECT start_after, last_job_id
                 FROM procrastinate_diesel_begin_action_v1('anna', 'cancel', 'jobs', NULL, NULL, 'todo')";
    let mut queue = Queue::new();
    assert_eq!(queue.row(begin), "0 | 0");
    queue.add(json!([{ "status": "succeeded" }, { "status": "failed" }]));
    assert_eq!(queue.row(begin), "2 | 2");
    queue.add(json!([{}, { "lock": "a" }, { "status": "succeeded" }]));
    assert_eq!(queue.row(begin), "2 | 5");
    assert_eq!(queue.row(&begin.replace("'todo'", "'failed'")), "0 | 5");
}

#[test]
fn a_record_is_a_part_of_the_transaction() {
    let mut queue = Queue::new();
    queue.and_undo(|queue| queue.row(RECORD));
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_diesel_actions"), "0");
    queue.run("BEGIN ISOLATION LEVEL SERIALIZABLE");
    queue.row(RECORD);
    queue.run("COMMIT");
    assert_eq!(
        queue.row("SELECT actor, action, target, details, selected, changed, finished_at >= at FROM procrastinate_diesel_actions"),
        "anna | pause | queue mails | {\"reason\": \"x\"} | NULL | 0 | true"
    );
}

#[test]
fn the_actions_on_a_job_are_listed_newest_first() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    for action in 1..=3 {
        queue.row(&begin("priority"));
        let job = if action == 2 { "1" } else { "1, 2" };
        queue.row(&format!(
            "SELECT * FROM procrastinate_diesel_change_some_jobs_v1(
                 {action}, ARRAY[{job}]::bigint[], true, 'priority', NULL, {action}, NULL, NULL)"
        ));
    }
    let on = |job: i64, before: &str, most: i64| {
        format!("SELECT id, action FROM procrastinate_diesel_actions_on_job_v1({job}, {before}, {most})")
    };
    assert_eq!(queue.rows(&on(1, "NULL", 2)), ["3 | priority", "2 | priority"]);
    assert_eq!(queue.rows(&on(1, "2", 2)), ["1 | priority"]);
    assert_eq!(queue.rows(&on(2, "NULL", 9)), ["3 | priority", "1 | priority"]);
    // The record outlives the job.
    queue.run("DELETE FROM procrastinate_jobs");
    assert_eq!(queue.rows(&on(2, "3", 9)), ["1 | priority"]);
}

#[test]
fn new_actions_delete_old_ones_in_small_steps() {
    let mut queue = Queue::new();
    queue.run(
        "INSERT INTO procrastinate_diesel_actions (at, actor, action, target)
         SELECT now() - interval '1 year' - interval '1 day', 'bob', 'retry', 'jobs' FROM generate_series(1, 150);
         INSERT INTO procrastinate_diesel_actions (at, actor, action, target)
         SELECT now() - interval '364 days', 'bob', 'retry', 'jobs' FROM generate_series(1, 2);
         INSERT INTO procrastinate_diesel_action_jobs
         SELECT 1, number, ARRAY[number] FROM generate_series(1, 120) AS number;
         INSERT INTO procrastinate_diesel_action_jobs VALUES (2, 1, '{1}'), (151, 1, '{1}')",
    );
    let kept = "SELECT (SELECT count(*) FROM procrastinate_diesel_actions WHERE actor = 'bob'),
                       (SELECT count(*) FROM procrastinate_diesel_action_jobs)";
    // An action goes after its steps, and no call deletes more than a hundred of each.
    let mut counts = Vec::new();
    for _ in 0..4 {
        queue.row(RECORD);
        counts.push(queue.row(kept));
    }
    assert_eq!(counts.last().unwrap(), "2 | 1", "{counts:?}");
    assert!(counts[0].ends_with(" | 22"), "{counts:?}");
}

#[test]
fn a_record_waits_for_no_other_one() {
    let mut queue = Queue::new();
    let mut other = queue.another_connection();
    queue.run(
        "INSERT INTO procrastinate_diesel_actions (at, actor, action, target)
         SELECT now() - interval '2 years', 'bob', 'retry', 'jobs' FROM generate_series(1, 3)",
    );
    sql(&mut other, "BEGIN");
    rows(&mut other, RECORD);
    assert_eq!(queue.row(RECORD), "5");
    // Nor does the next step of an action.
    rows(&mut other, &begin("cancel"));
    sql(&mut other, "COMMIT; BEGIN");
    rows(&mut other, RECORD);
    queue.row("SELECT procrastinate_diesel_end_action_v1(6, 'x')");
    sql(&mut other, "COMMIT");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_diesel_actions WHERE actor = 'bob'"), "0");
}

#[test]
fn a_step_of_an_action_waits_for_a_job_and_counts_it_as_skipped() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    queue.row(&begin("cancel"));
    let mut worker = queue.another_connection();
    sql(&mut worker, "BEGIN; SELECT procrastinate_fetch_job_v2(NULL, NULL)");
    let bulk = Waiting::start(&mut queue, &step(1, 2, true));
    sql(&mut worker, "COMMIT");
    assert_eq!(bulk.rows(), ["1 | 1 | 0 | []"]);
    assert_eq!(queue.rows(CHUNKS), ["1 | 2 | 1 | 2"]);
}
