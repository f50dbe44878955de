//! Limits with much room. Up to four fetches start jobs at the same time, each in a slot, and never more than the limit
//! allows.

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
        // What comes later waits for it.
        let next = Waiting::start(&mut queue, &fetch(1));
        sql(&mut other, "COMMIT");
        assert_eq!(waiting.rows().len(), wanted);
        assert_eq!(next.rows().len(), usize::from(wanted == 10));
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
