//! The time from just before the defer to the start of the task, on an idle worker.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::WorkerHandle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::Measured;
use crate::bench_server::{self, BenchServer};
use crate::deferring::Figures;
use crate::raw::{self, Insert};
use crate::table::Table;
use crate::tasks::{Starts, TEXT, timed};

/// How long the worker has to become idle again.
const PAUSE: Duration = Duration::from_millis(10);
/// After this time a measurement has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// The number of jobs before the measurement, so that connections prepare their statements.
const WARM_UP: u32 = 10;

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let head = ["what", "this crate", "raw SQL", "ratio"];
    let mut table = Table::new("Latency from defer to start, milliseconds", &head);
    for (name, is_busy) in [("idle worker", false), ("idle worker, while another worker is busy", true)] {
        let mut percentiles = [(50, Figures::default()), (99, Figures::default())];
        for round in 0..bench.arguments.long_rounds() {
            let mut times = [Vec::new(), Vec::new()];
            // Each side begins in every other round.
            for turn in 0..2 {
                let is_ours = (round + turn) % 2 == 1;
                times[usize::from(is_ours)] = latencies(bench, is_ours, is_busy).await?;
            }
            for (percent, figures) in &mut percentiles {
                figures.others.push(percentile(&mut times[0], *percent));
                figures.ours.push(percentile(&mut times[1], *percent));
            }
        }
        for (percent, figures) in &percentiles {
            table.compare(&format!("{name}, p{percent}"), &figures.ours, &figures.others, []);
        }
    }
    table.note(
        "Raw SQL inserts the job, notifies a listening connection, and another connection fetches the job. That is two \
         commits and one notification.",
    );
    Ok(vec![table])
}

fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn milliseconds(time: Duration) -> f64 {
    1_000.0 * time.as_secs_f64()
}

async fn latencies(bench: &BenchServer, is_ours: bool, is_busy: bool) -> Measured<Vec<f64>> {
    let jobs = bench.arguments.latency_jobs();
    let database = if is_busy { bench.database_with_jobs(200 * jobs).await? } else { bench.database()? };
    let url = database.superuser_url();
    let busy = if is_busy { Some(start_busy_worker(url).await?) } else { None };
    let times = if is_ours { ours(url, jobs).await? } else { theirs(url, jobs).await? };
    if let Some((handle, running)) = busy {
        let client = bench_server::connect(url).await?;
        let left: i64 = client
            .query_one("SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'work' AND status = 'todo'", &[])
            .await?
            .get(0);
        handle.stop();
        running.await??;
        if left == 0 {
            return Err("the busy worker ran out of jobs during the measurement".into());
        }
    }
    Ok(times)
}

type Running = JoinHandle<Result<(), procrastinate::Error>>;

async fn start_busy_worker(url: &str) -> Measured<(WorkerHandle, Running)> {
    let app = bench_server::app(bench_server::pool(url).await?)?;
    let worker = app.worker().queues(["work"]).concurrency(10).install_signal_handlers(false);
    let handle = worker.handle();
    Ok((handle, tokio::spawn(worker.run())))
}

async fn ours(url: &str, jobs: u32) -> Measured<Vec<f64>> {
    let (sender, mut starts) = unbounded_channel();
    let app = bench_server::builder(bench_server::pool(url).await?).state(Starts(sender)).build()?;
    let worker = app.worker().queues(["quick"]).install_signal_handlers(false);
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());

    let mut connection = AsyncPgConnection::establish(url).await?;
    let mut times = Vec::new();
    for a in 0..(WARM_UP + jobs) {
        tokio::time::sleep(PAUSE).await;
        let began_at = Instant::now();
        timed(a.into(), TEXT.to_owned()).defer(&mut connection).await?;
        let started = tokio::time::timeout(LIMIT, starts.recv()).await?;
        let (_, started_at) =
            started.filter(|(started, _)| *started == i64::from(a)).ok_or("a different job started")?;
        if a >= WARM_UP {
            times.push(milliseconds(started_at - began_at));
        }
    }
    handle.stop();
    running.await??;
    expect_quick(url, "succeeded", WARM_UP + jobs).await?;
    Ok(times)
}

async fn theirs(url: &str, jobs: u32) -> Measured<Vec<f64>> {
    let (listener, mut notifications) = listen(url).await?;
    let producer = bench_server::connect(url).await?;
    let insert = Insert::prepare(&producer).await?;
    let fetcher = bench_server::connect(url).await?;
    let fetch = raw::prepare_fetch_one(&fetcher).await?;
    // One connection commits, the other one listens and fetches.
    let worker = tokio::spawn(async move {
        let mut starts = Vec::new();
        for _ in 0..(WARM_UP + jobs) {
            let id = tokio::time::timeout(LIMIT, notifications.recv()).await?.ok_or("the listener ended")?;
            fetcher.query_one(&fetch, &[&id]).await?;
            starts.push(Instant::now());
        }
        Measured::Ok(starts)
    });
    let mut begins = Vec::new();
    for a in 0..(WARM_UP + jobs) {
        tokio::time::sleep(PAUSE).await;
        begins.push(Instant::now());
        insert.run("quick", "timed", a.into()).await?;
    }
    let starts = worker.await??;
    drop(listener);
    expect_quick(url, "doing", WARM_UP + jobs).await?;
    let times = starts.into_iter().zip(begins).skip(WARM_UP as usize);
    Ok(times.map(|(started_at, began_at)| milliseconds(started_at - began_at)).collect())
}

/// Opens a connection that listens to the queue `quick`. Returns it with its notifications.
async fn listen(url: &str) -> Measured<(Client, UnboundedReceiver<i64>)> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let AsyncMessage::Notification(notification) = message else { continue };
            let payload: serde_json::Value = serde_json::from_str(notification.payload()).unwrap_or_default();
            // Nothing receives the last one.
            let _ = sender.send(payload["job_id"].as_i64().unwrap_or_default());
        }
    });
    client.batch_execute("LISTEN \"procrastinate_queue_v1#quick\"").await?;
    Ok((client, receiver))
}

async fn expect_quick(url: &str, status: &str, jobs: u32) -> Measured<()> {
    let client = bench_server::connect(url).await?;
    let counted = client
        .query_one(
            "SELECT count(*), count(DISTINCT event.job_id)
             FROM procrastinate_jobs AS job
             JOIN procrastinate_events AS event ON event.job_id = job.id AND event.type = 'started'
             WHERE job.queue_name = 'quick' AND job.status::text = $1",
            &[&status],
        )
        .await?;
    let (found, distinct): (i64, i64) = (counted.get(0), counted.get(1));
    if (found, distinct) != (jobs.into(), jobs.into()) {
        return Err(format!("expected {jobs} jobs that are {status}, each started once; found {found}").into());
    }
    Ok(())
}
