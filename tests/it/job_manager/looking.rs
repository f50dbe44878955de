//! Looking at jobs and counting them.

use std::time::Duration;

use procrastinate::job_manager::{
    JobCounts, check_connection, fetch_job, finish_job, get_job_status, get_stalled_jobs, list_jobs,
    list_jobs_to_abort, list_locks, list_queues, list_tasks, register_worker,
};
use procrastinate::models::ProcrastinateJob;
use procrastinate::{App, JobId, JobStatus, configure_task};
use serde_json::json;

use super::{Desk, each_way, work};
use crate::support::{connector, database, jobs};

each_way!(
    the_check_finds_whether_the_tables_exist,
    the_status_of_a_job_is_returned_if_it_exists,
    jobs_are_listed_by_every_filter_alone_and_together,
    what_a_filter_cannot_match_matches_nothing,
    jobs_are_counted_by_queue_task_and_lock,
    counts_keep_to_the_filters,
    jobs_are_counted_step_by_step,
    a_job_is_stalled_when_its_worker_is_gone_or_missed_its_heartbeats,
    only_running_jobs_have_abort_requests,
    invalid_filters_are_refused,
    a_job_that_rust_cannot_hold_is_listed_like_the_others,
);

async fn the_check_finds_whether_the_tables_exist(mut desk: Desk) {
    assert!(desk.execute(check_connection()).await.unwrap());
    desk.sql("ALTER TABLE procrastinate_jobs RENAME TO elsewhere");
    assert!(!desk.execute(check_connection()).await.unwrap());
    let error = desk.execute(list_queues()).await.unwrap_err();
    assert!(error.to_string().contains("run the migrations"), "{error}");
}

async fn the_status_of_a_job_is_returned_if_it_exists(mut desk: Desk) {
    for status in ["todo", "doing", "succeeded", "failed", "cancelled", "aborted", "aborting"] {
        let id = desk.job(work(), status);
        assert_eq!(desk.execute(get_job_status(id)).await.unwrap(), Some(JobStatus::from(status)));
    }
    assert_eq!(desk.execute(get_job_status(4_711)).await.unwrap(), None);
}

/// Eight jobs of all sorts.
fn fill(desk: &mut Desk) -> Vec<JobId> {
    let task = |name: &str| configure_task(name, json!({ "n": 1 }));
    desk.sql("INSERT INTO procrastinate_workers DEFAULT VALUES");
    let ids = vec![
        desk.job(task("a").queue("x"), "todo"),
        desk.job(task("a").queue("y").lock("m").queueing_lock("q"), "failed"),
        desk.job(task("b").queue("x").lock("l"), "doing"),
        desk.job(task("b").queue("y").lock("m"), "doing"),
        desk.job(task("a").queue("x").lock("l").queueing_lock("q"), "todo"),
        desk.job(task("a").queue("y"), "succeeded"),
        desk.job(task("ü").queue("z"), "cancelled"),
        desk.job(task("ü").queue("z"), "aborted"),
    ];
    desk.sql("UPDATE procrastinate_jobs SET worker_id = 1 WHERE id IN (2, 4)");
    // A date that chrono does not have.
    desk.sql("UPDATE procrastinate_jobs SET scheduled_at = 'infinity' WHERE id = 1");
    ids
}

fn numbers(jobs: &[ProcrastinateJob]) -> Vec<i64> {
    jobs.iter().map(|job| job.id).collect()
}

async fn jobs_are_listed_by_every_filter_alone_and_together(mut desk: Desk) {
    let ids = fill(&mut desk);
    let all = desk.execute(list_jobs()).await.unwrap();
    assert_eq!(numbers(&all), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(all[0].scheduled_at, None);
    desk.sql("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE id = 1");
    assert_eq!(all, jobs(&mut desk.connection));

    let cases: [(_, &[i64]); 11] = [
        (list_jobs().id(ids[2]), &[3]),
        (list_jobs().queue("x"), &[1, 3, 5]),
        (list_jobs().task("a"), &[1, 2, 5, 6]),
        (list_jobs().task("ü"), &[7, 8]),
        (list_jobs().status(JobStatus::Doing), &[3, 4]),
        (list_jobs().status(JobStatus::Cancelled), &[7]),
        (list_jobs().lock("m"), &[2, 4]),
        (list_jobs().queueing_lock("q"), &[2, 5]),
        (list_jobs().worker_id(1), &[2, 4]),
        (list_jobs().queue("x").task("a").status(JobStatus::Todo).lock("l").queueing_lock("q").id(5), &[5]),
        (list_jobs().queue("x").lock("m"), &[]),
    ];
    assert_eq!(numbers(&desk.execute(list_jobs().limit(3)).await.unwrap()), [1, 2, 3]);
    assert_eq!(numbers(&desk.execute(list_jobs().queue("x").limit(2)).await.unwrap()), [1, 3]);
    assert_eq!(numbers(&desk.execute(list_jobs().limit(0)).await.unwrap()), [0_i64; 0]);
    for (operation, expected) in cases {
        let shown = format!("{operation:?}");
        assert_eq!(numbers(&desk.execute(operation).await.unwrap()), expected, "{shown}");
    }
}

async fn what_a_filter_cannot_match_matches_nothing(mut desk: Desk) {
    fill(&mut desk);
    let longer_than_any = "x".repeat(3_000);
    // The last is no label that the database knows either.
    for operation in [
        list_jobs().queue(longer_than_any.clone()),
        list_jobs().queue(""),
        list_jobs().lock(longer_than_any),
        list_jobs().status(JobStatus::Unknown("it's odd".to_owned())),
    ] {
        assert_eq!(desk.execute(operation).await.unwrap(), []);
    }
}

fn told(counts: &[JobCounts]) -> Vec<String> {
    counts.iter().map(ToString::to_string).collect()
}

async fn jobs_are_counted_by_queue_task_and_lock(mut desk: Desk) {
    fill(&mut desk);
    assert_eq!(
        told(&desk.execute(list_queues()).await.unwrap()),
        [
            "x: 3 jobs (todo: 2, doing: 1, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)",
            "y: 3 jobs (todo: 0, doing: 1, succeeded: 1, failed: 1, cancelled: 0, aborted: 0)",
            "z: 2 jobs (todo: 0, doing: 0, succeeded: 0, failed: 0, cancelled: 1, aborted: 1)",
        ]
    );
    assert_eq!(
        told(&desk.execute(list_tasks()).await.unwrap()),
        [
            "a: 4 jobs (todo: 2, doing: 0, succeeded: 1, failed: 1, cancelled: 0, aborted: 0)",
            "b: 2 jobs (todo: 0, doing: 2, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)",
            "ü: 2 jobs (todo: 0, doing: 0, succeeded: 0, failed: 0, cancelled: 1, aborted: 1)",
        ]
    );
    assert_eq!(
        told(&desk.execute(list_locks()).await.unwrap()),
        [
            "l: 2 jobs (todo: 1, doing: 1, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)",
            "m: 2 jobs (todo: 0, doing: 1, succeeded: 0, failed: 1, cancelled: 0, aborted: 0)",
        ]
    );
}

async fn counts_keep_to_the_filters(mut desk: Desk) {
    fill(&mut desk);
    let counts = |counts: Vec<JobCounts>| -> Vec<(String, i64)> {
        counts.into_iter().map(|counts| (counts.name, counts.jobs_count)).collect()
    };
    let of = |name: &str, count| (name.to_owned(), count);
    assert_eq!(counts(desk.execute(list_queues().queue("x").task("a")).await.unwrap()), [of("x", 2)]);
    let failed = list_queues().status(JobStatus::Failed);
    assert_eq!(counts(desk.execute(failed).await.unwrap()), [of("y", 1)]);
    assert_eq!(counts(desk.execute(list_queues().lock("m")).await.unwrap()), [of("y", 2)]);
    assert_eq!(counts(desk.execute(list_tasks().queue("y")).await.unwrap()), [of("a", 2), of("b", 1)]);
    assert_eq!(counts(desk.execute(list_locks().task("b")).await.unwrap()), [of("l", 1), of("m", 1)]);
    assert_eq!(counts(desk.execute(list_locks().lock("l").status(JobStatus::Todo)).await.unwrap()), [of("l", 1)]);
    assert_eq!(desk.execute(list_locks().queue("z")).await.unwrap(), []);
}

/// More jobs than two statements look at, with gaps between their numbers, and the last number of a step in one of them.
async fn jobs_are_counted_step_by_step(mut desk: Desk) {
    desk.sql(
        "INSERT INTO procrastinate_jobs (id, queue_name, task_name, status, lock)
         SELECT n * 3 - 1000, CASE WHEN n % 100000 = 0 THEN 'late' ELSE 'first' END,
                CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END,
                (CASE WHEN n % 50000 <= 1 THEN 'failed' ELSE 'succeeded' END)::procrastinate_job_status,
                CASE WHEN n % 50000 = 2 THEN 'the lock' END
         FROM generate_series(1, 100001) AS n",
    );
    assert_eq!(
        told(&desk.execute(list_queues()).await.unwrap()),
        [
            "first: 100000 jobs (todo: 0, doing: 0, succeeded: 99996, failed: 4, cancelled: 0, aborted: 0)",
            "late: 1 jobs (todo: 0, doing: 0, succeeded: 0, failed: 1, cancelled: 0, aborted: 0)",
        ]
    );
    assert_eq!(
        told(&desk.execute(list_tasks().queue("late")).await.unwrap()),
        ["even: 1 jobs (todo: 0, doing: 0, succeeded: 0, failed: 1, cancelled: 0, aborted: 0)"]
    );
    assert_eq!(
        told(&desk.execute(list_locks().status(JobStatus::Succeeded)).await.unwrap()),
        ["the lock: 2 jobs (todo: 0, doing: 0, succeeded: 2, failed: 0, cancelled: 0, aborted: 0)"]
    );
    desk.sql("DELETE FROM procrastinate_jobs WHERE id = 299003");
    let counts = desk.execute(list_tasks()).await.unwrap();
    assert_eq!(counts.iter().map(|counts| counts.jobs_count).sum::<i64>(), 100_000);
}

async fn a_job_is_stalled_when_its_worker_is_gone_or_missed_its_heartbeats(mut desk: Desk) {
    desk.sql(
        "INSERT INTO procrastinate_workers (last_heartbeat)
         VALUES (now()), (now() - interval '20 seconds'), (now() - interval '40 seconds')",
    );
    for _ in 0..4 {
        desk.job(work().queue("q"), "doing");
    }
    desk.job(configure_task("other", json!({})), "doing");
    // Of a worker that is gone, but not doing.
    desk.job(work(), "succeeded");
    desk.sql("UPDATE procrastinate_jobs SET worker_id = id WHERE id <= 3");

    assert_eq!(numbers(&desk.execute(get_stalled_jobs()).await.unwrap()), [3, 4, 5]);
    let patient = get_stalled_jobs().seconds_since_heartbeat(Duration::from_secs(60));
    assert_eq!(numbers(&desk.execute(patient).await.unwrap()), [4, 5]);
    let impatient = get_stalled_jobs().seconds_since_heartbeat(Duration::from_millis(10_500));
    assert_eq!(numbers(&desk.execute(impatient).await.unwrap()), [2, 3, 4, 5]);
    assert_eq!(numbers(&desk.execute(get_stalled_jobs().queue("q")).await.unwrap()), [3, 4]);
    assert_eq!(numbers(&desk.execute(get_stalled_jobs().task_name("other")).await.unwrap()), [5]);
    assert_eq!(numbers(&desk.execute(get_stalled_jobs().queue("q").task_name("other")).await.unwrap()), [0; 0]);
}

async fn only_running_jobs_have_abort_requests(mut desk: Desk) {
    let asked = desk.job(work().queue("x"), "doing");
    let asked_elsewhere = desk.job(work().queue("y"), "doing");
    desk.job(work(), "doing");
    desk.job(work(), "cancelled");
    desk.sql("UPDATE procrastinate_jobs SET abort_requested = true WHERE id IN (1, 2, 4)");
    assert_eq!(desk.execute(list_jobs_to_abort()).await.unwrap(), [asked, asked_elsewhere]);
    assert_eq!(desk.execute(list_jobs_to_abort().queue("y")).await.unwrap(), [asked_elsewhere]);
    assert_eq!(desk.execute(list_jobs_to_abort().queue("z")).await.unwrap(), [0; 0]);
}

async fn invalid_filters_are_refused(mut desk: Desk) {
    let endless = Duration::from_secs(u64::MAX);
    let refused = [
        desk.execute(list_jobs().queue("a\0")).await.unwrap_err(),
        desk.execute(list_jobs().task("a\0")).await.unwrap_err(),
        desk.execute(list_jobs().lock("a\0")).await.unwrap_err(),
        desk.execute(list_jobs().queueing_lock("a\0")).await.unwrap_err(),
        desk.execute(list_jobs().status(JobStatus::from("a\0"))).await.unwrap_err(),
        desk.execute(list_queues().lock("a\0")).await.unwrap_err(),
        desk.execute(get_stalled_jobs().queue("a\0")).await.unwrap_err(),
        desk.execute(list_jobs_to_abort().queue("a\0")).await.unwrap_err(),
        desk.execute(get_stalled_jobs().seconds_since_heartbeat(endless)).await.unwrap_err(),
    ];
    for error in refused {
        assert!(error.is_invalid(), "{error}");
    }
}

async fn a_job_that_rust_cannot_hold_is_listed_like_the_others(mut desk: Desk) {
    let ids = [desk.job(work(), "todo"), desk.job(work(), "todo"), desk.job(work(), "doing")];
    desk.sql("UPDATE procrastinate_jobs SET args = '{\"n\": 1e400, \"m\": 1}'");
    desk.sql("UPDATE procrastinate_jobs SET scheduled_at = '290000-01-01' WHERE id = 2");
    let expected = json!({ "n": format!("1{}", "0".repeat(400)), "m": 1 });
    let listed = desk.execute(list_jobs()).await.unwrap();
    assert_eq!(numbers(&listed), [1, 2, 3]);
    assert!(listed.iter().all(|job| job.args == expected));
    assert!(listed[1].scheduled_at > Some(chrono::Utc::now()));
    assert_eq!(numbers(&desk.execute(get_stalled_jobs()).await.unwrap()), [i64::from(ids[2])]);
    // Whoever fetches it gets it, and can finish it.
    let worker_id = desk.execute(register_worker()).await.unwrap();
    let fetched = desk.execute(fetch_job(worker_id)).await.unwrap().unwrap();
    assert_eq!((fetched.id, fetched.args), (i64::from(ids[0]), expected));
    desk.execute(finish_job(ids[0], JobStatus::Failed)).await.unwrap();
}

#[tokio::test]
async fn an_operation_is_performed_where_the_query_methods_of_diesel_are_imported() {
    #[allow(unused_imports, reason = "it must not get in the way of the methods of the application")]
    use diesel_async::RunQueryDsl;

    struct Shop {
        app: App,
    }
    let database = database();
    let shop = Shop { app: App::builder(connector(&database).await).build().unwrap() };
    assert!(shop.app.perform(check_connection()).await.unwrap());
    assert!(shop.app.job_manager().perform(check_connection()).await.unwrap());
}
