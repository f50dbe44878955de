//! Processing with a million other jobs that do not start. The same worker processes the same jobs with them and
//! without them, in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use throwaway_postgres::Database;
use tokio_postgres::Client;

use crate::Measured;
use crate::bench_server::{self, BenchServer};
use crate::deferring::Figures;
use crate::rows::jobs_to_do;
use crate::shapes::{Queues, Shape, shapes};
use crate::table::Table;
use crate::tasks::Limit;

/// The number of jobs that are processed each time.
const JOBS: u32 = 2_000;
/// How often that is done at most in one table and round: for three workers, and for one with statistics.
const TIMES: u32 = 4;

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let head = ["other jobs in the table; queues served", "with them", "without", "ratio"];
    let title = |statistics| format!("2,000 jobs at concurrency 10 with other jobs, {statistics}, jobs per second");
    let mut stale = Table::new(title("never analyzed or vacuumed"), &head);
    let mut fresh = Table::new(title("vacuumed and analyzed"), &head);
    let is_quick = bench.arguments.is_quick();
    let began_at = Instant::now();
    for shape in shapes(bench.arguments.rows(), (JOBS + 100) * TIMES * bench.arguments.long_rounds()) {
        eprintln!("  {} after {:.0} s", shape.name, began_at.elapsed().as_secs_f64());
        let database = bench.database()?;
        bench_server::fill(database.superuser_url(), &shape.fill).await?;
        maintain(&database, "CHECKPOINT").await?;
        compare(bench, &shape, &database, None, &mut stale).await?;
        if is_quick {
            continue;
        }
        let maintenance = "VACUUM ANALYZE; CHECKPOINT";
        maintain(&database, maintenance).await?;
        compare(bench, &shape, &database, Some(maintenance), &mut fresh).await?;
    }
    Ok(if is_quick { vec![stale] } else { vec![stale, fresh] })
}

async fn maintain(database: &Database, sql: &str) -> Measured<()> {
    let client = bench_server::connect(database.superuser_url()).await?;
    // Several statements in one message would be one transaction.
    for statement in sql.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

async fn compare(
    bench: &BenchServer,
    shape: &Shape,
    database: &Database,
    maintenance: Option<&str>,
    table: &mut Table,
) -> Measured<()> {
    // With statistics, and with --quick, only the first worker is measured.
    let workers = if maintenance.is_some() || bench.arguments.is_quick() { 1 } else { shape.queues.len() };
    for queues in &shape.queues[..workers] {
        let empty = bench.database()?;
        if let Some(maintenance) = maintenance {
            maintain(&empty, maintenance).await?;
        }
        let mut figures = Figures::default();
        for round in 0..bench.arguments.long_rounds() {
            figures
                .take(
                    round,
                    async || process(database, *queues, !shape.is_due).await,
                    async || process(&empty, *queues, true).await,
                )
                .await
                .map_err(|error| format!("{}; {}: {error}", shape.name, queues.name()))?;
        }
        let what = format!("{}; {}", shape.name, queues.name());
        table.compare(&what, &figures.ours, &figures.others, []);
    }
    Ok(())
}

/// Processes this many jobs, from the start of the worker to its end. Inserts them first if necessary.
async fn process(database: &Database, queues: Queues, must_insert: bool) -> Measured<f64> {
    let url = database.superuser_url();
    if must_insert {
        bench_server::fill(url, &jobs_to_do(JOBS, "counted", queues.of_job())).await?;
    }
    let client = bench_server::connect(url).await?;
    let last_event: i64 = client.query_one("SELECT coalesce(max(id), 0) FROM procrastinate_events", &[]).await?.get(0);

    let app = bench_server::app(bench_server::pool(url).await?)?;
    let mut worker = app.worker().concurrency(10).install_signal_handlers(false).stop_when_empty();
    if let Some(names) = queues.names() {
        worker = worker.queues(names);
    }
    let limit = Arc::new(Limit { jobs: JOBS, ran: AtomicU32::new(0), handle: worker.handle() });
    let started_at = Instant::now();
    worker.state(Arc::clone(&limit)).run().await?;
    let took = started_at.elapsed().as_secs_f64();

    // Some are still running when the last counted job has run.
    let ran = limit.ran.load(Ordering::Relaxed);
    if ran < JOBS {
        return Err(format!("expected {JOBS} jobs to run, found {ran}").into());
    }
    expect_stored(&client, last_event, ran).await?;
    Ok(f64::from(ran) / took)
}

/// Fails unless the new events are those of this many jobs, and all of these have succeeded.
async fn expect_stored(client: &Client, last_event: i64, ran: u32) -> Measured<()> {
    let events = client
        .query_one(
            "SELECT count(*) FILTER (WHERE type = 'started'), array_agg(job_id) FILTER (WHERE type = 'succeeded')
             FROM procrastinate_events WHERE id > $1",
            &[&last_event],
        )
        .await?;
    let (started, ended): (i64, Vec<i64>) = (events.get(0), events.get(1));
    // Select by ID, because the table has no statistics yet.
    let succeeded: i64 = client
        .query_one("SELECT count(*) FROM procrastinate_jobs WHERE id = ANY ($1) AND status = 'succeeded'", &[&ended])
        .await?
        .get(0);
    if (started, succeeded) != (ran.into(), ran.into()) {
        return Err(format!("{ran} jobs ran, but {started} started and {succeeded} succeeded").into());
    }
    Ok(())
}
