//! Python's tools on jobs of ours.

use diesel::prelude::*;
use procrastinate::models::{ProcrastinateJob, ProcrastinatePeriodicDefer};
use procrastinate::{JobStatus, JobToDefer, configure_task};
use serde_json::{Value, json};

use super::{Meeting, on_both_databases};
use crate::support::{connect, events, job, sql, statuses};

on_both_databases!(
    the_health_checks_and_the_shell_of_python_see_our_jobs,
    python_cancels_our_jobs,
    python_asks_to_abort_our_jobs,
    python_retries_our_failed_job,
    python_defers_each_tick_of_a_periodic_task_once,
    two_python_workers_defer_a_tick_once_and_ours_runs_it,
);

fn echo() -> JobToDefer {
    configure_task("peer.echo", json!({ "text": "ü" }))
}

async fn the_health_checks_and_the_shell_of_python_see_our_jobs(meeting: Meeting) {
    let failing = configure_task("peer.fail", json!({})).queue("odd").lock("L").priority(3);
    meeting.app.batch_defer([echo(), echo(), failing]).await.unwrap();
    meeting.worker().queues(["odd"]).stop_when_empty().run().await.unwrap();

    let told = meeting.python.procrastinate(&["healthchecks"]).await;
    assert!(told.contains("DB connection: OK") && told.contains("procrastinate_jobs table: OK"), "{told}");

    let told = meeting.python.procrastinate(&["shell", "list_jobs"]).await;
    let jobs: Vec<&str> = told.lines().collect();
    assert_eq!(
        jobs,
        ["#1 peer.echo on default - [todo]", "#2 peer.echo on default - [todo]", "#3 peer.fail on odd - [failed]"]
    );
    let told = meeting.python.procrastinate(&["shell", "list_jobs", "lock=L", "details"]).await;
    assert!(told.starts_with("#3 ") && told.contains("attempts=1, priority=3, scheduled_at=None, args={}, lock=L"));

    let told = meeting.python.procrastinate(&["shell", "list_queues"]).await;
    let queues: Vec<&str> = told.lines().collect();
    assert_eq!(
        queues,
        [
            "default: 2 jobs (todo: 2, doing: 0, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)",
            "odd: 1 jobs (todo: 0, doing: 0, succeeded: 0, failed: 1, cancelled: 0, aborted: 0)"
        ]
    );
}

async fn manage(meeting: &Meeting, method: &str, arguments: &Value) -> Value {
    let mut request = arguments.clone();
    request["method"] = json!(method);
    meeting.python.ask_one("manage", request).await
}

async fn python_cancels_our_jobs(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let [cancelled, deleted, left] =
        <[_; 3]>::try_from(meeting.app.batch_defer([echo(), echo(), echo()]).await.unwrap()).unwrap();

    assert_eq!(manage(&meeting, "cancel_job_by_id_async", &json!({ "job_id": cancelled })).await, true);
    // What is cancelled cannot be cancelled again.
    assert_eq!(manage(&meeting, "cancel_job_by_id_async", &json!({ "job_id": cancelled })).await, false);
    let deletion = json!({ "job_id": deleted, "delete_job": true });
    assert_eq!(manage(&meeting, "cancel_job_by_id_async", &deletion).await, true);

    meeting.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Cancelled, JobStatus::Succeeded]);
    assert_eq!(events(&mut connection, cancelled), ["deferred", "cancelled"]);
    assert_eq!(events(&mut connection, deleted), [""; 0]);
    assert_eq!(meeting.recorder.seen().into_keys().collect::<Vec<_>>(), [left]);
}

async fn python_asks_to_abort_our_jobs(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let [running, waiting] = <[_; 2]>::try_from(meeting.app.batch_defer([echo(), echo()]).await.unwrap()).unwrap();
    // Taken by nobody who would run it.
    sql(&mut connection, "SELECT procrastinate_fetch_job_v2(NULL, worker_id) FROM procrastinate_register_worker_v1()");

    for id in [running, waiting] {
        let answer = manage(&meeting, "cancel_job_by_id_async", &json!({ "job_id": id, "abort": true })).await;
        assert_eq!(answer, true);
    }

    let status = |job: ProcrastinateJob| (job.status, job.abort_requested);
    assert_eq!(status(job(&mut connection, running)), (JobStatus::Doing, true));
    assert_eq!(events(&mut connection, running), ["deferred", "started", "abort_requested"]);
    assert_eq!(status(job(&mut connection, waiting)), (JobStatus::Cancelled, true));
    assert_eq!(events(&mut connection, waiting), ["deferred", "abort_requested", "cancelled"]);
    assert_eq!(manage(&meeting, "list_jobs_to_abort_async", &json!({})).await, json!([i64::from(running)]));
    assert_eq!(manage(&meeting, "get_job_status_async", &json!({ "job_id": running })).await, "doing");
}

async fn python_retries_our_failed_job(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let id = meeting.app.defer(configure_task("peer.fail", json!({})).lock("before")).await.unwrap();
    meeting.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(job(&mut connection, id).status, JobStatus::Failed);

    let request = json!({
        "job_id": id, "retry_at": "2020-02-29T12:00:00+00:00", "priority": 5, "queue": "again", "lock": "after",
    });
    manage(&meeting, "retry_job_by_id_async", &request).await;
    let waiting = job(&mut connection, id);
    assert_eq!((waiting.status, waiting.attempts, waiting.priority), (JobStatus::Todo, 2, 5));
    assert_eq!((waiting.queue_name.as_str(), waiting.lock.as_deref()), ("again", Some("after")));

    meeting.worker().queues(["again"]).stop_when_empty().run().await.unwrap();
    assert_eq!((job(&mut connection, id).status, job(&mut connection, id).attempts), (JobStatus::Succeeded, 3));
    let history = ["deferred", "started", "failed", "scheduled", "retried", "started", "succeeded"];
    assert_eq!(events(&mut connection, id), history);
}

fn periodic_defers(connection: &mut PgConnection) -> Vec<(Option<i64>, Option<i64>)> {
    let rows: Vec<ProcrastinatePeriodicDefer> = ProcrastinatePeriodicDefer::query().load(connection).unwrap();
    rows.into_iter().map(|row| (row.defer_timestamp, row.job_id)).collect()
}

async fn python_defers_each_tick_of_a_periodic_task_once(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    let ticks = json!({ "timestamps": [600, 600, 660, 600, 660], "queue": "ticks" });
    let answers = meeting.python.ask("defer_ticks", ticks).await;
    // A tick whose row was deleted when the next one was deferred can be deferred again: upstream does so too.
    let ids: Vec<Option<i64>> = answers.iter().map(|answer| answer["id"].as_i64()).collect();
    assert_eq!(ids, [Some(1), None, Some(2), Some(3), None]);
    assert_eq!(periodic_defers(&mut connection), [(Some(660), Some(2)), (Some(600), Some(3))]);

    // A tick that meets a taken queueing lock leaves nothing behind.
    let ticks = json!({ "timestamps": [720, 780], "queueing_lock": "one" });
    let answers = meeting.python.ask("defer_ticks", ticks).await;
    assert_eq!(answers, [json!({ "id": 4 }), json!({ "already_enqueued": "one" })]);
    assert_eq!(periodic_defers(&mut connection), [(Some(720), Some(4))]);

    meeting.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; 4]);
    let timestamps: Vec<Value> = meeting.recorder.seen().into_values().collect();
    assert_eq!(timestamps, [600, 660, 600, 720].map(|timestamp| json!({ "timestamp": timestamp })));
}

async fn two_python_workers_defer_a_tick_once_and_ours_runs_it(meeting: Meeting) {
    let options = json!({ "wait": true, "queues": ["not served"], "cron": "* * * * *" });
    let mut first = meeting.python.start_worker(&options);
    first.did("periodic_task_deferred").await;
    let mut second = meeting.python.start_worker(&options);
    // If a minute has passed meanwhile, one of them defers that tick too.
    while !["periodic_task_deferred", "periodic_task_already_deferred"].contains(&as_text(&second.says("action").await))
    {
    }
    first.stop().await;
    second.stop().await;

    meeting.worker().stop_when_empty().run().await.unwrap();

    let mut connection = connect(&meeting.database);
    let seen = meeting.recorder.seen();
    let mut ticks: Vec<i64> = seen.values().map(|args| args["timestamp"].as_i64().unwrap()).collect();
    assert!(!ticks.is_empty() && ticks.iter().all(|tick| tick % 60 == 0), "{ticks:?}");
    let deferred = ticks.len();
    ticks.dedup();
    assert_eq!(ticks.len(), deferred, "a tick was deferred twice");
    let (last_job, last_tick) = seen.iter().next_back().unwrap();
    assert_eq!(periodic_defers(&mut connection), [(last_tick["timestamp"].as_i64(), Some(i64::from(*last_job)))]);
}

fn as_text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
