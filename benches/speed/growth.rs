//! Beside a million jobs that are not to be started: the same jobs are worked off by the same worker, beside them and in a
//! database where there is nothing else, in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use throwaway_postgres::Database;
use tokio_postgres::Client;

use crate::Measured;
use crate::deferring::Figures;
use crate::place::{self, BenchServer};
use crate::rows::jobs_to_do;
use crate::shapes::{Queues, Shape, shapes};
use crate::table::Table;
use crate::tasks::Limit;

/// How many jobs are worked off each time.
const JOBS: u32 = 2_000;
/// How often at most that is done in one table in a round: for three workers, and for one with statistics.
const TIMES: u32 = 4;

pub(crate) async fn measure(place: &BenchServer) -> Measured<Vec<Table>> {
    let head = ["beside", "beside them", "nothing else", "beside them / nothing else"];
    let title = |statistics| format!("2,000 jobs at concurrency 10 in a large table, {statistics}, jobs a second");
    let mut stale = Table::new(title("never analysed and never vacuumed"), &head);
    let mut fresh = Table::new(title("vacuumed and analysed"), &head);
    let is_quick = place.arguments.is_quick();
    let began_at = Instant::now();
    for shape in shapes(place.arguments.rows(), (JOBS + 100) * TIMES * place.arguments.long_rounds()) {
        eprintln!("  {} after {:.0} s", shape.name, began_at.elapsed().as_secs_f64());
        let database = place.database()?;
        place::fill(database.url(), &shape.fill).await?;
        maintain(&database, "CHECKPOINT").await?;
        compare(place, &shape, &database, None, &mut stale).await?;
        if is_quick {
            continue;
        }
        let maintenance = "VACUUM ANALYZE; CHECKPOINT";
        maintain(&database, maintenance).await?;
        compare(place, &shape, &database, Some(maintenance), &mut fresh).await?;
    }
    Ok(if is_quick { vec![stale] } else { vec![stale, fresh] })
}

async fn maintain(database: &Database, sql: &str) -> Measured<()> {
    let client = place::connect(database.url()).await?;
    // Several in one message would be one transaction.
    for statement in sql.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

async fn compare(
    place: &BenchServer,
    shape: &Shape,
    database: &Database,
    maintenance: Option<&str>,
    table: &mut Table,
) -> Measured<()> {
    // With statistics, and with --quick, it is the first worker alone.
    let workers = if maintenance.is_some() || place.arguments.is_quick() { 1 } else { shape.queues.len() };
    for queues in &shape.queues[..workers] {
        let empty = place.database()?;
        if let Some(maintenance) = maintenance {
            maintain(&empty, maintenance).await?;
        }
        let mut figures = Figures::default();
        for round in 0..place.arguments.long_rounds() {
            figures
                .take(
                    round,
                    async || work_off(database, *queues, !shape.is_due).await,
                    async || work_off(&empty, *queues, true).await,
                )
                .await
                .map_err(|error| format!("{}; {}: {error}", shape.name, queues.name()))?;
        }
        let what = format!("{}; {}", shape.name, queues.name());
        table.compare(&what, &figures.ours, &figures.others, []);
    }
    Ok(())
}

/// Works off so many jobs, which are inserted first if they are not there, from the start of the worker until its end.
async fn work_off(database: &Database, queues: Queues, is_to_insert: bool) -> Measured<f64> {
    let url = database.url();
    if is_to_insert {
        place::fill(url, &jobs_to_do(JOBS, "counted", queues.of_job())).await?;
    }
    let client = place::connect(url).await?;
    let last_event: i64 = client.query_one("SELECT coalesce(max(id), 0) FROM procrastinate_events", &[]).await?.get(0);

    let app = place::app(place::pool(url).await?)?;
    let mut worker = app.worker().concurrency(10).install_signal_handlers(false).stop_when_empty();
    if let Some(names) = queues.names() {
        worker = worker.queues(names);
    }
    let limit = Arc::new(Limit { jobs: JOBS, ran: AtomicU32::new(0), handle: worker.handle() });
    let started_at = Instant::now();
    worker.state(Arc::clone(&limit)).run().await?;
    let took = started_at.elapsed().as_secs_f64();

    // Some are under way when the last one that counts has run.
    let ran = limit.ran.load(Ordering::Relaxed);
    if ran < JOBS {
        return Err(format!("only {ran} jobs have run").into());
    }
    expect_stored(&client, last_event, ran).await?;
    Ok(f64::from(ran) / took)
}

/// Fails unless the events since the last one are those of so many jobs, and these have succeeded.
async fn expect_stored(client: &Client, last_event: i64, ran: u32) -> Measured<()> {
    let events = client
        .query_one(
            "SELECT count(*) FILTER (WHERE type = 'started'), array_agg(job_id) FILTER (WHERE type = 'succeeded')
             FROM procrastinate_events WHERE id > $1",
            &[&last_event],
        )
        .await?;
    let (started, ended): (i64, Vec<i64>) = (events.get(0), events.get(1));
    // By the numbers of the jobs, since nobody has told the planner how many rows there are.
    let succeeded: i64 = client
        .query_one("SELECT count(*) FROM procrastinate_jobs WHERE id = ANY ($1) AND status = 'succeeded'", &[&ended])
        .await?
        .get(0);
    if (started, succeeded) != (ran.into(), ran.into()) {
        return Err(format!("{ran} jobs have run, {started} were started and {succeeded} have succeeded").into());
    }
    Ok(())
}
