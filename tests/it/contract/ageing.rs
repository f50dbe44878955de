//! Priorities that age, at times that the tests choose.

use std::sync::Barrier;

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::{rows, sql, try_rows};

/// A step of ageing, so many seconds after a certain time, that reads about so many jobs.
fn step(seconds: i32, most: i32) -> String {
    format!(
        "SELECT raised, has_more, problem FROM procrastinate_diesel_age_priorities_v1(
             timestamptz '2030-03-10 06:59:00Z' + interval '{seconds} s', {most})"
    )
}

/// Ages the queues completely at that time. Returns how often jobs were raised.
fn age(queue: &mut Queue, seconds: i32) -> i32 {
    let mut raised = 0;
    loop {
        let step = queue.row(&step(seconds, 1_000));
        let mut columns = step.split(" | ");
        raised += columns.next().unwrap().parse::<i32>().unwrap();
        if columns.next() == Some("false") {
            return raised;
        }
    }
}

/// A queue that ages by this step every minute, with these jobs, which have waited since second 0.
fn ageing(step: i32, max_priority: i32, jobs: Value) -> Queue {
    let mut queue = Queue::with_jobs(jobs);
    // The clocks there are set forward one minute later.
    queue.run("SET TimeZone = 'America/New_York'");
    set(&mut queue, 60, step, max_priority);
    assert_eq!(age(&mut queue, 0), 0);
    queue
}

fn set(queue: &mut Queue, every: i32, step: i32, max_priority: i32) {
    queue.run(&format!("SELECT procrastinate_diesel_set_ageing_v1('default', {every}, {step}, {max_priority})"));
}

/// The priorities of all jobs, by ID.
fn priorities(queue: &mut Queue) -> String {
    queue.row("SELECT string_agg(priority::text, ' ' ORDER BY id) FROM procrastinate_jobs")
}

#[test]
fn a_job_gains_a_step_for_each_period_that_it_has_waited_up_to_the_maximum() {
    let mut queue =
        ageing(2, 5, json!([{}, { "priority": 4 }, { "priority": 5 }, { "priority": 9 }, { "priority": -20 }]));
    queue.add(json!([{ "queue_name": "other" }, { "status": "failed" }, { "status": "doing" }, { "lock": "l" }]));
    assert_eq!(age(&mut queue, 59), 0);
    assert_eq!(age(&mut queue, 60), 3);
    // The others came after second 0.
    assert_eq!(priorities(&mut queue), "2 5 5 9 -18 0 0 0 0");
    for _ in 0..2 {
        assert_eq!(age(&mut queue, 60), 0, "never twice in one period");
    }
    age(&mut queue, 125);
    assert_eq!(priorities(&mut queue), "4 5 5 9 -16 0 0 0 2");
    // Nobody looked for four periods and a half.
    age(&mut queue, 400);
    assert_eq!(priorities(&mut queue), "5 5 5 9 -8 0 0 0 5");
    assert_eq!(queue.rows("SELECT DISTINCT type FROM procrastinate_events"), ["deferred"]);
    queue.run("SELECT procrastinate_diesel_stop_ageing_v1('default')");
    age(&mut queue, 4_000);
    assert_eq!(priorities(&mut queue), "5 5 5 9 -8 0 0 0 5", "jobs keep their priorities");
}

#[test]
fn a_job_that_is_scheduled_or_retried_waits_since_the_time_it_was_scheduled_for() {
    let at = |time: &str| json!({ "scheduled_at": format!("2030-03-10 {time}Z") });
    let mut queue = ageing(1, 9, json!([at("06:00"), at("06:59:30"), at("07:00:30"), at("09:00"), {}]));
    let events = queue.row("SELECT count(*) FROM procrastinate_events");
    age(&mut queue, 60);
    assert_eq!(priorities(&mut queue), "1 0 0 0 1");
    age(&mut queue, 120);
    assert_eq!(priorities(&mut queue), "2 1 0 0 2");
    // Of four periods, the third job has waited for three.
    age(&mut queue, 305);
    assert_eq!(priorities(&mut queue), "5 4 3 0 5");
    assert_eq!(queue.row("SELECT count(*) FROM procrastinate_events"), events);

    // A retried job keeps what it has gained.
    assert_eq!(queue.fetch("NULL"), Some(5));
    queue.run("SELECT procrastinate_retry_job_v2(5, '2030-03-10 07:04:00Z', NULL, NULL, NULL)");
    age(&mut queue, 365);
    assert_eq!(priorities(&mut queue), "6 5 4 0 6");
    assert_eq!(queue.job(5, "status, attempts"), "todo | 1");
}

#[test]
fn a_stream_of_jobs_with_a_higher_priority_cannot_hold_back_a_job_forever() {
    // The jobs of the stream age too while they wait. But it is the oldest of all jobs that have the maximum.
    for (lock, arriving, expected) in
        [(Value::Null, 1, 5), (Value::Null, 20, 10), (json!("one"), 1, 5), (json!("one"), 20, 10)]
    {
        let mut queue = ageing(1, 10, json!([{ "lock": lock }]));
        let ran_after = (1..20).find(|period| {
            queue.add(Value::Array(vec![json!({ "priority": 5, "lock": lock }); arriving]));
            age(&mut queue, 60 * period);
            let id = queue.fetch("NULL").unwrap();
            queue.run(&format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)"));
            id == 1
        });
        assert_eq!(ran_after, Some(expected), "periods, if {arriving} jobs arrive in each, with the lock {lock}");
    }
}

#[test]
fn a_job_does_not_overtake_an_older_one_with_its_lock() {
    let later = "2031-01-01";
    let mut queue = ageing(
        3,
        9,
        json!([
            // Behind an older job that is scheduled for later.
            { "lock": "a", "priority": 1, "scheduled_at": later }, { "lock": "a" }, { "lock": "a", "priority": -5 },
            // In front of, behind and between jobs of a queue that does not age.
            { "lock": "b", "priority": 2 }, { "lock": "b", "queue_name": "other", "priority": 1 }, { "lock": "b" },
            { "lock": "b", "priority": 1 },
            // Behind a running job, which may be retried.
            { "lock": "c", "priority": 2, "status": "doing" }, { "lock": "c", "priority": 1 },
            // Newer jobs may be overtaken, whatever their priority.
            { "lock": "d" }, { "lock": "d", "priority": 2, "scheduled_at": later },
            { "lock": "d", "priority": 2, "queue_name": "other" },
            // All alike.
            { "lock": "e", "priority": 1 }, { "lock": "e" }, { "lock": "e" },
        ]),
    );
    age(&mut queue, 60);
    assert_eq!(priorities(&mut queue), "1 1 -2 5 1 1 1 2 2 3 2 2 4 3 3");
    age(&mut queue, 240);
    assert_eq!(priorities(&mut queue), "1 1 1 9 1 1 1 2 2 9 2 2 9 9 9");
    // What was in front has gone.
    queue.run("DELETE FROM procrastinate_jobs WHERE id IN (1, 5, 8)");
    age(&mut queue, 300);
    assert_eq!(priorities(&mut queue), "4 4 9 4 4 5 9 2 2 9 9 9");
}

#[test]
fn a_pass_in_many_steps_raises_each_job_once() {
    let kinds = [json!({}), json!({ "lock": "l" }), json!({ "lock": "m" }), json!({ "scheduled_at": "2029-01-01" })];
    let with_each_priority = |kind: &Value| {
        let job = |priority: i32| {
            let mut job = kind.clone();
            job["priority"] = json!(priority);
            job
        };
        [0, 1, 2, 5].map(job)
    };
    let jobs: Vec<_> = kinds.iter().flat_map(with_each_priority).collect();
    for most in 1..8 {
        let mut queue = ageing(1, 3, json!(jobs));
        queue.add(json!([{ "scheduled_at": "2028-01-01" }, { "scheduled_at": "2028-01-01", "priority": 1 }]));
        let mut steps = 1;
        while queue.row(&step(60, most)).contains("| true |") {
            steps += 1;
            // Settings that are written again as they are do not disturb the pass.
            set(&mut queue, 60, 1, 3);
        }
        assert!(steps > 2 && steps < 60, "{steps}");
        let expected = "1 2 3 5 1 2 3 5 1 2 3 5 1 2 3 5 0 1";
        assert_eq!(priorities(&mut queue), expected, "{most} jobs a step");
    }
}

#[test]
fn other_settings_end_the_pass_and_raise_no_job_twice_in_a_period() {
    let mut queue = ageing(1, 9, json!([{ "priority": 2 }, { "priority": 1 }, {}]));
    assert_eq!(queue.row(&step(60, 3)), "1 | true | NULL");
    set(&mut queue, 60, 4, 9);
    assert_eq!(age(&mut queue, 119), 0);
    assert_eq!(priorities(&mut queue), "3 1 0");
    age(&mut queue, 120);
    assert_eq!(priorities(&mut queue), "7 5 4");
}

#[test]
fn many_callers_at_once_raise_each_job_once() {
    let mut queue = ageing(1, 9, Value::Array(vec![json!({}); 200]));
    let connections: Vec<_> = (0..4).map(|_| queue.another_connection()).collect();
    let start = Barrier::new(connections.len());
    let age = |mut connection| {
        start.wait();
        let under_way = "SELECT pass_began_at IS NOT NULL OR extract(second FROM last_aged_at) <> 0
                         OR last_aged_at < timestamptz '2030-03-10 07:00:00Z' FROM procrastinate_diesel_priority_ageings";
        while rows(&mut connection, under_way) == ["true"] {
            rows(&mut connection, &step(60, 20));
        }
    };
    std::thread::scope(|scope| {
        for connection in connections {
            scope.spawn(|| age(connection));
        }
    });
    assert_eq!(queue.rows("SELECT priority, count(*) FROM procrastinate_jobs GROUP BY priority"), ["1 | 200"]);
}

#[test]
fn neither_a_step_nor_a_fetch_waits_for_the_other() {
    let mut queue = ageing(1, 9, json!([{}, {}]));
    // Not shorter, because transactions that notify wait for each other's commit.
    queue.run("SET lock_timeout = '2s'");
    let mut other = queue.another_connection();
    sql(&mut other, "SET lock_timeout = '2s'; BEGIN; SELECT FROM procrastinate_jobs WHERE id = 1 FOR UPDATE");
    age(&mut queue, 60);
    assert_eq!(priorities(&mut queue), "0 1");
    sql(&mut other, "ROLLBACK; BEGIN; SELECT FROM procrastinate_diesel_priority_ageings FOR UPDATE");
    assert_eq!(queue.row(&step(120, 10)), "0 | false | NULL", "somebody else ages the queue, or changes it");
    sql(&mut other, "ROLLBACK");

    // A fetch that skips locked jobs is told of them.
    queue.listen(&["procrastinate_any_queue_v1"]);
    queue.run("BEGIN");
    age(&mut queue, 120);
    assert_eq!(rows(&mut other, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["NULL"]);
    queue.run("COMMIT");
    assert_eq!(priorities(&mut queue), "1 2");
    assert_eq!(queue.notifications().len(), 1);
}

#[test]
fn a_clock_that_was_wrong_raises_nothing_and_does_not_stop_the_ageing() {
    let mut queue = ageing(1, 9, json!([{}]));
    age(&mut queue, 120);
    assert_eq!(priorities(&mut queue), "2");
    // Slightly wrong: the time is missing until it is reached again.
    for (seconds, expected) in [(100, "2"), (179, "2"), (180, "3"), (86_400, "9")] {
        age(&mut queue, seconds);
        assert_eq!(priorities(&mut queue), expected, "at second {seconds}");
    }
    queue.run("UPDATE procrastinate_jobs SET priority = 0");
    for (seconds, expected) in [(240, "0"), (299, "0"), (300, "1")] {
        age(&mut queue, seconds);
        assert_eq!(priorities(&mut queue), expected, "at second {seconds}");
    }
    // It was wrong when a pass began, which has come to the first job.
    queue.add(json!([{}, {}]));
    age(&mut queue, 360);
    queue.run(&step(90_000, 2));
    age(&mut queue, 420);
    age(&mut queue, 480);
    assert_eq!(priorities(&mut queue), "9 2 2");
}

#[test]
fn a_job_that_the_database_refuses_to_change_does_not_hold_back_the_others() {
    let mut queue = ageing(1, 9, json!([{}, {}, {}, { "lock": "l" }]));
    queue.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END; $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 2)
             EXECUTE FUNCTION refuse()",
    );
    assert_eq!(queue.row(&step(60, 100)), "3 | false | not this one (SQLSTATE P0001)");
    assert_eq!(priorities(&mut queue), "1 0 1 1");
    queue.run("DELETE FROM procrastinate_jobs WHERE id = 2");
    assert_eq!(age(&mut queue, 120), 3);
}

#[test]
fn a_step_of_a_higher_isolation_level_raises_each_job_once_or_fails() {
    let mut queue = ageing(1, 9, json!([{}]));
    let mut other = queue.another_connection();
    sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM procrastinate_jobs");
    age(&mut queue, 60);
    let error = try_rows(&mut other, &step(60, 10)).unwrap_err().to_string();
    assert!(error.contains("could not serialize"), "{error}");
    assert_eq!(priorities(&mut queue), "1");
}
