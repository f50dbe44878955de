//! The contract's own functions, called as Python's clients call them, with this crate's migrations and without.

use std::time::Instant;

use procrastinate::migrations::SQL_MIGRATIONS;
use throwaway_postgres::Database;

use crate::Measured;
use crate::bench_server::{self, BenchServer, Contents};
use crate::deferring::Figures;
use crate::table::Table;
use crate::tasks::arguments;

/// The number of jobs that Python defers in one statement.
const BATCH: u32 = 1_000;

/// Makes Python's Procrastinate create its tables.
const APPLY_SCHEMA: &str = "
import sys, procrastinate
connector = procrastinate.SyncPsycopgConnector(conninfo=sys.argv[1])
with procrastinate.App(connector=connector).open() as app:
    app.schema_manager.apply_schema()
";

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let head = ["what", "with this crate's migrations", "without", "ratio"];
    let mut table = Table::new("The contract's own functions, jobs per second", &head);
    let (single, bulk) = (bench.arguments.single_jobs(), bench.arguments.jobs());
    let (alone, origin) = contract_alone(bench).await?;
    let full = bench.database_like(&alone)?;
    bench_server::migrate(full.superuser_url()).await?;

    for (name, jobs, at_a_time) in [("one at a time", single, 1), ("in batches of 1,000", bulk, BATCH)] {
        let mut figures = Figures::default();
        for round in 0..3 * bench.arguments.rounds() {
            let defer = async |template| defer(&bench.database_like(template)?, jobs, at_a_time).await;
            figures.take(round, async || defer(&full).await, async || defer(&alone).await).await?;
        }
        figures.print(&format!("deferred {name}"), &mut table);
    }
    for (name, queues) in [("one queue", Some(vec!["work"])), ("all queues", None)] {
        let mut figures = Figures::default();
        for round in 0..3 * bench.arguments.rounds() {
            let process = async |template| process(&bench.database_like(template)?, single, queues.as_deref()).await;
            figures.take(round, async || process(&full).await, async || process(&alone).await).await?;
        }
        figures.print(&format!("fetched and finished one at a time, {name}"), &mut table);
    }
    table.note(format!("Without: {origin}."));
    Ok(vec![table])
}

/// Creates a database that has only the contract. Also returns a description of its origin.
async fn contract_alone(bench: &BenchServer) -> Measured<(Database, &'static str)> {
    let database = bench.empty_database()?;
    let Some(python) = std::env::var_os("PROCRASTINATE_PYTHON").filter(|python| !python.is_empty()) else {
        for migration in &SQL_MIGRATIONS[..2] {
            bench_server::connect(database.superuser_url()).await?.batch_execute(migration.up).await?;
        }
        return Ok((database, "only this crate's first two migrations, which create the contract"));
    };
    let applied = std::process::Command::new(python).args(["-c", APPLY_SCHEMA, database.superuser_url()]).output()?;
    if !applied.status.success() {
        return Err(String::from_utf8_lossy(&applied.stderr).into());
    }
    Ok((database, "the tables as Python's Procrastinate in PROCRASTINATE_PYTHON creates them"))
}

async fn defer(database: &Database, jobs: u32, at_a_time: u32) -> Measured<f64> {
    let client = bench_server::connect(database.superuser_url()).await?;
    let statement = client
        .prepare(
            "SELECT procrastinate_defer_jobs_v1(ARRAY(
                 SELECT ROW('work', 'no_op', 0, NULL, NULL, args::jsonb, NULL)::procrastinate_job_to_defer_v1
                 FROM unnest($1::text[]) AS args))",
        )
        .await?;
    let batches: Vec<Vec<String>> =
        (0..jobs / at_a_time).map(|_| (0..at_a_time).map(|n| arguments(n.into())).collect()).collect();
    let started_at = Instant::now();
    for args in &batches {
        client.execute(&statement, &[args]).await?;
    }
    let took = started_at.elapsed();
    Contents::deferred(jobs).expect(database.superuser_url()).await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}

/// Fetches and finishes jobs like one slot of a Python worker.
async fn process(database: &Database, jobs: u32, queues: Option<&[&str]>) -> Measured<f64> {
    bench_server::fill_with_jobs(database.superuser_url(), jobs).await?;
    let client = bench_server::connect(database.superuser_url()).await?;
    let worker: i64 = client.query_one("SELECT worker_id FROM procrastinate_register_worker_v1()", &[]).await?.get(0);
    let fetch = client.prepare("SELECT id, args::text FROM procrastinate_fetch_job_v2($1::varchar[], $2)").await?;
    let finish = client.prepare("SELECT procrastinate_finish_job_v1($1, 'succeeded', false)").await?;
    let started_at = Instant::now();
    loop {
        let fetched: Option<i64> = client.query_one(&fetch, &[&queues, &worker]).await?.get(0);
        let Some(id) = fetched else { break };
        client.execute(&finish, &[&id]).await?;
    }
    let took = started_at.elapsed();
    Contents::processed(jobs).expect(database.superuser_url()).await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}
