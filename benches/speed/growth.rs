//! Beside a million jobs that are not to be started: the same jobs are worked off by the same worker, beside them and in a
//! database where there is nothing else, in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use throwaway_postgres::Database;

use crate::deferring::Figures;
use crate::place::{self, Place};
use crate::shapes::{Queues, Shape, shapes};
use crate::table::Table;
use crate::tasks::Limit;
use crate::{Measured, raw};

/// How many jobs are worked off each time.
const JOBS: u32 = 2_000;

pub(crate) async fn measure(place: &Place) -> Measured<Vec<Table>> {
    let head = ["beside", "beside them", "nothing else", "beside them / nothing else"];
    let title = |statistics| format!("2,000 jobs at concurrency 10 in a large table, {statistics}, jobs a second");
    let mut stale = Table::new(title("never analysed and never vacuumed"), &head);
    let mut fresh = Table::new(title("vacuumed and analysed"), &head);
    for shape in shapes(place.arguments.rows()) {
        let database = place.database()?;
        place::fill(database.url(), &shape.fill).await?;
        maintain(&database, "CHECKPOINT").await?;
        compare(place, &shape, &database, None, &mut stale).await?;
        let maintenance = "VACUUM ANALYZE; CHECKPOINT";
        maintain(&database, maintenance).await?;
        compare(place, &shape, &database, Some(maintenance), &mut fresh).await?;
    }
    Ok(vec![stale, fresh])
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
    place: &Place,
    shape: &Shape,
    database: &Database,
    maintenance: Option<&str>,
    table: &mut Table,
) -> Measured<()> {
    for queues in shape.queues {
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
                .await?;
        }
        table.compare(&format!("{}; {}", shape.name, queues.name()), &figures.ours, &figures.others, []);
    }
    Ok(())
}

/// Works off so many jobs, which are inserted first if they are not there, from the start of the worker until its end.
async fn work_off(database: &Database, queues: Queues, is_to_insert: bool) -> Measured<f64> {
    let url = database.url();
    if is_to_insert {
        place::fill(url, &raw::jobs_to_do(JOBS, "counted", queues.of_job())).await?;
    }
    let client = place::connect(url).await?;
    let last_event: i64 = client.query_one("SELECT coalesce(max(id), 0) FROM procrastinate_events", &[]).await?.get(0);

    let app = place::app(place::pool(url).await?)?;
    let mut worker = app.worker().concurrency(10).install_signal_handlers(false).wait(false);
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
    let stored = client
        .query_one(
            "WITH event AS MATERIALIZED (SELECT job_id, type FROM procrastinate_events WHERE id > $1)
             SELECT count(*) FILTER (WHERE type = 'started'),
                    count(*) FILTER (WHERE type = 'succeeded' AND EXISTS (
                        SELECT FROM procrastinate_jobs AS job WHERE job.id = event.job_id AND job.status = 'succeeded'))
             FROM event",
            &[&last_event],
        )
        .await?;
    let stored: (i64, i64) = (stored.get(0), stored.get(1));
    if stored != (ran.into(), ran.into()) {
        return Err(format!("{ran} jobs have run, {stored:?} were started and have succeeded").into());
    }
    Ok(f64::from(ran) / took)
}
