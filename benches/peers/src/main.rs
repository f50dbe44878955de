//! Measures other queues on the same work as this crate, in one run: a private PostgreSQL server, a new database for
//! each, and all of them in turns. `benches/peers/run` builds and starts it.
//!
//! In each database, jobs are deferred one at a time and in batches of 1,000. One worker processes them, until the
//! database shows that all have finished. Then jobs are deferred one by one while that worker is idle. The tasks do
//! nothing. There are two tables: one with concurrency 10 and each queue's default behaviour, and one with the settings
//! that give each queue its highest throughput, and ten times as many jobs. Differences between the queues are listed
//! in docs/performance.md.

mod apalis_peer;
mod fang_peer;
mod graphile_peer;
mod ours;
mod river_peer;
mod script_peer;

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

/// A queue with its settings.
#[derive(Clone, Copy)]
enum Peer {
    Ours(ours::Settings),
    Script(script_peer::Script, u32),
    Graphile { concurrency: usize, local_queue: Option<usize> },
    Apalis { concurrency: usize, batch: usize },
    Fang,
    River { concurrency: usize, cooldown: Option<Duration> },
}

const PROCRASTINATE: script_peer::Script =
    script_peer::Script { file: "procrastinate_peer.py", program: "PEERS_PYTHON" };
const PGQUEUER: script_peer::Script = script_peer::Script { file: "pgqueuer_peer.py", program: "PEERS_PYTHON" };
const PG_BOSS: script_peer::Script = script_peer::Script { file: "pg_boss_peer.mjs", program: "PEERS_NODE" };

const AT_TEN: &[(&str, Peer)] = &[
    ("procrastinate (this crate)", Peer::Ours(ours::Settings::AT_TEN)),
    (
        "procrastinate (this crate), jobs deleted",
        Peer::Ours(ours::Settings { deletes: true, ..ours::Settings::AT_TEN }),
    ),
    ("Procrastinate (Python)", Peer::Script(PROCRASTINATE, 10)),
    ("graphile_worker", Peer::Graphile { concurrency: 10, local_queue: None }),
    ("apalis-postgres", Peer::Apalis { concurrency: 10, batch: 10 }),
    ("fang", Peer::Fang),
    ("River for Rust", Peer::River { concurrency: 10, cooldown: None }),
    ("PgQueuer", Peer::Script(PGQUEUER, 10)),
    ("pg-boss", Peer::Script(PG_BOSS, 10)),
];

const AT_MOST: &[(&str, Peer)] = &[
    ("procrastinate (this crate), concurrency 100, local buffer of 500", Peer::Ours(ours::Settings::AT_MOST)),
    (
        "procrastinate (this crate), the same, jobs deleted",
        Peer::Ours(ours::Settings { deletes: true, ..ours::Settings::AT_MOST }),
    ),
    (
        "procrastinate (this crate), two such workers",
        Peer::Ours(ours::Settings { workers: 2, ..ours::Settings::AT_MOST }),
    ),
    (
        "procrastinate (this crate), two such workers, jobs deleted",
        Peer::Ours(ours::Settings { workers: 2, deletes: true, ..ours::Settings::AT_MOST }),
    ),
    (
        "procrastinate (this crate), concurrency 500, local buffer of 5,000, jobs deleted",
        Peer::Ours(ours::Settings { workers: 1, concurrency: 500, local_buffer: 5_000, deletes: true }),
    ),
    ("graphile_worker, concurrency 10, local queue of 100", Peer::Graphile { concurrency: 10, local_queue: Some(100) }),
    (
        "graphile_worker, concurrency 500, local queue of 5,000",
        Peer::Graphile { concurrency: 500, local_queue: Some(5_000) },
    ),
    ("apalis-postgres, concurrency 100, batches of 500", Peer::Apalis { concurrency: 100, batch: 500 }),
    (
        "River for Rust, concurrency 1,000, cooldown of 1 ms",
        Peer::River { concurrency: 1_000, cooldown: Some(Duration::from_millis(1)) },
    ),
    ("PgQueuer, batches of 1,000", Peer::Script(PGQUEUER, 1_000)),
    ("pg-boss, four workers, batches of 1,000", Peer::Script(PG_BOSS, 1_000)),
];

impl Peer {
    async fn measure(self, server: &Server, sizes: Sizes) -> Measured<Sample> {
        let database = server.create_database("peers")?;
        let url = database.superuser_url();
        match self {
            Self::Ours(settings) => ours::measure(url, sizes, settings).await,
            Self::Script(script, setting) => script_peer::measure(script, url, sizes, setting).await,
            Self::Graphile { concurrency, local_queue } => {
                graphile_peer::measure(url, sizes, concurrency, local_queue).await
            }
            Self::Apalis { concurrency, batch } => apalis_peer::measure(url, sizes, concurrency, batch).await,
            Self::Fang => fang_peer::measure(url, sizes).await,
            Self::River { concurrency, cooldown } => river_peer::measure(url, sizes, concurrency, cooldown).await,
        }
    }
}

#[tokio::main]
async fn main() -> Measured<()> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(3), |rounds| rounds.parse())?;
    let wanted = std::env::args().nth(2);
    let options = Options::new()
        .ignore_database_url(true)
        .durable(true)
        .setting("shared_buffers", "512MB")
        .setting("max_wal_size", "4GB")
        .setting("autovacuum", "off");
    let server = Server::start_with(&options)?;
    let sizes = Sizes { single: 1_000, bulk: 4_000, latency: 100 };
    compare("at concurrency 10", AT_TEN, &server, sizes, rounds, wanted.as_deref()).await;
    let sizes = Sizes { bulk: 49_000, ..sizes };
    compare("with the settings for throughput", AT_MOST, &server, sizes, rounds, wanted.as_deref()).await;
    Ok(())
}

/// Measures the queues in turns, and prints a table. One that fails is left out, with a message.
async fn compare(
    title: &str,
    peers: &[(&str, Peer)],
    server: &Server,
    sizes: Sizes,
    rounds: usize,
    wanted: Option<&str>,
) {
    let mut samples: Vec<Vec<Sample>> = peers.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let index = (round + turn) % peers.len();
            let (name, peer) = peers[index];
            if wanted.is_some_and(|wanted| !name.contains(wanted)) {
                continue;
            }
            eprintln!("round {round}: {name}");
            match peer.measure(server, sizes).await {
                Ok(sample) => samples[index].push(sample),
                Err(error) => eprintln!("{name}: {error}"),
            }
        }
    }
    println!("### Other queues {title}: median of {rounds} rounds, with the slowest and the fastest\n");
    println!(
        "| queue | deferred one at a time, jobs/s | in batches of 1,000, jobs/s | processed, jobs/s | defer to start, ms: p50, p99 |"
    );
    println!("|---|---|---|---|---|");
    for ((name, _), samples) in peers.iter().zip(&samples).filter(|(_, samples)| !samples.is_empty()) {
        let single = spread(samples.iter().map(|sample| sample.single), 0);
        let bulk = spread(samples.iter().filter_map(|sample| sample.bulk), 0);
        let work = spread(samples.iter().map(|sample| sample.work), 0);
        let p50 = spread(samples.iter().filter_map(|sample| percentile(&sample.latency, 50)), 1);
        let p99 = spread(samples.iter().filter_map(|sample| percentile(&sample.latency, 99)), 1);
        println!("| {name} | {single} | {bulk} | {work} | {p50}, {p99} |");
    }
    println!();
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
    let median = f64::midpoint(values[values.len() / 2], values[(values.len() - 1) / 2]);
    format!("{median:.decimals$} ({low:.decimals$} to {high:.decimals$})")
}
