//! How many no-op jobs per second one worker works off, history kept, on a private PostgreSQL that stores durably.
//!
//! `cargo bench --bench throughput [-- JOBS [ROUNDS]]`: 20,000 jobs and 5 rounds unless said. Each round has a database of
//! its own and a worker of concurrency 10 with default settings; beside the median stand the slowest and the fastest.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it reports")]

use std::error::Error;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use procrastinate::schema::{procrastinate_events, procrastinate_jobs};
use procrastinate::{App, DieselConnector, JobStatus, ProcrastinateJob, task};
use throwaway_postgres::{Options, Server};

#[task]
async fn no_op(a: i64, b: String) {
    let _ = (a, b);
}

/// What one round took.
struct Round {
    batch: Duration,
    single: Duration,
    work: Duration,
}

/// How many jobs are deferred one at a time.
const SINGLE_JOBS: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let jobs = numbers.next().unwrap_or(20_000);
    let rounds = numbers.next().unwrap_or(5).max(1);
    let options = Options::new().durable(true).setting("shared_buffers", "512MB").setting("max_wal_size", "4GB");
    let server = Server::start_with(&options)?;
    println!("PostgreSQL {}, {jobs} jobs, {rounds} rounds", server.major_version()?);

    let mut results = Vec::new();
    for _ in 0..rounds {
        results.push(round(&server, jobs).await?);
    }
    report("deferred in batches of 1,000", jobs, results.iter().map(|round| round.batch));
    report("deferred one at a time", SINGLE_JOBS, results.iter().map(|round| round.single));
    report("worked off at concurrency 10", jobs + SINGLE_JOBS, results.iter().map(|round| round.work));
    Ok(())
}

async fn round(server: &Server, jobs: usize) -> Result<Round, Box<dyn Error>> {
    let database = server.create_database("benchmark")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::MIGRATIONS).await?;
    let app = App::builder(connector).task::<no_op>().build()?;
    let numbers: Vec<i64> = (0..i64::try_from(jobs)?).collect();

    let start = Instant::now();
    for chunk in numbers.chunks(1_000) {
        app.batch_defer(chunk.iter().map(|n| no_op(*n, "a short string".to_owned()))).await?;
    }
    let batch = start.elapsed();

    let start = Instant::now();
    let mut connection = pool.get().await?;
    for n in 0..i64::try_from(SINGLE_JOBS)? {
        no_op(n, "a short string".to_owned()).defer(&mut connection).await?;
    }
    let single = start.elapsed();
    drop(connection);

    let start = Instant::now();
    app.worker().concurrency(10).wait(false).run().await?;
    let work = start.elapsed();

    // What was measured is that all of them were worked off, with their history.
    let mut connection = pool.get().await?;
    let expected = i64::try_from(jobs + SINGLE_JOBS)?;
    let succeeded: i64 = ProcrastinateJob::query()
        .filter(ProcrastinateJob::has_status(JobStatus::Succeeded))
        .count()
        .get_result(&mut connection)
        .await?;
    let events: i64 = procrastinate_events::table.count().get_result(&mut connection).await?;
    let all: i64 = procrastinate_jobs::table.count().get_result(&mut connection).await?;
    if (all, succeeded, events) != (expected, expected, 3 * expected) {
        return Err(format!("of {expected} jobs {succeeded} succeeded, with {events} events").into());
    }
    Ok(Round { batch, single, work })
}

fn report(what: &str, jobs: usize, durations: impl Iterator<Item = Duration>) {
    #[allow(clippy::cast_precision_loss, reason = "a rate is shown without decimals")]
    let mut rates: Vec<f64> = durations.map(|duration| jobs as f64 / duration.as_secs_f64()).collect();
    rates.sort_by(f64::total_cmp);
    let (slowest, median, fastest) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!("{what:<32} {median:>8.0} jobs/s   ({slowest:.0} to {fastest:.0})");
}
