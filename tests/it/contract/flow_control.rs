//! Pauses and limits. Both functions that fetch obey them, so workers of every language do.

use serde_json::{Value, json};

use super::queue::{Queue, Waiting};
use crate::support::{rows, sql, try_rows};

/// The functions that fetch, for so many jobs of these queues. The contract's is called once for each job.
fn fetch_by_either(queue: &mut Queue, queues: &str, wanted: usize) -> Vec<i64> {
    let by_contract = queue.and_undo(|queue| {
        let mut ids: Vec<i64> = (0..wanted).map_while(|_| queue.fetch(queues)).collect();
        ids.sort_unstable();
        ids
    });
    let by_ours = queue.and_undo(|queue| fetch(queue, queues, wanted));
    assert_eq!(by_ours, by_contract, "by the crate's function, and by the contract's");
    by_ours
}

/// Fetches by the crate's function.
fn fetch(queue: &mut Queue, queues: &str, wanted: usize) -> Vec<i64> {
    let ids = queue.rows(&format!(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', {queues}, {wanted}) \
         WHERE kind = 'fetched' ORDER BY id"
    ));
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn pause(queue: &mut Queue, kind: &str, name: &str) {
    queue.run(&format!("SELECT procrastinate_diesel_pause_v1('{kind}', '{name}')"));
}

fn limit_running(queue: &mut Queue, kind: &str, name: &str, most: i32) {
    queue.run(&format!("SELECT procrastinate_diesel_set_limit_v1('{kind}', '{name}', {most}, NULL, NULL)"));
}

fn limit_starts(queue: &mut Queue, kind: &str, name: &str, most: i32, seconds: f64) {
    queue.run(&format!("SELECT procrastinate_diesel_set_limit_v1('{kind}', '{name}', NULL, {most}, {seconds})"));
}

/// Jobs of every kind, of two queues and two tasks: plain, with a lock, scheduled and due.
fn jobs_of_every_kind() -> Value {
    let mut jobs = Vec::new();
    for queue_name in ["a", "b"] {
        for task_name in ["x", "y"] {
            let lock = format!("{queue_name}{task_name}");
            jobs.push(json!({ "queue_name": queue_name, "task_name": task_name }));
            jobs.push(json!({ "queue_name": queue_name, "task_name": task_name, "lock": lock }));
            jobs.push(json!({ "queue_name": queue_name, "task_name": task_name, "scheduled_at": "yesterday" }));
        }
    }
    Value::Array(jobs)
}

/// Of `jobs_of_every_kind`, those that can be fetched from all queues, from one, and from both by name.
fn fetchable(queue: &mut Queue) -> [Vec<i64>; 3] {
    ["NULL", "'{a}'", "'{a,b}'"].map(|queues| fetch_by_either(queue, queues, 20))
}

#[test]
fn no_job_of_a_paused_queue_or_task_starts() {
    let mut queue = Queue::with_jobs(jobs_of_every_kind());
    let (a, b): (Vec<i64>, Vec<i64>) = ((1..=6).collect(), (7..=12).collect());
    assert_eq!(fetchable(&mut queue), [(1..=12).collect(), a, (1..=12).collect()]);

    pause(&mut queue, "queue", "a");
    assert_eq!(fetchable(&mut queue), [b.clone(), vec![], b.clone()]);
    pause(&mut queue, "task", "x");
    assert_eq!(fetchable(&mut queue), [vec![10, 11, 12], vec![], vec![10, 11, 12]]);
    queue.run("SELECT procrastinate_diesel_resume_v1('queue', 'a')");
    assert_eq!(fetchable(&mut queue), [vec![4, 5, 6, 10, 11, 12], vec![4, 5, 6], vec![4, 5, 6, 10, 11, 12]]);
    // A name that both a queue and a task have.
    pause(&mut queue, "queue", "x");
    queue.run("SELECT procrastinate_diesel_resume_v1('task', 'x')");
    assert_eq!(fetchable(&mut queue)[0], (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_paused_job_is_not_overtaken_by_another_one_with_its_lock() {
    let jobs = json!([{ "task_name": "x", "lock": "l" }, { "task_name": "y", "lock": "l" }, { "task_name": "y" }]);
    let mut queue = Queue::with_jobs(jobs);
    pause(&mut queue, "task", "x");
    assert_eq!(fetch_by_either(&mut queue, "NULL", 5), [3]);
}

#[test]
fn a_limit_is_filled_and_the_jobs_of_others_start_in_their_order() {
    let mut queue = Queue::with_jobs(jobs_of_every_kind());
    limit_running(&mut queue, "queue", "a", 2);
    assert_eq!(fetchable(&mut queue), [vec![1, 2, 7, 8, 9, 10, 11, 12], vec![1, 2], vec![1, 2, 7, 8, 9, 10, 11, 12]]);
    limit_running(&mut queue, "task", "x", 1);
    assert_eq!(fetchable(&mut queue), [vec![1, 4, 10, 11, 12], vec![1, 4], vec![1, 4, 10, 11, 12]]);
    // Jobs that run already count, whoever has started them.
    queue.add(json!([{ "queue_name": "a", "task_name": "z", "status": "doing" }]));
    assert_eq!(fetchable(&mut queue), [vec![1, 10, 11, 12], vec![1], vec![1, 10, 11, 12]]);
    queue.add(json!([{ "queue_name": "c", "task_name": "x", "status": "doing" }]));
    assert_eq!(fetchable(&mut queue), [vec![4, 10, 11, 12], vec![4], vec![4, 10, 11, 12]]);
}

#[test]
fn the_place_of_a_finished_job_is_taken_in_the_same_call() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
    let worker = queue.register_worker();
    limit_running(&mut queue, "queue", "default", 1);
    let call = |finished: &str, statuses: &str| {
        format!(
            "SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
             {worker}, '{finished}', '{statuses}', NULL, 5) ORDER BY id"
        )
    };
    assert_eq!(queue.rows(&call("{}", "{}")), ["fetched | 1", "wait | NULL"]);
    assert_eq!(queue.rows(&call("{}", "{}")), ["wait | NULL"]);
    assert_eq!(queue.rows(&call("{1}", "{failed}")), ["fetched | 2", "wait | NULL"]);
    // Whoever ends it, by whatever means.
    queue.run("DELETE FROM procrastinate_jobs WHERE id = 2");
    assert_eq!(queue.rows(&call("{}", "{}")), ["fetched | 3"]);
}

#[test]
fn a_lowered_limit_lets_running_jobs_finish_and_starts_none_until_there_is_room() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}, {}, {}]));
    limit_running(&mut queue, "queue", "default", 3);
    assert_eq!(fetch(&mut queue, "NULL", 5), [1, 2, 3]);
    limit_running(&mut queue, "queue", "default", 1);
    for finished in [1, 2] {
        queue.run(&format!("SELECT procrastinate_finish_job_v1({finished}, 'succeeded', false)"));
        assert_eq!(fetch_by_either(&mut queue, "NULL", 5), [0; 0]);
    }
    queue.run("SELECT procrastinate_finish_job_v1(3, 'succeeded', false)");
    assert_eq!(fetch_by_either(&mut queue, "NULL", 5), [4]);
}

#[test]
fn starts_are_limited_within_any_period() {
    let mut queue = Queue::with_jobs(json!([{}, {}, {}, {}, {}]));
    limit_starts(&mut queue, "task", "task", 2, 3_600.0);
    let at = |seconds: i32| format!("now() + interval '{seconds} s'");
    let fetch_at = |queue: &mut Queue, seconds: i32| {
        queue.rows(&format!(
            "SELECT kind, id, wait_seconds > 3500 FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
             NULL, '{{}}', '{{}}', NULL, 5, due_at => {}) ORDER BY id",
            at(seconds)
        ))
    };
    let now = fetch_at(&mut queue, 0);
    assert_eq!(now, ["fetched | 1 | NULL", "fetched | 2 | NULL", "wait | NULL | true"]);
    // They have finished, and count all the same.
    queue.run("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'doing'");
    assert_eq!(fetch_at(&mut queue, 1_800), ["wait | NULL | false"]);
    assert_eq!(fetch_at(&mut queue, 3_590), ["wait | NULL | false"]);
    // A start counts up to a hundredth of the period longer.
    let later = fetch_at(&mut queue, 3_640);
    assert_eq!(later, ["fetched | 3 | NULL", "fetched | 4 | NULL", "wait | NULL | true"]);
    assert_eq!(queue.row("SELECT counted_starts FROM procrastinate_diesel_limit_states"), "[2]");
}

#[test]
fn a_fetch_waits_for_another_one_of_the_same_limit_and_then_counts_its_jobs() {
    for wanted in [
        "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)",
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{}', '{}', NULL, 5)",
    ] {
        let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
        limit_running(&mut queue, "queue", "default", 1);
        queue.run("BEGIN");
        assert_eq!(fetch(&mut queue, "NULL", 1), [1]);
        let waiting = Waiting::start(&mut queue, wanted);
        queue.run("COMMIT");
        assert_eq!(waiting.rows(), ["NULL"], "{wanted}");
        // One that is rolled back has started nothing.
        queue.run("UPDATE procrastinate_jobs SET status = 'todo' WHERE id = 1");
        queue.run("BEGIN");
        assert_eq!(fetch(&mut queue, "NULL", 1), [1]);
        let waiting = Waiting::start(&mut queue, wanted);
        queue.run("ROLLBACK");
        assert!(waiting.rows().contains(&"1".to_owned()), "{wanted}");
    }
}

#[test]
fn a_fetch_that_cannot_see_the_jobs_of_others_fails_instead_of_exceeding_the_limit() {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut queue = Queue::with_jobs(json!([{}, {}, {}]));
        limit_running(&mut queue, "queue", "default", 1);
        let mut other = queue.another_connection();
        sql(&mut other, &format!("BEGIN ISOLATION LEVEL {isolation}"));
        assert_eq!(rows(&mut other, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"), ["0"]);
        assert_eq!(fetch(&mut queue, "NULL", 1), [1]);
        let error = try_rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)").unwrap_err();
        assert!(error.to_string().contains("could not serialize access"), "{error}");
        sql(&mut other, "ROLLBACK");
        assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["NULL"]);
    }
}

#[test]
fn fetches_of_different_limits_do_not_wait_for_each_other() {
    let mut queue = Queue::with_jobs(json!([{ "queue_name": "a" }, { "queue_name": "b" }, { "queue_name": "b" }]));
    limit_running(&mut queue, "queue", "a", 5);
    limit_running(&mut queue, "queue", "b", 5);
    queue.run("BEGIN");
    assert_eq!(fetch(&mut queue, "'{a}'", 1), [1]);
    let mut other = queue.another_connection();
    assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2('{b}', NULL)"), ["2"]);
    queue.run("COMMIT");
}

#[test]
fn a_transaction_that_changes_a_limit_holds_up_no_fetch() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    limit_running(&mut queue, "queue", "default", 1);
    queue.run("BEGIN");
    limit_running(&mut queue, "queue", "default", 2);
    pause(&mut queue, "task", "task");
    let mut other = queue.another_connection();
    assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["1"]);
    queue.run("ROLLBACK");
    assert_eq!(fetch_by_either(&mut queue, "NULL", 5), [0; 0]);
}

#[test]
fn resuming_and_raising_a_limit_notify_the_workers_of_pending_jobs() {
    let jobs = json!([{ "queue_name": "a" }, { "queue_name": "b" }, { "queue_name": "b", "task_name": "x" }]);
    let mut queue = Queue::with_jobs(jobs);
    queue.listen(&["procrastinate_queue_v1#a", "procrastinate_queue_v1#b", "procrastinate_any_queue_v1"]);
    pause(&mut queue, "queue", "b");
    pause(&mut queue, "queue", "empty");
    pause(&mut queue, "task", "x");
    assert_eq!(queue.notifications(), []);
    let inserted = |id: i32| format!("{{\"type\" : \"job_inserted\", \"job_id\" : {id}}}");
    let on = |channel: &str, id: i32| (channel.to_owned(), inserted(id));
    queue.run("SELECT procrastinate_diesel_resume_v1('queue', 'b')");
    let expected = [on("procrastinate_queue_v1#b", 2), on("procrastinate_any_queue_v1", 2)];
    assert_eq!(queue.notifications(), expected);
    queue.run("SELECT procrastinate_diesel_resume_v1('task', 'x')");
    assert_eq!(queue.notifications(), [on("procrastinate_queue_v1#b", 3), on("procrastinate_any_queue_v1", 3)]);
    limit_running(&mut queue, "queue", "b", 5);
    assert_eq!(queue.notifications(), expected);
    // There is nothing to fetch.
    queue.run("SELECT procrastinate_diesel_resume_v1('queue', 'empty')");
    assert_eq!(queue.notifications(), []);
}

#[test]
fn what_is_neither_paused_nor_limited_leaves_no_row() {
    let mut queue = Queue::new();
    let controls = "SELECT kind, name, paused_at IS NOT NULL, paused_by, pause_reason, skips_ticks, max_running, \
                    max_starts, start_period_seconds FROM procrastinate_diesel_flow_controls";
    let returned = |queue: &mut Queue, call: &str| queue.row(&format!("SELECT procrastinate_diesel_{call}"));
    assert_eq!(returned(&mut queue, "resume_v1('queue', 'a')"), "false");
    assert_eq!(returned(&mut queue, "set_limit_v1('queue', 'a', NULL, NULL, NULL)"), "false");
    assert_eq!(returned(&mut queue, "pause_v1('queue', 'a', 'anna', 'why', true)"), "true");
    assert_eq!(returned(&mut queue, "pause_v1('queue', 'a', 'ben')"), "false");
    assert_eq!(queue.rows(controls), ["queue | a | true | ben | NULL | false | NULL | NULL | NULL"]);
    assert_eq!(returned(&mut queue, "set_limit_v1('queue', 'a', 3, 10, 60)"), "true");
    assert_eq!(returned(&mut queue, "resume_v1('queue', 'a')"), "true");
    assert_eq!(queue.rows(controls), ["queue | a | false | NULL | NULL | false | 3 | 10 | 60"]);
    assert_eq!(returned(&mut queue, "pause_v1('queue', 'a')"), "true");
    assert_eq!(returned(&mut queue, "set_limit_v1('queue', 'a', NULL, NULL, NULL)"), "true");
    assert_eq!(queue.rows(controls), ["queue | a | true | NULL | NULL | false | NULL | NULL | NULL"]);
    assert_eq!(returned(&mut queue, "resume_v1('queue', 'a')"), "true");
    assert_eq!(queue.rows(controls), [""; 0]);
}

/// What the crate's function returns for five jobs of these queues.
fn fetched_or_wait(queues: &str) -> String {
    format!(
        "SELECT kind, id, wait_seconds = 0 FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
         NULL, '{{}}', '{{}}', {queues}, 5) ORDER BY id"
    )
}

#[test]
fn a_worker_waits_for_a_full_limit_only_if_jobs_are_pending() {
    for queues in ["NULL", "'{default}'", "'{default,b}'"] {
        let mut queue = Queue::with_jobs(json!([{}, {}]));
        limit_running(&mut queue, "queue", "default", 1);
        assert_eq!(queue.rows(&fetched_or_wait(queues)), ["fetched | 1 | NULL", "wait | NULL | false"]);
        assert_eq!(queue.rows(&fetched_or_wait(queues)), ["wait | NULL | false"]);
        queue.run("UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id = 2");
        assert_eq!(queue.rows(&fetched_or_wait(queues)), [""; 0], "{queues}");
    }
}

#[test]
fn a_worker_fetches_again_at_once_if_a_limit_got_room_while_it_waited_for_another_one() {
    let a = json!({ "queue_name": "a" });
    let b = json!({ "queue_name": "b" });
    let mut queue = Queue::with_jobs(json!([a, a, b, b]));
    limit_running(&mut queue, "queue", "a", 1);
    limit_running(&mut queue, "queue", "b", 5);
    assert_eq!(fetch(&mut queue, "'{a}'", 1), [1]);
    queue.run("BEGIN");
    assert_eq!(fetch(&mut queue, "'{b}'", 1), [3]);
    let waiting = Waiting::start(&mut queue, &fetched_or_wait("'{a,b}'"));
    queue.run("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    queue.run("COMMIT");
    assert_eq!(waiting.rows(), ["fetched | 4 | NULL", "wait | NULL | true"]);
}

#[test]
fn a_fetch_of_a_limited_queue_leaves_the_jobs_that_it_does_not_start_to_others() {
    let mut queue = Queue::with_jobs(json!([{ "queue_name": "a" }, {}, {}, {}, {}]));
    limit_running(&mut queue, "queue", "a", 1);
    queue.run("BEGIN");
    assert_eq!(fetch(&mut queue, "'{a,default}'", 2), [1, 2]);
    let mut other = queue.another_connection();
    assert_eq!(rows(&mut other, &fetched_or_wait("'{default}'")).len(), 3);
    queue.run("COMMIT");
}

#[test]
fn a_new_period_holds_for_former_starts_too() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    limit_starts(&mut queue, "task", "task", 1, 3_600.0);
    assert_eq!(fetch(&mut queue, "NULL", 5), [1]);
    limit_starts(&mut queue, "task", "task", 1, 7_200.0);
    let longer_than = |seconds: i32| {
        format!(
            "SELECT wait_seconds > {seconds} FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
             NULL, '{{}}', '{{}}', NULL, 5)"
        )
    };
    assert_eq!(queue.rows(&longer_than(7_000)), ["true"]);
    limit_starts(&mut queue, "task", "task", 1, 60.0);
    assert_eq!(queue.rows(&longer_than(120)), ["false"]);
}

#[test]
fn starts_that_were_counted_while_the_clock_was_wrong_do_not_count_for_ever() {
    let mut queue = Queue::with_jobs(json!([{}, {}]));
    limit_starts(&mut queue, "task", "task", 1, 3_600.0);
    queue.run(
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(\
         NULL, '{}', '{}', NULL, 5, due_at => now() + interval '1 year')",
    );
    assert_eq!(fetch(&mut queue, "NULL", 5), [2]);
    assert_eq!(queue.row("SELECT counted_starts FROM procrastinate_diesel_limit_states"), "[1]");
}

#[test]
fn a_pause_and_a_limit_that_end_at_the_same_time_leave_no_row() {
    let calls = ["resume_v1('queue', 'a')", "set_limit_v1('queue', 'a', NULL, NULL, NULL)"];
    for (first, second) in [(calls[0], calls[1]), (calls[1], calls[0])] {
        let mut queue = Queue::new();
        pause(&mut queue, "queue", "a");
        limit_running(&mut queue, "queue", "a", 1);
        queue.run("BEGIN");
        queue.run(&format!("SELECT procrastinate_diesel_{first}"));
        let waiting = Waiting::start(&mut queue, &format!("SELECT procrastinate_diesel_{second}"));
        queue.run("COMMIT");
        assert_eq!(waiting.rows(), ["true"], "{second}");
        assert_eq!(queue.rows("SELECT name FROM procrastinate_diesel_flow_controls"), [""; 0], "{second}");
    }
}

#[test]
fn resuming_a_task_notifies_each_queue_that_has_jobs_of_it() {
    let mut queue = Queue::with_jobs(json!([
        { "queue_name": "a", "lock": "x" },
        { "queue_name": "b", "scheduled_at": "yesterday" },
        { "queue_name": "b" },
        { "queue_name": "c", "task_name": "other" },
        { "queue_name": "d", "lock": "x", "scheduled_at": "yesterday" }
    ]));
    queue.listen(&[
        "procrastinate_queue_v1#a",
        "procrastinate_queue_v1#b",
        "procrastinate_queue_v1#c",
        "procrastinate_queue_v1#d",
    ]);
    pause(&mut queue, "task", "task");
    queue.run("SELECT procrastinate_diesel_resume_v1('task', 'task')");
    let channels: Vec<_> = queue.notifications().into_iter().map(|(channel, _)| channel).collect();
    assert_eq!(channels, ["a", "b", "d"].map(|queue| format!("procrastinate_queue_v1#{queue}")));
}
