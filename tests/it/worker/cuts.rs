//! A connection that is lost at each of the round trips of a worker's life, before the server has the request or after it
//! has done it: every job runs as often as it should, and comes to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DieselConnector, JobContext, JobId, JobToDefer, TaskControl, configure_task, task};
use serde_json::json;
use throwaway_postgres::Database;

use super::proxy::{Cut, Proxy};
use crate::support::{Running, connect, database, eventually, rows, sql};

/// The runs by job, each with the attempts before it, and what went wrong.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    runs: BTreeMap<JobId, Vec<i32>>,
    running: BTreeSet<JobId>,
    twice_at_once: Vec<JobId>,
}

/// A run. Ends when it is dropped.
struct Run(Runs, JobId);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().running.remove(&self.1);
    }
}

fn begin(context: &JobContext) -> Run {
    let runs: &Runs = context.state().unwrap();
    let id = context.job().id;
    let mut seen = runs.0.lock().unwrap();
    seen.runs.entry(id).or_default().push(context.job().attempts);
    if !seen.running.insert(id) {
        seen.twice_at_once.push(id);
    }
    Run(runs.clone(), id)
}

#[task(pass_context)]
async fn succeed(context: JobContext) {
    let _run = begin(&context);
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[task(pass_context, retry = 5)]
async fn succeed_at_the_third_attempt(context: JobContext) -> Result<(), String> {
    let _run = begin(&context);
    if context.job().attempts < 2 { Err("not yet".to_owned()) } else { Ok(()) }
}

#[task(pass_context)]
async fn fail(context: JobContext) -> Result<(), String> {
    let _run = begin(&context);
    Err("never".to_owned())
}

#[task(pass_context)]
async fn snooze_once(context: JobContext) -> Result<(), TaskControl> {
    let _run = begin(&context);
    match context.job().scheduled_at {
        None => Err(TaskControl::snooze(Duration::ZERO)),
        Some(_) => Ok(()),
    }
}

async fn app(url: &str, runs: &Runs) -> App {
    let pool = Pool::builder().max_size(2).connection_timeout(Duration::from_secs(10));
    let pool = pool.build(AsyncDieselConnectionManager::new(url)).await.unwrap();
    App::builder(DieselConnector::new(pool))
        .state(runs.clone())
        .task::<succeed>()
        .task::<succeed_at_the_third_attempt>()
        .task::<fail>()
        .task::<snooze_once>()
        .build()
        .unwrap()
}

/// Has a worker do some jobs whose connection is cut once, and says at how many round trips it might have been.
async fn work_with_a_cut(database: &Database, cut: (usize, Cut)) -> usize {
    let mut connection = connect(database);
    sql(&mut connection, "TRUNCATE procrastinate_jobs, procrastinate_workers RESTART IDENTITY CASCADE");
    for (task, lock) in [
        ("succeed", Some("one")),
        ("succeed_at_the_third_attempt", Some("one")),
        ("snooze_once", None),
        ("fail", Some("two")),
        ("succeed", Some("two")),
        ("succeed", None),
    ] {
        let job = configure_task(task, json!({}));
        lock.into_iter().fold(job, JobToDefer::lock).defer_blocking(&mut connection).unwrap();
    }

    let runs = Runs::default();
    let proxy = Proxy::start(database, Some(cut)).await;
    let app = app(proxy.url(), &runs).await;
    let worker = || {
        app.worker()
            .concurrency(2)
            .install_signal_handlers(false)
            .update_heartbeat_interval(Duration::from_millis(100))
            .stalled_worker_timeout(Duration::from_secs(60))
            // What polling would mend must not need it.
            .fetch_job_polling_interval(Duration::from_secs(3_600))
    };
    let mut running = Running::start(worker());
    let open = "SELECT id FROM procrastinate_jobs WHERE status IN ('todo', 'doing')";
    eventually(&format!("all jobs have ended, {cut:?}"), || {
        if running.has_ended() {
            // A worker that cannot register ends with an error, and is started again.
            running = Running::start(worker());
        }
        rows(&mut connection, open).is_empty()
    })
    .await;
    running.stop().await.unwrap();

    let seen = runs.0.lock().unwrap();
    assert!(seen.twice_at_once.is_empty(), "{:?}, {cut:?}", seen.twice_at_once);
    let all: Vec<Vec<i32>> = seen.runs.values().cloned().collect();
    assert_eq!(all, [vec![0], vec![0, 1, 2], vec![0, 0], vec![0], vec![0], vec![0]], "{cut:?}");
    let jobs = rows(&mut connection, "SELECT status, attempts FROM procrastinate_jobs ORDER BY id");
    let expected = ["succeeded | 1", "succeeded | 3", "succeeded | 1", "failed | 1", "succeeded | 1", "succeeded | 1"];
    assert_eq!(jobs, expected, "{cut:?}");
    let errors = "SELECT job_id, attempt, error FROM procrastinate_diesel_job_errors ORDER BY job_id, attempt";
    assert_eq!(rows(&mut connection, errors), ["2 | 1 | not yet", "2 | 2 | not yet", "4 | 1 | never"], "{cut:?}");
    proxy.round_trips()
}

/// At which round trips to cut: about as many as such a worker has before its jobs have ended.
const CUTS: std::ops::RangeInclusive<usize> = 1..=60;

async fn at_every_round_trip(cut: Cut) {
    let database = database();
    let mut reached = 0;
    for number in CUTS {
        let round_trips = work_with_a_cut(&database, (number, cut)).await;
        reached += usize::from(round_trips >= number);
    }
    assert!(reached > 30, "only {reached} cuts took place");
}

#[tokio::test]
async fn a_lost_request_loses_no_job() {
    at_every_round_trip(Cut::Request).await;
}

#[tokio::test]
async fn a_lost_response_loses_no_job_and_repeats_none() {
    at_every_round_trip(Cut::Answer).await;
}

#[tokio::test]
async fn a_worker_that_stops_when_empty_runs_the_jobs_of_a_lost_response() {
    let database = database();
    let mut connection = connect(&database);
    let mut reached = 0;
    for number in 1..=30 {
        sql(&mut connection, "TRUNCATE procrastinate_jobs, procrastinate_workers RESTART IDENTITY CASCADE");
        configure_task("succeed", json!({})).defer_blocking(&mut connection).unwrap();
        let runs = Runs::default();
        let proxy = Proxy::start(&database, Some((number, Cut::Answer))).await;
        let app = app(proxy.url(), &runs).await;
        // One that cannot register ends with an error, and is started again.
        while app.worker().stop_when_empty().install_signal_handlers(false).run().await.is_err() {}
        assert_eq!(
            rows(&mut connection, "SELECT status, attempts FROM procrastinate_jobs"),
            ["succeeded | 1"],
            "{number}"
        );
        assert_eq!(runs.0.lock().unwrap().runs.values().collect::<Vec<_>>(), [&vec![0]], "{number}");
        reached += usize::from(proxy.round_trips() >= number);
    }
    assert!(reached > 8, "only {reached} cuts took place");
}

#[tokio::test]
async fn an_idle_worker_sends_no_more_statements_than_its_intervals_explain() {
    let database = database();
    let proxy = Proxy::start(&database, None).await;
    let app = app(proxy.url(), &Runs::default()).await;
    let (beat, poll) = (Duration::from_millis(200), Duration::from_millis(100));
    let worker = app.worker().update_heartbeat_interval(beat).fetch_job_polling_interval(poll);
    let worker = Running::start(worker.install_signal_handlers(false));
    // Each statement is prepared at its first time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (started, before) = (Instant::now(), proxy.round_trips());
    // A stretch of time is what this is about.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (round_trips, lasted) = (proxy.round_trips() - before, started.elapsed());
    worker.stop().await.unwrap();

    let times = |interval: Duration| usize::try_from(lasted.as_millis() / interval.as_millis()).unwrap() + 1;
    // A poll takes a connection, which the pool tries, and asks once. A beat asks once. As often dead workers are looked
    // for, and their jobs, and jobs that have not started in time, on a connection that the pool has tried.
    let explained = 2 * times(poll) + times(beat) + 4 * times(beat);
    // On a busy machine the pool may have a second connection, on which each statement is prepared again.
    let slack = 20;
    assert!(round_trips <= explained + slack, "{round_trips} round trips, {explained} explained");
}
