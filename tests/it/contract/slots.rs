//! Limits with much room. Up to four fetches start jobs at the same time, each in a slot, and never more than the limit
//! allows. In a slot that has jobs left from the last count, a fetch does not count again.

use diesel::PgConnection;
use serde_json::{Value, json};

use super::queue::{Queue, Waiting};
use crate::support::{rows, sql, try_rows};

/// A queue with so many jobs, whose limit is 80: a fetch in a slot starts up to 10. A fetch alone has started the first
/// ones.
fn limited(jobs: usize, started: usize, limit: &str) -> Queue {
    let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); jobs]));
    queue.run(&format!("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', {limit})"));
    assert_eq!(queue.rows(&fetch(started)).len(), started);
    queue
}

const RUNNING: &str = "80, NULL, NULL";
const STARTS: &str = "NULL, 80, 3600";

fn fetch(wanted: usize) -> String {
    format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', '{{default}}', {wanted}) \
         WHERE kind = 'fetched'"
    )
}

/// A transaction that has fetched so many jobs and stays open. It did not wait.
fn open(queue: &mut Queue, wanted: usize) -> PgConnection {
    let mut connection = queue.another_connection();
    sql(&mut connection, "BEGIN; SET LOCAL statement_timeout = '2s'");
    assert_eq!(rows(&mut connection, &fetch(wanted)).len(), wanted);
    connection
}

fn running(queue: &mut Queue) -> String {
    queue.row("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'")
}

#[test]
fn four_fetches_do_not_wait_for_each_other() {
    for limit in [RUNNING, STARTS] {
        let mut queue = limited(100, 30, limit);
        let mut others: Vec<_> = (0..4).map(|_| open(&mut queue, 10)).collect();
        // When this one has a slot, there is too little room for three others. So it tries to be alone.
        let waiting = Waiting::start(&mut queue, &fetch(10));
        others.iter_mut().for_each(|other| sql(other, "COMMIT"));
        // Perhaps not all of the others had committed.
        let found = waiting.rows().len();
        assert!(found == 0 || found == 10, "{limit}: {found}");
        assert_eq!(queue.rows(&fetch(20)).len(), 10 - found, "{limit}");
        assert_eq!(running(&mut queue), "80", "{limit}");
    }
}

#[test]
fn a_slot_is_free_again_after_a_rollback() {
    let mut queue = limited(100, 1, RUNNING);
    let mut others: Vec<_> = (0..4).map(|_| open(&mut queue, 10)).collect();
    let waiting = Waiting::start(&mut queue, &fetch(3));
    others.iter_mut().for_each(|other| sql(other, "ROLLBACK"));
    assert_eq!(waiting.rows().len(), 3);
    assert_eq!(running(&mut queue), "4");
}

#[test]
fn a_fetch_that_leaves_too_little_room_for_the_others_waits_until_it_is_alone() {
    for (limit, wanted) in [(RUNNING, 10), (STARTS, 10), (RUNNING, 40)] {
        let mut queue = limited(100, 31, limit);
        // For 9 there is room: 31, 9 and four times 10 are 80.
        let mut other = open(&mut queue, 9);
        let waiting = Waiting::start(&mut queue, &fetch(wanted));
        // Meanwhile it holds up nobody who needs only a slot.
        assert_eq!(queue.rows(&fetch(1)).len(), 1);
        sql(&mut other, "COMMIT");
        assert_eq!(waiting.rows().len(), wanted.min(39));
        assert_eq!(running(&mut queue), if wanted == 10 { "51" } else { "80" });
    }
}

#[test]
fn under_a_changed_limit_the_first_fetch_is_alone() {
    for (most, found) in [(40, 0), (90, 2)] {
        let mut queue = limited(100, 31, RUNNING);
        let mut other = open(&mut queue, 10);
        queue.run(&format!("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', {most}, NULL, NULL)"));
        let waiting = Waiting::start(&mut queue, &fetch(2));
        sql(&mut other, "COMMIT");
        assert_eq!(waiting.rows().len(), found, "{most}");
        // From then on there are slots again.
        let mut others = [open(&mut queue, found), open(&mut queue, found)];
        others.iter_mut().for_each(|other| sql(other, "COMMIT"));
    }
}

#[test]
fn a_limit_that_is_removed_while_a_fetch_waits_holds_back_no_job() {
    let mut queue = limited(100, 79, RUNNING);
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN");
    assert_eq!(rows(&mut other, &fetch(20)).len(), 1);
    let waiting = Waiting::start(&mut queue, &fetch(20));
    queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', NULL, NULL, NULL)");
    sql(&mut other, "COMMIT");
    assert_eq!(waiting.rows().len(), 20);
}

#[test]
fn a_full_limit_is_not_locked() {
    let mut queue = limited(100, 31, RUNNING);
    let _other = open(&mut queue, 10);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', 31, NULL, NULL)");
    assert_eq!(queue.rows(&fetch(2)), [""; 0]);
}

#[test]
fn a_snapshot_that_does_not_see_the_jobs_of_a_slot_fails() {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = limited(100, 1, RUNNING);
        let mut isolated = queue.another_connection();
        sql(&mut isolated, &format!("BEGIN ISOLATION LEVEL {isolation}"));
        assert_eq!(rows(&mut isolated, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"), ["1"]);
        sql(&mut open(&mut queue, 10), "COMMIT");
        let error = try_rows(&mut isolated, &fetch(1)).unwrap_err();
        assert!(error.to_string().contains("could not serialize access"), "{error}");
        sql(&mut isolated, "ROLLBACK");
        // With a new one it is alone.
        sql(&mut isolated, &format!("BEGIN ISOLATION LEVEL {isolation}"));
        assert_eq!(rows(&mut isolated, &fetch(10)).len(), 10);
        let waiting = Waiting::start(&mut queue, &fetch(10));
        sql(&mut isolated, "COMMIT");
        assert_eq!(waiting.rows().len(), 10);
    }
}

#[test]
fn a_fetch_with_an_old_snapshot_and_one_that_tried_a_slot_do_not_wait_for_each_other() {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = limited(100, 1, RUNNING);
        // As after a fetch that found a slot with jobs left, but none of another limit.
        queue.run(
            "BEGIN; SET LOCAL statement_timeout = '5s';
             SELECT set_config('procrastinate_diesel.holds_limits', kind || ' ' || name, true)
             FROM procrastinate_diesel_limit_states WHERE kind = 'queue' AND slot = 1 FOR UPDATE",
        );
        let mut isolated = queue.another_connection();
        sql(&mut isolated, &format!("SET default_transaction_isolation = '{isolation}'"));
        let waiting = Waiting::start_on(isolated, &mut queue, &fetch(1));
        assert_eq!(queue.rows(&fetch(1)).len(), 1);
        queue.run("COMMIT");
        let error = waiting.result().unwrap_err();
        assert!(error.to_string().contains("could not serialize access"), "{error}");
    }
}

#[test]
fn a_fetch_that_shares_a_limit_waits_for_no_other_limit() {
    let mut queue = limited(100, 1, RUNNING);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('task', 'task', 80, NULL, NULL)");
    assert_eq!(queue.rows(&fetch(1)).len(), 1);
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_limit_states WHERE kind = 'queue' FOR UPDATE");
    // As after a fetch that found a slot of the second limit alone.
    queue.run(
        "BEGIN; SET LOCAL statement_timeout = '3s';
         SELECT set_config('procrastinate_diesel.holds_limits', kind || ' ' || name, true)
         FROM procrastinate_diesel_limit_states WHERE kind = 'task' AND slot = 1 FOR UPDATE",
    );
    assert_eq!(queue.rows(&fetch(1)), [""; 0]);
    queue.run("COMMIT");
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetch(1)).len(), 1);
}

#[test]
fn a_fetch_that_shares_a_limit_waits_for_one_after_it() {
    let mut queue = counted(100, 30, RUNNING);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('task', 'task', 40, NULL, NULL)");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_limit_states WHERE kind = 'task' FOR UPDATE");
    let plain = plain(&mut queue);
    let waiting = Waiting::start_on(plain, &mut queue, &fetch(1));
    sql(&mut other, "COMMIT");
    assert_eq!(waiting.rows().len(), 1);
}

/// A connection whose next fetch tries to do without a count.
fn plain(queue: &mut Queue) -> PgConnection {
    let mut connection = queue.another_connection();
    sql(&mut connection, "SET procrastinate_diesel.flow_control = 'plain'; SET statement_timeout = '10s'");
    connection
}

#[test]
fn a_limit_for_each_key_of_another_queue_does_not_matter() {
    let mut queue = counted(100, 30, RUNNING);
    queue.run("SELECT procrastinate_diesel_limit_keys_v1('queue', 'other', '{tenant}', 1, NULL, NULL)");
    assert_eq!(queue.rows(&fetch(5)).len(), 5);
    assert_eq!(left(&mut queue), ["4", "0", "0", "0"]);
}

#[test]
fn a_transaction_that_fetches_again_waits_for_nobody() {
    let mut queue = limited(100, 1, RUNNING);
    let mut first = open(&mut queue, 10);
    // Nobody else is there.
    assert_eq!(rows(&mut first, &fetch(10)).len(), 10);
    sql(&mut first, "COMMIT");
    let [mut first, mut second] = [open(&mut queue, 10), open(&mut queue, 10)];
    for each in [&mut first, &mut second] {
        assert_eq!(rows(each, &fetch(10)), [""; 0]);
    }
    sql(&mut first, "COMMIT");
    assert_eq!(rows(&mut second, &fetch(10)).len(), 10);
    sql(&mut second, "COMMIT");
    assert_eq!(running(&mut queue), "51");
}

/// How many jobs each slot has left.
fn left(queue: &mut Queue) -> Vec<String> {
    queue.rows("SELECT jobs_left FROM procrastinate_diesel_limit_states WHERE slot > 0 ORDER BY slot")
}

/// Like [`limited`], and a fetch of one job has left 9 in the first slot.
fn counted(jobs: usize, started: usize, limit: &str) -> Queue {
    let mut queue = limited(jobs, started, limit);
    assert_eq!(queue.rows(&fetch(1)).len(), 1);
    assert_eq!(left(&mut queue), ["9", "0", "0", "0"]);
    queue
}

#[test]
fn a_fetch_takes_the_jobs_that_are_left_in_a_slot() {
    for limit in [RUNNING, STARTS] {
        let mut queue = counted(100, 25, limit);
        for (wanted, after) in [(5, "4"), (4, "0")] {
            assert_eq!(queue.rows(&fetch(wanted)).len(), wanted);
            assert_eq!(left(&mut queue), [after, "0", "0", "0"], "{limit}");
        }
        // There are none left, so this one counts: 35 run, and besides the other slots there is room for 15. A slot may
        // start ten of them.
        assert_eq!(queue.rows(&fetch(4)).len(), 4);
        assert_eq!(left(&mut queue), ["6", "0", "0", "0"], "{limit}");
        assert_eq!(running(&mut queue), "39");
    }
}

#[test]
fn what_is_left_is_over_when_a_fetch_was_alone() {
    for limit in [RUNNING, STARTS] {
        let mut queue = counted(100, 30, limit);
        let mut alone = queue.another_connection();
        assert_eq!(rows(&mut alone, &fetch(60)).len(), 49, "{limit}");
        assert_eq!(queue.rows(&fetch(1)), [""; 0], "{limit}");
        assert_eq!(running(&mut queue), "80");
    }
}

#[test]
fn what_is_left_is_over_when_the_limit_was_changed() {
    // With 81 a slot may start as many jobs as with 80.
    for (most, found) in [(31, 0), (33, 2), (81, 5)] {
        let mut queue = counted(100, 30, RUNNING);
        queue.run(&format!("SELECT procrastinate_diesel_set_limit_v1('queue', 'default', {most}, NULL, NULL)"));
        assert_eq!(queue.rows(&fetch(5)).len(), found, "{most}");
    }
    let mut queue = counted(100, 30, RUNNING);
    queue.run("SELECT procrastinate_diesel_pause_v1('queue', 'default')");
    assert_eq!(queue.rows(&fetch(1)), [""; 0]);
    // A fetch between two changes in one transaction counts under the first one.
    let mut queue = counted(100, 30, RUNNING);
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT procrastinate_diesel_set_limit_v1('queue', 'default', 80, NULL, NULL)");
    assert_eq!(rows(&mut other, &fetch(1)).len(), 1);
    sql(&mut other, "SELECT procrastinate_diesel_set_limit_v1('queue', 'default', 33, NULL, NULL); COMMIT");
    assert_eq!(queue.rows(&fetch(5)).len(), 1);
}

#[test]
fn a_fetch_that_wants_to_be_alone_waits_for_one_that_does_not_count() {
    let mut queue = counted(100, 30, RUNNING);
    queue.run("BEGIN");
    assert_eq!(queue.rows(&fetch(9)).len(), 9);
    let waiting = Waiting::start(&mut queue, &fetch(60));
    queue.run("COMMIT");
    assert_eq!(waiting.rows().len(), 40);
    assert_eq!(running(&mut queue), "80");
}

#[test]
fn a_rollback_leaves_the_jobs_in_the_slot() {
    let mut queue = counted(100, 30, RUNNING);
    queue.run("BEGIN");
    assert_eq!(queue.rows(&fetch(5)).len(), 5);
    queue.run("ROLLBACK");
    assert_eq!(left(&mut queue), ["9", "0", "0", "0"]);
    // A second fetch of the transaction counts, and waits for nobody.
    queue.run("BEGIN");
    assert_eq!(queue.rows(&fetch(5)).len(), 5);
    let mut other = open(&mut queue, 1);
    assert_eq!(queue.rows(&fetch(5)), [""; 0]);
    sql(&mut other, "COMMIT");
    queue.run("COMMIT");
    assert_eq!(running(&mut queue), "37");
}

#[test]
fn only_the_jobs_of_the_limit_count_as_starts() {
    let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); 20]));
    queue.run(
        "UPDATE procrastinate_jobs SET task_name = 'other' WHERE id % 2 = 0;
         SELECT procrastinate_diesel_set_limit_v1('task', 'other', NULL, 80, 3600)",
    );
    for (wanted, started, counted) in [(1, 1, 0), (2, 2, 1), (3, 3, 3), (5, 5, 5), (4, 4, 7), (9, 5, 10)] {
        assert_eq!(queue.rows(&fetch(wanted)).len(), started);
        assert_eq!(recorded_starts(&mut queue), counted.to_string(), "{wanted}");
    }
}

fn recorded_starts(queue: &mut Queue) -> String {
    queue
        .row("SELECT coalesce(sum(starts), 0) FROM procrastinate_diesel_limit_states, unnest(counted_starts) AS starts")
}

#[test]
fn a_fetch_that_finds_fewer_jobs_than_it_takes_from_its_slot_records_those_that_it_starts() {
    for (queues, after) in [("'{default}'", 33), ("NULL", 33)] {
        let mut queue = counted(33, 30, STARTS);
        let fetch = fetch(5).replace("'{default}'", queues);
        assert_eq!(queue.rows(&fetch).len(), 2);
        assert_eq!(recorded_starts(&mut queue), after.to_string(), "{queues}");
        assert_eq!(queue.rows(&fetch), [""; 0]);
        assert_eq!(recorded_starts(&mut queue), after.to_string(), "{queues}");
        queue.add(json!([{}, {}]));
        assert_eq!(queue.rows(&fetch).len(), 2);
        assert_eq!(recorded_starts(&mut queue), "35", "{queues}");
    }
}

#[test]
fn a_fetch_that_waits_after_it_has_a_slot_does_not_record_its_starts_as_earlier_than_they_are() {
    for wanted in [5, 9] {
        // An entry of starts is 0.1 seconds long.
        let mut queue = counted(36, 30, "NULL, 80, 10");
        queue.run("BEGIN; LOCK TABLE procrastinate_events IN SHARE MODE");
        let waiting = Waiting::start(&mut queue, &fetch(wanted));
        queue.run("SELECT pg_sleep(0.15)");
        let released_at = queue.row("SELECT clock_timestamp()");
        queue.run("COMMIT");
        assert_eq!(waiting.rows().len(), 5);
        let later = format!(
            "SELECT sum(starts) FROM procrastinate_diesel_limit_states,
                 unnest(started_at, counted_starts) AS entry (at, starts)
             WHERE at >= '{released_at}'"
        );
        assert_eq!(queue.row(&later), "5", "{wanted}");
        assert_eq!(recorded_starts(&mut queue), "36", "{wanted}");
    }
}

#[test]
fn a_fetch_takes_the_jobs_that_are_left_in_a_slot_of_each_limit() {
    for of_queue in [RUNNING, STARTS] {
        let mut queue = limited(100, 30, of_queue);
        queue.run(
            "SELECT procrastinate_diesel_set_limit_v1('task', 'task', 80, NULL, NULL);
             SELECT procrastinate_diesel_set_limit_v1('task', 'other', 1, NULL, NULL)",
        );
        // The first fetch under a changed limit is alone.
        for (wanted, after) in [(1, ""), (1, "9, 9"), (5, "4, 4"), (4, "0, 0")] {
            assert_eq!(queue.rows(&fetch(wanted)).len(), wanted);
            if !after.is_empty() {
                assert_eq!(left_in_first_slots(&mut queue), after, "{of_queue}");
            }
        }
        assert_eq!(running(&mut queue), "41");
        if of_queue == STARTS {
            assert_eq!(recorded_starts(&mut queue), "41");
        }
    }
}

#[test]
fn a_fetch_that_finds_no_slot_of_one_limit_has_started_no_jobs_of_the_other() {
    let mut queue = limited(100, 30, STARTS);
    queue.run("SELECT procrastinate_diesel_set_limit_v1('task', 'task', 80, NULL, NULL)");
    for _ in 0..2 {
        assert_eq!(queue.rows(&fetch(1)).len(), 1);
    }
    assert_eq!(left_in_first_slots(&mut queue), "9, 9");
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_diesel_limit_states WHERE kind = 'task' AND slot = 1 FOR UPDATE");
    // It has taken five from the slot of the queue before it notices.
    let found = queue.rows(&fetch(5)).len();
    assert_eq!(recorded_starts(&mut queue), (32 + found).to_string());
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetch(5)).len(), 5);
    assert_eq!(recorded_starts(&mut queue), (37 + found).to_string());
}

fn left_in_first_slots(queue: &mut Queue) -> String {
    queue.row(
        "SELECT string_agg(jobs_left::text, ', ' ORDER BY kind) FROM procrastinate_diesel_limit_states WHERE slot = 1",
    )
}

#[test]
fn a_pause_of_a_queue_without_jobs_holds_back_only_the_jobs_that_come() {
    let of_all = |wanted| fetch(wanted).replace("'{default}'", "NULL");
    for control in ["pause_v1('queue', 'other')", "set_limit_v1('queue', 'other', 1, NULL, NULL)"] {
        let mut queue = Queue::with_jobs(Value::Array(vec![json!({}); 20]));
        queue.run(&format!("SELECT procrastinate_diesel_{control}"));
        for _ in 0..3 {
            assert_eq!(queue.rows(&of_all(2)).len(), 2);
        }
        queue.run("INSERT INTO procrastinate_jobs (queue_name, task_name, priority) VALUES ('other', 't', 5), ('other', 't', 5)");
        let others = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'other' AND status = 'doing'";
        for _ in 0..3 {
            assert_eq!(queue.rows(&of_all(2)).len(), 2, "{control}");
        }
        assert_eq!(queue.row(others), if control.starts_with("pause") { "0" } else { "1" }, "{control}");
    }
}
