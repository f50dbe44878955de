//! A child process that defers jobs at a steady rate and processes jobs. Each second it prints how many it has deferred
//! and processed so far.

use std::env;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procrastinate::{App, DeleteJobs, task};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Measured;
use crate::server::connector;

/// The URL of the database, for a process that is a replica.
pub(crate) const URL: &str = "PROCRASTINATE_LOAD_URL";

/// How many jobs the replica defers per second.
pub(crate) const RATE: &str = "PROCRASTINATE_LOAD_RATE";

/// Whether jobs that succeeded are deleted.
pub(crate) const DELETES: &str = "PROCRASTINATE_LOAD_DELETES";

/// How many jobs a replica runs at the same time.
const CONCURRENCY: usize = 32;

/// How often the producer defers.
const PACE: Duration = Duration::from_millis(50);

static DEFERRED: AtomicU64 = AtomicU64::new(0);
static PROCESSED: AtomicU64 = AtomicU64::new(0);

/// A job that takes a millisecond.
#[task]
async fn work(payload: String) {
    sleep(Duration::from_millis(1)).await;
    drop(payload);
    PROCESSED.fetch_add(1, Ordering::Relaxed);
}

/// Whether this process should be a replica.
pub(crate) fn is_asked_for() -> bool {
    env::var_os(URL).is_some()
}

/// Defers and processes jobs until the process is killed or receives SIGTERM.
pub(crate) async fn run() -> Measured<()> {
    let rate: f64 = env::var(RATE)?.parse()?;
    let deletes = env::var(DELETES).is_ok_and(|deletes| deletes == "true");
    let app = App::builder(connector(&env::var(URL)?, 10).await?).task::<work>().build()?;
    tokio::spawn(report());
    let producer = tokio::spawn(produce(Arc::new(app.clone()), rate));
    let delete_jobs = if deletes { DeleteJobs::Successful } else { DeleteJobs::Never };
    loop {
        // As a service manager would, if it ends with an error.
        let worker = app.worker().concurrency(CONCURRENCY).delete_jobs(delete_jobs).stalled_worker_timeout(STALLED);
        match worker.update_heartbeat_interval(Duration::from_secs(2)).run().await {
            Ok(()) => break,
            Err(error) => eprintln!("the worker ended: {error}"),
        }
        sleep(Duration::from_secs(1)).await;
    }
    producer.abort();
    Ok(())
}

/// After how long the jobs of a killed replica are rescued.
const STALLED: Duration = Duration::from_secs(6);

/// Defers at a steady rate. What could not be deferred in time is made up for later.
async fn produce(app: Arc<App>, rate: f64) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut planned, mut deferred) = (0.0, 0_u32);
    loop {
        ticks.tick().await;
        planned += rate * PACE.as_secs_f64();
        while f64::from(deferred) < planned {
            let missing = (0..1_000).take_while(|more| f64::from(deferred + more) < planned).count();
            match app.batch_defer((0..missing).map(|_| work("x".repeat(200)))).await {
                Ok(ids) => {
                    deferred += u32::try_from(ids.len()).unwrap_or_default();
                    DEFERRED.fetch_add(ids.len() as u64, Ordering::Relaxed);
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

async fn report() {
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let mut out = std::io::stdout().lock();
        let line = format!("{} {}\n", DEFERRED.load(Ordering::Relaxed), PROCESSED.load(Ordering::Relaxed));
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }
}
