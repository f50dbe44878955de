//! The end of a job with a key: usually its row is just removed. If others may be able to start now, it is marked.

use serde_json::json;

use super::queue::Queue;
use crate::support::{rows, sql};

/// A queue of jobs of the tenant `a`, of which at most so many may run.
fn limited(jobs: usize, most: usize) -> Queue {
    let mut queue = Queue::with_jobs(vec![json!({ "args": { "tenant": "a" } }); jobs].into());
    limit(&mut queue, most);
    queue
}

fn limit(queue: &mut Queue, most: usize) {
    queue.run(&format!(
        "SELECT procrastinate_diesel_limit_keys_v1('queue', 'default', '{{tenant}}', {most}, NULL, NULL)"
    ));
}

/// A statement that fetches for all queues, this many seconds from now.
fn fetching(wanted: usize, seconds: f64) -> String {
    format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
             NULL, '{{}}', '{{}}', NULL, {wanted}, due_at => now() + {seconds} * interval '1 second')
         WHERE kind = 'fetched' ORDER BY id"
    )
}

/// Finishes a job as a worker does.
fn finish(queue: &mut Queue, id: i64) {
    queue.rows(&format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{{id}}}', '{{succeeded}}', '{{none}}', 0)"
    ));
}

/// The rows of jobs that were started.
fn started(queue: &mut Queue) -> Vec<String> {
    queue.rows(
        "SELECT job_id, state FROM procrastinate_diesel_keyed_jobs WHERE state IN ('running', 'ended') ORDER BY job_id",
    )
}

#[test]
fn the_end_of_a_job_is_noted_only_if_its_key_is_nearly_full() {
    for (most, left) in [(2, "1 | ended"), (3, "")] {
        let mut queue = limited(9, most);
        assert_eq!(queue.rows(&fetching(1, 0.0)), ["1"]);
        finish(&mut queue, 1);
        assert_eq!(started(&mut queue).join(","), left, "with a limit of {most}");
        // Either way the place is free.
        assert_eq!(queue.rows(&fetching(9, 0.0)).len(), most, "with a limit of {most}");
        assert_eq!(queue.rows(&fetching(9, 0.0)), [""; 0]);
    }
    // The contract's function always notes it.
    let mut queue = limited(9, 3);
    assert_eq!(queue.rows(&fetching(1, 0.0)), ["1"]);
    queue.row("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    assert_eq!(started(&mut queue), ["1 | ended"]);
}

#[test]
fn the_end_of_a_job_that_others_can_wait_for_is_noted() {
    // Others of its key may have the same lock.
    let mut queue = Queue::new();
    limit(&mut queue, 100);
    queue.add(vec![json!({ "args": { "tenant": "a" }, "lock": "x" }); 2].into());
    assert_eq!(queue.rows(&fetching(9, 0.0)), ["1"]);
    assert_eq!(queue.rows(&fetching(9, 0.0)), [""; 0]);
    finish(&mut queue, 1);
    assert_eq!(started(&mut queue), ["1 | ended"]);
    assert_eq!(queue.rows(&fetching(9, 0.0)), ["2"]);

    // A job that another worker runs, or that waits again, has not ended.
    let mut queue = limited(2, 100);
    let [worker, other] = [queue.register_worker(), queue.register_worker()];
    queue.rows(&format!("SELECT * FROM procrastinate_fetch_job_v2(NULL, {worker})"));
    let lost = format!(
        "SELECT kind FROM procrastinate_diesel_finish_and_fetch_jobs_v1({other}, '{{1}}', '{{succeeded}}', '{{none}}', 0)"
    );
    assert_eq!(queue.rows(&lost), ["lost"]);
    assert_eq!(started(&mut queue), ["1 | running"]);
    queue.row("SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)");
    queue.rows("SELECT * FROM procrastinate_diesel_end_keyed_jobs_v1('{1,2}')");
    assert_eq!(queue.rows(&fetching(9, 0.0)), ["1", "2"]);
}

#[test]
fn a_key_that_becomes_full_while_one_of_its_jobs_ends_is_looked_at_soon() {
    let mut queue = limited(9, 4);
    assert_eq!(queue.rows(&fetching(1, 0.0)), ["1"]);
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN");
    assert_eq!(rows(&mut other, &fetching(9, 0.0)), ["2", "3", "4"]);
    // It does not know that the key is full now.
    finish(&mut queue, 1);
    assert_eq!(started(&mut queue), [""; 0]);
    sql(&mut other, "COMMIT");
    assert_eq!(queue.rows(&fetching(9, 0.0)), [""; 0]);
    assert_eq!(queue.rows(&fetching(9, 0.15)), ["5"]);
    // From now on the ends are noted.
    finish(&mut queue, 2);
    assert_eq!(queue.rows(&fetching(9, 0.0)), ["6"]);
    assert_eq!(queue.rows(&fetching(9, 0.15)), [""; 0]);
}

#[test]
fn a_limit_that_was_lowered_below_what_runs_lets_the_next_job_start_in_time() {
    let mut queue = limited(20, 10);
    assert_eq!(queue.rows(&fetching(4, 0.0)).len(), 4);
    limit(&mut queue, 2);
    assert_eq!(queue.rows(&fetching(9, 0.0)), [""; 0]);
    for id in [1, 2] {
        finish(&mut queue, id);
        assert_eq!(queue.rows(&fetching(9, 0.0)), [""; 0]);
    }
    finish(&mut queue, 3);
    assert_eq!(queue.rows(&fetching(9, 0.0)), ["5"]);
}
