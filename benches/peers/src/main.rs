//! Measures other queues on the same work as this crate, in one run: a private PostgreSQL server, a new database for
//! each, and all of them in turns. `benches/peers/run` builds and starts it.
//!
//! In each database, jobs are deferred one at a time and in batches of 1,000. One worker with concurrency 10 processes
//! them, until the database shows that all have finished. Then jobs are deferred one by one while that worker is idle.
//! The tasks do nothing. Each queue has the settings of its documentation and its default behaviour. Differences are
//! listed in docs/performance.md.

mod apalis_peer;
mod fang_peer;
mod graphile_peer;
mod ours;
mod python_peer;

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use throwaway_postgres::{Options, Server};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Measured<T> = Result<T, Failure>;

pub const TEXT: &str = "a short string";
pub const BATCH: u32 = 1_000;
pub const CONCURRENCY: u32 = 10;

/// The numbers of jobs.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub single: u32,
    pub bulk: u32,
    pub latency: u32,
}

/// The figures of one queue in one round. Unsupported operations have none.
#[derive(Default)]
pub struct Sample {
    pub single: f64,
    pub bulk: Option<f64>,
    pub work: f64,
    /// In milliseconds.
    pub latency: Vec<f64>,
}

static RAN: AtomicU32 = AtomicU32::new(0);
static IS_TIMED: AtomicBool = AtomicBool::new(false);
static STARTS: Mutex<Option<UnboundedSender<Instant>>> = Mutex::new(None);

/// The body of every task.
pub fn started() {
    let now = Instant::now();
    RAN.fetch_add(1, Ordering::Relaxed);
    if IS_TIMED.load(Ordering::Relaxed)
        && let Ok(starts) = STARTS.lock()
        && let Some(starts) = &*starts
    {
        let _ = starts.send(now);
    }
}

/// Starts timing, and returns the start times of tasks.
pub fn timed() -> UnboundedReceiver<Instant> {
    let (sender, receiver) = unbounded_channel();
    if let Ok(mut starts) = STARTS.lock() {
        *starts = Some(sender);
    }
    IS_TIMED.store(true, Ordering::Relaxed);
    receiver
}

pub fn begin_work() -> Instant {
    RAN.store(0, Ordering::Relaxed);
    IS_TIMED.store(false, Ordering::Relaxed);
    Instant::now()
}

/// Waits until this many jobs have run, and until the database has stored all outcomes, that is, until the statement
/// counts no jobs that are left.
pub async fn processed(url: &str, jobs: u32, left: &str, began_at: Instant) -> Measured<f64> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let check = |what: &str| {
        if Instant::now() > deadline {
            Err(format!("{what}, {} of {jobs} have run", RAN.load(Ordering::Relaxed)))
        } else {
            Ok(())
        }
    };
    let client = connect(url).await?;
    while RAN.load(Ordering::Relaxed) < jobs {
        check("not all jobs ran in time")?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while client.query_one(left, &[]).await?.get::<_, i64>(0) > 0 {
        check("not all outcomes were stored in time")?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(f64::from(jobs) / began_at.elapsed().as_secs_f64())
}

/// Defers jobs one after the other, each after the last one has started and the worker is idle again.
pub async fn latencies(jobs: u32, mut defer: impl AsyncFnMut(i64) -> Measured<()>) -> Measured<Vec<f64>> {
    let mut starts = timed();
    let mut times = Vec::new();
    for a in 0..jobs {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began_at = Instant::now();
        defer(a.into()).await?;
        let started_at =
            tokio::time::timeout(Duration::from_secs(30), starts.recv()).await?.ok_or("the channel is closed")?;
        times.push(1_000.0 * (started_at - began_at).as_secs_f64());
    }
    Ok(times)
}

pub fn rate(jobs: u32, began_at: Instant) -> f64 {
    f64::from(jobs) / began_at.elapsed().as_secs_f64()
}

pub async fn connect(url: &str) -> Measured<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

const PEERS: [&str; 7] = [
    "procrastinate (this crate)",
    "procrastinate (this crate), local buffer of 500",
    "Procrastinate (Python)",
    "graphile_worker",
    "graphile_worker, local queue of 500",
    "apalis-postgres",
    "fang",
];

async fn measure(peer: usize, server: &Server, sizes: Sizes) -> Measured<Sample> {
    let database = server.create_database("peers")?;
    let url = database.superuser_url();
    match peer {
        0 => ours::measure(url, sizes, 0).await,
        1 => ours::measure(url, sizes, 500).await,
        2 => python_peer::measure(url, sizes).await,
        3 => graphile_peer::measure(url, sizes, None).await,
        4 => graphile_peer::measure(url, sizes, Some(500)).await,
        5 => apalis_peer::measure(url, sizes).await,
        _ => fang_peer::measure(url, sizes).await,
    }
}

#[tokio::main]
async fn main() -> Measured<()> {
    let rounds: u32 = std::env::args().nth(1).map_or(Ok(3), |rounds| rounds.parse())?;
    let wanted = std::env::args().nth(2);
    let options = Options::new()
        .ignore_database_url(true)
        .durable(true)
        .setting("shared_buffers", "512MB")
        .setting("max_wal_size", "4GB")
        .setting("autovacuum", "off");
    let server = Server::start_with(&options)?;
    let sizes = Sizes { single: 1_000, bulk: 4_000, latency: 100 };
    let mut samples: [Vec<Sample>; PEERS.len()] = Default::default();
    for round in 0..rounds as usize {
        for turn in 0..PEERS.len() {
            let peer = (round + turn) % PEERS.len();
            if wanted.as_ref().is_some_and(|wanted| !PEERS[peer].contains(wanted.as_str())) {
                continue;
            }
            eprintln!("round {round}: {}", PEERS[peer]);
            match measure(peer, &server, sizes).await {
                Ok(sample) => samples[peer].push(sample),
                Err(error) => eprintln!("{}: {error}", PEERS[peer]),
            }
        }
    }
    println!("### Other queues: median of {rounds} rounds, with the slowest and the fastest\n");
    println!(
        "| queue | deferred one at a time, jobs/s | in batches of 1,000, jobs/s | processed at concurrency 10, jobs/s | defer to start, ms: p50, p99 |"
    );
    println!("|---|---|---|---|---|");
    for (name, samples) in PEERS.iter().zip(&samples).filter(|(_, samples)| !samples.is_empty()) {
        let single = spread(samples.iter().map(|sample| sample.single), 0);
        let bulk = spread(samples.iter().filter_map(|sample| sample.bulk), 0);
        let work = spread(samples.iter().map(|sample| sample.work), 0);
        let p50 = spread(samples.iter().filter_map(|sample| percentile(&sample.latency, 50)), 1);
        let p99 = spread(samples.iter().filter_map(|sample| percentile(&sample.latency, 99)), 1);
        println!("| {name} | {single} | {bulk} | {work} | {p50}, {p99} |");
    }
    Ok(())
}

fn percentile(times: &[f64], percent: usize) -> Option<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

fn spread(values: impl Iterator<Item = f64>, decimals: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else { return "–".to_owned() };
    let median = values[values.len() / 2];
    format!("{median:.decimals$} ({low:.decimals$} to {high:.decimals$})")
}
