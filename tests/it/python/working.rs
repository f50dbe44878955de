//! Workers of both kinds on one database.

use std::time::Duration;

use diesel::prelude::*;
use procrastinate::models::ProcrastinateJob;
use procrastinate::{JobId, JobStatus, JobToDefer, configure_task};
use serde_json::json;

use super::{Meeting, on_both_databases};
use crate::support::{Running, connect, events, eventually, job, rows, sql, statuses, workers};

on_both_databases!(
    our_job_wakes_an_idle_python_worker,
    a_job_of_python_wakes_our_idle_worker,
    both_kinds_of_worker_share_the_jobs,
    a_python_worker_does_not_prune_our_live_worker,
    our_worker_removes_a_python_worker_that_died,
);

/// Nothing is found by polling.
const NEVER: Duration = Duration::from_secs(3_600);

fn echo(n: i64) -> JobToDefer {
    configure_task("peer.echo", json!({ "n": n })).queue("greetings 🎈")
}

async fn succeeds(connection: &mut PgConnection, id: JobId) {
    eventually("the job succeeds", || job(connection, id).status == JobStatus::Succeeded).await;
}

async fn our_job_wakes_an_idle_python_worker(meeting: Meeting) {
    // One that listens to this queue, and one that listens to all.
    for queues in [json!(["greetings 🎈"]), json!(null)] {
        let options = json!({ "wait": true, "queues": queues, "fetch_job_polling_interval": NEVER.as_secs() });
        let mut connection = connect(&meeting.database);
        eventually("nobody listens any more", || !listens(&mut connection)).await;
        let mut worker = meeting.python.start_worker(&options);
        eventually("the Python worker listens", || listens(&mut connection)).await;

        for n in 1..=3 {
            worker.says("idle").await;
            let id = meeting.app.defer(echo(n)).await.unwrap();
            assert_eq!(worker.says("job").await, i64::from(id));
        }
        worker.stop().await;
    }
}

/// Whether somebody does, and has nothing else to do.
fn listens(connection: &mut PgConnection) -> bool {
    let listeners = "SELECT pid FROM pg_stat_activity \
                     WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'";
    !rows(connection, listeners).is_empty()
}

async fn a_job_of_python_wakes_our_idle_worker(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    for queues in [Some("greetings 🎈"), None] {
        let worker = meeting.worker().fetch_job_polling_interval(NEVER);
        let worker = Running::start(if let Some(queue) = queues { worker.queues([queue]) } else { worker });

        // The first one may be found by the first look. Its end is stored together with another look: what comes after
        // has to be announced.
        for n in 1..=3 {
            let theirs = json!([{ "task": "peer.echo", "args": { "n": n }, "queue": "greetings 🎈" }]);
            let id = meeting.python.ask_one("defer", theirs).await;
            succeeds(&mut connection, JobId::from(id.as_i64().unwrap())).await;
        }
        worker.stop().await.unwrap();
    }
}

async fn both_kinds_of_worker_share_the_jobs(meeting: Meeting) {
    const JOBS: usize = 300;
    let mut connection = connect(&meeting.database);
    sql(&mut connection, "CREATE TABLE notes (id bigserial PRIMARY KEY, job_id bigint, client text, ended boolean)");
    // A lock's jobs are in all three queues, so the two kinds have to wait for each other again and again.
    let jobs = (0..JOBS).map(|n| {
        let job = configure_task("peer.note", json!({})).queue(["for either", "for python", "for rust"][n % 3]);
        let job = if n % 5 == 0 { job } else { job.lock(format!("lock {}", n % 7)) };
        job.priority(i32::try_from(n % 4).unwrap())
    });
    meeting.app.batch_defer(jobs).await.unwrap();

    let polling = Duration::from_millis(20);
    let theirs = meeting.python.start_worker(&json!({
        "wait": true, "concurrency": 3, "queues": ["for either", "for python"], "fetch_job_polling_interval": 0.02,
    }));
    let ours = meeting.worker().queues(["for either", "for rust"]).concurrency(3).fetch_job_polling_interval(polling);
    let ours = Running::start(ours);
    let unfinished = "SELECT id FROM procrastinate_jobs WHERE status IN ('todo', 'doing')";
    eventually("all jobs are done", || rows(&mut connection, unfinished).is_empty()).await;
    ours.stop().await.unwrap();
    theirs.stop().await;

    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; JOBS]);
    assert_that_each_ran_once_and_its_lock_was_respected(&mut connection, JOBS);
}

fn assert_that_each_ran_once_and_its_lock_was_respected(connection: &mut PgConnection, jobs: usize) {
    let oddly_run = "SELECT job.id, job.attempts FROM procrastinate_jobs AS job \
                     LEFT JOIN notes AS note ON note.job_id = job.id GROUP BY job.id \
                     HAVING array_agg(note.ended ORDER BY note.id) <> '{false, true}' OR job.attempts <> 1 \
                         OR count(DISTINCT note.client) <> 1";
    assert_eq!(rows(connection, oddly_run), [""; 0]);
    let clients = "SELECT client FROM notes GROUP BY client HAVING count(*) >= 200 ORDER BY client";
    assert_eq!(rows(connection, clients), ["python", "rust"]);

    let under_locks = "SELECT job.id, job.lock, job.priority, start.id AS started, finish.id AS ended \
                       FROM procrastinate_jobs AS job JOIN notes AS start ON start.job_id = job.id AND NOT start.ended \
                       JOIN notes AS finish ON finish.job_id = job.id AND finish.ended WHERE lock IS NOT NULL";
    let pairs = rows(connection, &format!("SELECT FROM ({under_locks}) AS one"));
    assert_eq!(pairs.len(), jobs - jobs.div_ceil(5));
    // All of them were waiting from the start, so they ran by priority and number, one after the other.
    let out_of_turn = format!(
        "SELECT one.id AS first, other.id AS second FROM ({under_locks}) AS one JOIN ({under_locks}) AS other \
         ON one.lock = other.lock AND (one.priority, -one.id) > (other.priority, -other.id) \
         WHERE one.ended > other.started"
    );
    assert_eq!(rows(connection, &out_of_turn), [""; 0]);
}

async fn a_python_worker_does_not_prune_our_live_worker(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let held = meeting.app.defer(configure_task("peer.hold", json!({}))).await.unwrap();
    let worker =
        tokio::spawn(meeting.worker().stop_when_empty().update_heartbeat_interval(Duration::from_millis(50)).run());
    meeting.recorder.holding().await;
    let [before] = <[_; 1]>::try_from(workers(&mut connection)).unwrap();
    sql(&mut connection, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'");
    eventually("our worker beats", || workers(&mut connection)[0].last_heartbeat >= before.last_heartbeat).await;

    meeting.python.ask("work", json!({ "wait": false })).await;

    assert_eq!(workers(&mut connection).iter().map(|worker| worker.id).collect::<Vec<_>>(), [before.id]);
    let stalled = meeting.python.ask_one("manage", json!({ "method": "get_stalled_jobs" })).await;
    assert_eq!(stalled, json!([]));
    meeting.recorder.release();
    worker.await.unwrap().unwrap();
    assert_eq!(events(&mut connection, held), ["deferred", "started", "succeeded"]);
    assert_eq!(workers(&mut connection).len(), 0);
}

async fn our_worker_removes_a_python_worker_that_died(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let held = meeting.app.defer(configure_task("peer.hold", json!({}))).await.unwrap();
    let mut theirs = meeting.python.start_worker(&json!({ "wait": true }));
    assert_eq!(theirs.says("holding").await, i64::from(held));

    // One that is alive stays.
    meeting.worker().stop_when_empty().run().await.unwrap();
    let [alive] = <[_; 1]>::try_from(workers(&mut connection)).unwrap();
    let taken = |connection: &mut _| -> (JobStatus, Option<i64>) {
        let job: ProcrastinateJob = job(connection, held);
        (job.status, job.worker_id)
    };
    assert_eq!(taken(&mut connection), (JobStatus::Doing, Some(alive.id)));

    theirs.kill().await;
    sql(&mut connection, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'");
    let stalled = meeting.python.ask_one("manage", json!({ "method": "get_stalled_jobs" })).await;
    assert_eq!(stalled, json!([i64::from(held)]));

    // The one who removes it takes up its job.
    let ours = tokio::spawn(meeting.worker().stop_when_empty().run());
    meeting.recorder.holding().await;
    let stalled = meeting.python.ask_one("manage", json!({ "method": "get_stalled_jobs" })).await;
    assert_eq!(stalled, json!([]));
    meeting.recorder.release();
    ours.await.unwrap().unwrap();
    assert_eq!(workers(&mut connection).len(), 0);
    assert_eq!(
        events(&mut connection, held),
        ["deferred", "started", "scheduled", "deferred_for_retry", "started", "succeeded"]
    );
    assert_eq!(job(&mut connection, held).attempts, 2);
}
