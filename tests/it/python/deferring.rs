//! One side defers, the other one runs.

use chrono::DateTime;
use procrastinate::{Error, JobId, JobStatus, JobToDefer, batch_defer, batch_defer_blocking, configure_task};
use serde_json::{Value, json};

use super::{Meeting, on_both_databases};
use crate::support::{connect, events, job, pool, statuses};

on_both_databases!(
    our_worker_runs_what_python_defers,
    our_worker_runs_what_python_defers_in_a_batch,
    a_python_worker_runs_what_we_defer,
    a_python_worker_runs_what_we_defer_in_batches_and_on_blocking_connections,
    python_gets_an_error_if_our_job_holds_the_queueing_lock,
    we_get_an_error_if_a_job_of_python_holds_the_queueing_lock,
);

const PAST: &str = "2020-02-29T23:59:59.123456+00:00";
const FUTURE: &str = "2999-12-31T12:00:00+13:45";

/// Jobs that differ in everything in which jobs can differ.
pub fn variety() -> Value {
    json!([
        { "task": "peer.echo", "args": {} },
        { "task": "peer.echo", "queue": "Grüße aus Köln 🎈", "args": {
            "text": "naïve \"quotes\" \\ / \n\t\u{1} 𝄞 مرحبا", "ключ": "🎈", "": "the empty name", "not a name": true,
        } },
        { "task": "peer.echo", "priority": -7, "lock": "customer 🎈", "queueing_lock": "report (2026)=(x)", "args": {
            "nested": { "list": [1, [2, [3, { "deep": [[], {}, null] }]]], "object": { "a": { "b": { "c": false } } } },
        } },
        { "task": "peer.echo", "priority": 2_147_483_647, "lock": "customer 🎈", "args": {
            "numbers": [0, -1, i64::MIN, u64::MAX, 0.1, -1.5, 1.0, 1e-9, 1e300, 123_456_789.123_456_79],
        } },
        { "task": "peer.echo", "schedule_at": PAST, "lock": "", "queueing_lock": "", "args": { "past": null } },
        { "task": "peer.echo", "schedule_at": FUTURE, "queueing_lock": "tomorrow", "args": { "future": [] } },
    ])
}

fn to_defer(job: &Value) -> JobToDefer {
    let mut deferred = configure_task(job["task"].as_str().unwrap(), &job["args"]);
    for (option, value) in job.as_object().unwrap() {
        let text = value.as_str().unwrap_or_default();
        deferred = match option.as_str() {
            "queue" => deferred.queue(text),
            "lock" => deferred.lock(text),
            "queueing_lock" => deferred.queueing_lock(text),
            "priority" => deferred.priority(value.as_i64().unwrap().try_into().unwrap()),
            "schedule_at" => deferred.schedule_at(DateTime::parse_from_rfc3339(text).unwrap().into()),
            _ => deferred,
        };
    }
    deferred
}

/// The database has the jobs of this list and no others, as they were deferred, and all of them have run but those of
/// the future.
fn assert_that_these_ran(meeting: &Meeting, jobs: &[Value]) {
    let mut connection = connect(&meeting.database);
    assert_eq!(statuses(&mut connection).len(), jobs.len());
    for (id, deferred) in (1..).map(JobId::from).zip(jobs) {
        let row = job(&mut connection, id);
        assert_eq!(row.task_name, deferred["task"], "{deferred}");
        assert_eq!(row.queue_name, deferred["queue"].as_str().unwrap_or("default"), "{deferred}");
        assert_eq!(row.args, deferred["args"]);
        assert_eq!(i64::from(row.priority), deferred["priority"].as_i64().unwrap_or_default(), "{deferred}");
        assert_eq!(row.lock.as_deref(), deferred["lock"].as_str(), "{deferred}");
        assert_eq!(row.queueing_lock.as_deref(), deferred["queueing_lock"].as_str(), "{deferred}");
        let scheduled_at = deferred["schedule_at"].as_str();
        assert_eq!(row.scheduled_at, scheduled_at.map(|at| DateTime::parse_from_rfc3339(at).unwrap().to_utc()));
        let (status, attempts, history): (_, _, &[_]) = match scheduled_at {
            None => (JobStatus::Succeeded, 1, &["deferred", "started", "succeeded"]),
            Some(PAST) => (JobStatus::Succeeded, 1, &["scheduled", "deferred", "started", "succeeded"]),
            Some(_) => (JobStatus::Todo, 0, &["scheduled", "deferred"]),
        };
        assert_eq!((row.status, row.attempts, row.abort_requested), (status, attempts, false), "{deferred}");
        assert_eq!(events(&mut connection, id), history, "{deferred}");
    }
}

/// After [`variety`] was deferred and our worker was there.
pub fn assert_that_all_ran_but_those_of_the_future(meeting: &Meeting) {
    let jobs = variety();
    assert_that_these_ran(meeting, jobs.as_array().unwrap());
    assert_eq!(meeting.recorder.seen().into_iter().collect::<Vec<_>>(), to_be_seen(jobs.as_array().unwrap()));
}

/// The arguments that the tasks are to see, by job.
fn to_be_seen(jobs: &[Value]) -> Vec<(JobId, Value)> {
    let numbered = (1..).map(JobId::from).zip(jobs);
    numbered.filter(|(_, job)| job["schedule_at"] != FUTURE).map(|(id, job)| (id, job["args"].clone())).collect()
}

async fn our_worker_runs_what_python_defers(meeting: Meeting) {
    let deferred = meeting.python.ask("defer", variety()).await;
    assert_eq!(deferred, [1, 2, 3, 4, 5, 6].map(|id| json!({ "id": id })));

    meeting.worker().concurrency(3).stop_when_empty().run().await.unwrap();

    assert_that_all_ran_but_those_of_the_future(&meeting);
}

async fn our_worker_runs_what_python_defers_in_a_batch(meeting: Meeting) {
    let args: Vec<Value> = (0..100).map(|n| json!({ "n": n, "text": "ü".repeat(n) })).collect();
    let options = json!({ "task": "peer.echo", "queue": "batch", "priority": 3, "lock": "one by one" });
    let mut batch = options.clone();
    batch["args"] = json!(args);
    let ids = meeting.python.ask_one("batch_defer", batch).await;
    assert_eq!(ids, json!((1..=100).collect::<Vec<_>>()));

    meeting.worker().queues(["batch"]).concurrency(3).stop_when_empty().run().await.unwrap();

    let jobs: Vec<Value> = args.into_iter().map(|args| with_args(&options, args)).collect();
    assert_that_these_ran(&meeting, &jobs);
    assert_eq!(meeting.recorder.seen().into_iter().collect::<Vec<_>>(), to_be_seen(&jobs));
}

fn with_args(options: &Value, args: Value) -> Value {
    let mut job = options.clone();
    job["args"] = args;
    job
}

async fn a_python_worker_runs_what_we_defer(meeting: Meeting) {
    for job in variety().as_array().unwrap() {
        meeting.app.defer(to_defer(job)).await.unwrap();
    }
    assert_that_python_runs(&meeting, variety().as_array().unwrap()).await;
}

async fn a_python_worker_runs_what_we_defer_in_batches_and_on_blocking_connections(meeting: Meeting) {
    let jobs = variety();
    // Each queueing lock once.
    let jobs = jobs.as_array().unwrap().iter().cycle().take(24).cloned().enumerate();
    let jobs: Vec<Value> = jobs.map(|(n, job)| numbered_queueing_lock(job, n)).collect();
    let mut to_defer = jobs.iter().map(to_defer);
    let mut connection = connect(&meeting.database);
    let pool = pool(&meeting.database).await;
    let mut ids = Vec::new();
    for job in to_defer.by_ref().take(6) {
        ids.push(job.defer_blocking(&mut connection).unwrap());
    }
    ids.extend(batch_defer_blocking(to_defer.by_ref().take(6), &mut connection).unwrap());
    ids.extend(batch_defer(to_defer.by_ref().take(6), &mut *pool.get().await.unwrap()).await.unwrap());
    ids.extend(meeting.app.batch_defer(to_defer).await.unwrap());
    assert_eq!(ids, (1..=24).map(JobId::from).collect::<Vec<_>>());

    assert_that_python_runs(&meeting, &jobs).await;
}

fn numbered_queueing_lock(mut job: Value, n: usize) -> Value {
    if let Some(Value::String(queueing_lock)) = job.get_mut("queueing_lock") {
        *queueing_lock += &format!(" {n}");
    }
    job
}

async fn assert_that_python_runs(meeting: &Meeting, jobs: &[Value]) {
    let lines = meeting.python.ask("work", json!({ "wait": false })).await;

    assert_that_these_ran(meeting, jobs);
    let mut seen: Vec<(JobId, Value)> = lines
        .into_iter()
        .filter(|line| line.get("job").is_some())
        .map(|line| (JobId::from(line["job"].as_i64().unwrap()), line["args"].clone()))
        .collect();
    seen.sort_by_key(|(id, _)| *id);
    assert_eq!(seen, to_be_seen(jobs));
}

async fn python_gets_an_error_if_our_job_holds_the_queueing_lock(meeting: Meeting) {
    let ours = configure_task("peer.echo", json!({})).queueing_lock("nightly report");
    let id = meeting.app.defer(ours).await.unwrap();
    let theirs = || json!([{ "task": "peer.echo", "args": {}, "queueing_lock": "nightly report" }]);

    let refused = meeting.python.ask("defer", theirs()).await;
    assert_eq!(refused, [json!({ "already_enqueued": "nightly report" })]);

    // It is free again as soon as our job has started.
    meeting.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(job(&mut connect(&meeting.database), id).status, JobStatus::Succeeded);
    assert!(meeting.python.ask_one("defer", theirs()).await.is_i64());
}

async fn we_get_an_error_if_a_job_of_python_holds_the_queueing_lock(meeting: Meeting) {
    let theirs = json!([{ "task": "peer.echo", "args": {}, "queueing_lock": "nightly (1)=(2)" }]);
    meeting.python.ask_one("defer", theirs).await;
    let ours = || configure_task("peer.echo", json!({})).queueing_lock("nightly (1)=(2)");
    let other = || configure_task("peer.echo", json!({}));
    let mut connection = connect(&meeting.database);

    let refusals = [
        meeting.app.defer(ours()).await.unwrap_err(),
        ours().defer_blocking(&mut connection).unwrap_err(),
        meeting.app.batch_defer([other(), ours()]).await.unwrap_err(),
        batch_defer_blocking([ours(), other()], &mut connection).unwrap_err(),
    ];

    for error in refusals {
        let Error::AlreadyEnqueued { task_name, queueing_lock } = error else { panic!("{error}") };
        assert_eq!((task_name.as_str(), queueing_lock.as_str()), ("peer.echo", "nightly (1)=(2)"));
    }
    assert_eq!(meeting.app.defer_unless_enqueued(ours()).await.unwrap(), None);
    assert_eq!(statuses(&mut connection), [JobStatus::Todo]);
}
