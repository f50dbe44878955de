//! Workers of both kinds under pauses and limits.

use std::time::Duration;

use procrastinate::job_manager::{limit_queue, limit_task, pause_queue, resume_queue};
use procrastinate::{JobStatus, configure_task};
use serde_json::json;

use super::{Meeting, on_both_databases};
use crate::support::{Running, connect, eventually, rows, sql, statuses};

on_both_databases!(
    python_workers_start_no_job_of_a_paused_queue,
    both_kinds_of_worker_together_keep_to_a_limit,
    python_workers_start_no_job_too_late,
    a_job_that_a_python_worker_ends_holds_its_unique_key_for_the_period,
);

async fn python_workers_start_no_job_of_a_paused_queue(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    meeting.app.perform(pause_queue("paused")).await.unwrap();
    for queue in ["paused", "free"] {
        meeting.app.defer(configure_task("peer.echo", json!({ "n": 1 })).queue(queue)).await.unwrap();
    }
    let options = json!({ "wait": true, "fetch_job_polling_interval": 3_600 });
    let mut worker = meeting.python.start_worker(&options);
    worker.says("idle").await;
    assert_eq!(statuses(&mut connection), [JobStatus::Todo, JobStatus::Succeeded]);
    // Nothing but the notification wakes it. It may be idle before it listens.
    let listening = "SELECT count(*) > 0 FROM pg_stat_activity
                     WHERE datname = current_database() AND state = 'idle' AND query ILIKE 'listen %'";
    eventually("the worker listens", || rows(&mut connection, listening) == ["true"]).await;
    meeting.app.perform(resume_queue("paused")).await.unwrap();
    eventually("the job succeeds", || statuses(&mut connection)[0] == JobStatus::Succeeded).await;
    worker.stop().await;
}

async fn both_kinds_of_worker_together_keep_to_a_limit(meeting: Meeting) {
    const JOBS: usize = 200;
    let mut connection = connect(&meeting.database);
    sql(&mut connection, "CREATE TABLE notes (id bigserial PRIMARY KEY, job_id bigint, client text, ended boolean)");
    meeting.app.perform(limit_queue("limited").max_running(3)).await.unwrap();
    meeting.app.perform(limit_task("peer.note").max_running(4)).await.unwrap();
    let jobs = (0..JOBS).map(|n| {
        let queue = if n % 4 == 0 { "free" } else { "limited" };
        configure_task("peer.note", json!({})).queue(queue).priority(i32::try_from(n % 3).unwrap())
    });
    meeting.app.batch_defer(jobs).await.unwrap();

    let theirs = meeting.python.start_worker(&json!({
        "wait": true, "concurrency": 5, "fetch_job_polling_interval": 0.02,
    }));
    // Ours is faster, so theirs begins.
    let ended = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'";
    eventually("the Python worker has begun", || rows(&mut connection, ended) != ["0"]).await;
    let ours = meeting.worker().concurrency(5).fetch_job_polling_interval(Duration::from_millis(20));
    let ours = Running::start(ours);
    let mut highest = [0, 0];
    let running = "SELECT count(*) FILTER (WHERE status = 'doing' AND queue_name = 'limited'),
                          count(*) FILTER (WHERE status = 'doing'), count(*) FILTER (WHERE status = 'todo')
                   FROM procrastinate_jobs";
    eventually("all jobs are done", || {
        let counts: Vec<i64> = rows(&mut connection, running)[0].split(" | ").map(|n| n.parse().unwrap()).collect();
        highest = [highest[0].max(counts[0]), highest[1].max(counts[1])];
        counts[1] + counts[2] == 0
    })
    .await;
    ours.stop().await.unwrap();
    theirs.stop().await;
    assert!(highest[0] <= 3 && highest[1] <= 4, "{highest:?} were running");
    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; JOBS]);
    let clients = "SELECT client FROM notes GROUP BY client ORDER BY client";
    assert_eq!(rows(&mut connection, clients), ["python", "rust"]);
}

async fn python_workers_start_no_job_too_late(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let echo = || configure_task("peer.echo", json!({ "n": 1 }));
    let in_time = echo().start_within(Duration::from_secs(3_600));
    let late = || echo().lock("l").start_within(Duration::from_secs(3_600));
    meeting.app.batch_defer([late(), late().lock("other"), echo().lock("l"), in_time]).await.unwrap();
    sql(&mut connection, "UPDATE procrastinate_diesel_job_options SET start_before = now() WHERE job_id IN (1, 2)");
    let mut worker = meeting.python.start_worker(&json!({ "wait": true, "fetch_job_polling_interval": 3_600 }));
    worker.says("idle").await;
    worker.stop().await;
    let expected = [JobStatus::Cancelled, JobStatus::Cancelled, JobStatus::Succeeded, JobStatus::Succeeded];
    assert_eq!(statuses(&mut connection), expected);
}

async fn a_job_that_a_python_worker_ends_holds_its_unique_key_for_the_period(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let echo = || configure_task("peer.echo", json!({ "n": 1 }));
    for delete_jobs in ["never", "always"] {
        let hourly = || echo().unique_for(format!("hourly, {delete_jobs}"), Duration::from_secs(3_600));
        let once = || echo().unique(format!("once, {delete_jobs}"));
        meeting.app.batch_defer([hourly(), once()]).await.unwrap();
        let options = json!({ "wait": true, "fetch_job_polling_interval": 3_600, "delete_jobs": delete_jobs });
        let mut worker = meeting.python.start_worker(&options);
        worker.says("idle").await;
        worker.stop().await;
        meeting.app.defer(hourly()).await.unwrap_err();
        meeting.app.defer(once()).await.unwrap();
    }
    assert_eq!(statuses(&mut connection).iter().filter(|status| **status == JobStatus::Succeeded).count(), 2);
}
