//! The contract's own functions, called as Python's clients call them, with this crate's migrations and without.

use std::time::{Duration, Instant};

use procrastinate::migrations::SQL_MIGRATIONS;
use throwaway_postgres::Database;
use tokio_postgres::{Client, Statement};

use crate::Measured;
use crate::bench_server::{self, BenchServer, Contents};
use crate::deferring::Figures;
use crate::table::Table;
use crate::tasks::arguments;

/// The number of jobs that Python defers in one statement.
const BATCH: u32 = 1_000;
/// The number of jobs after which the other side takes its turn.
const TURN: u32 = 50;

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

    for (name, jobs, calls) in [
        ("deferred one at a time", single, Calls::Defer(1)),
        ("deferred in batches of 1,000", bulk, Calls::Defer(BATCH)),
        ("fetched and finished one at a time, one queue", single, Calls::Process(Some(&["work"]))),
        ("fetched and finished one at a time, all queues", single, Calls::Process(None)),
    ] {
        let mut figures = Figures::default();
        for _ in 0..4 * bench.arguments.rounds() {
            let (full, alone) = (bench.database_like(&full)?, bench.database_like(&alone)?);
            let (ours, others) = calls.measure(jobs, &full, &alone).await?;
            figures.ours.push(ours);
            figures.others.push(others);
        }
        figures.print(name, &mut table);
    }
    table.note(format!("Without: {origin}."));
    table.note(format!("In each round, both sides take turns of {TURN} jobs."));
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

/// What is measured.
#[derive(Clone, Copy)]
enum Calls {
    /// Defers so many jobs in one statement.
    Defer(u32),
    /// Fetches and finishes jobs like one slot of a Python worker.
    Process(Option<&'static [&'static str]>),
}

impl Calls {
    /// Measures both databases, and returns the jobs per second of each. They take turns of a few jobs, so that it hardly
    /// matters when other programs use the machine.
    async fn measure(self, jobs: u32, ours: &Database, others: &Database) -> Measured<(f64, f64)> {
        let at_a_time = match self {
            Self::Defer(at_a_time) => at_a_time.max(TURN),
            Self::Process(_) => TURN,
        };
        let turns = jobs / at_a_time;
        let mut ours = Caller::connect(ours, self, turns * at_a_time).await?;
        let mut others = Caller::connect(others, self, turns * at_a_time).await?;
        for turn in 0..turns {
            if turn % 2 == 0 {
                others.take_turn(at_a_time).await?;
                ours.take_turn(at_a_time).await?;
            } else {
                ours.take_turn(at_a_time).await?;
                others.take_turn(at_a_time).await?;
            }
        }
        Ok((ours.finish().await?, others.finish().await?))
    }
}

/// A connection that makes calls.
struct Caller<'a> {
    database: &'a Database,
    calls: Calls,
    jobs: u32,
    client: Client,
    defer: Statement,
    fetch: Statement,
    finish: Statement,
    worker: i64,
    took: Duration,
}

impl<'a> Caller<'a> {
    async fn connect(database: &'a Database, calls: Calls, jobs: u32) -> Measured<Self> {
        if let Calls::Process(_) = calls {
            bench_server::fill_with_jobs(database.superuser_url(), jobs).await?;
        }
        let client = bench_server::connect(database.superuser_url()).await?;
        let defer = client
            .prepare(
                "SELECT procrastinate_defer_jobs_v1(ARRAY(
                     SELECT ROW('work', 'no_op', 0, NULL, NULL, args::jsonb, NULL)::procrastinate_job_to_defer_v1
                     FROM unnest($1::text[]) AS args))",
            )
            .await?;
        let fetch = client.prepare("SELECT id, args::text FROM procrastinate_fetch_job_v2($1::varchar[], $2)").await?;
        let finish = client.prepare("SELECT procrastinate_finish_job_v1($1, 'succeeded', false)").await?;
        let worker = client.query_one("SELECT worker_id FROM procrastinate_register_worker_v1()", &[]).await?.get(0);
        Ok(Self { database, calls, jobs, client, defer, fetch, finish, worker, took: Duration::ZERO })
    }

    async fn take_turn(&mut self, jobs: u32) -> Measured<()> {
        let started_at = Instant::now();
        match self.calls {
            Calls::Defer(at_a_time) => {
                let args: Vec<String> = (0..at_a_time).map(|n| arguments(n.into())).collect();
                for _ in 0..jobs / at_a_time {
                    self.client.execute(&self.defer, &[&args]).await?;
                }
            }
            Calls::Process(queues) => {
                for _ in 0..jobs {
                    let id: i64 = self.client.query_one(&self.fetch, &[&queues, &self.worker]).await?.get(0);
                    self.client.execute(&self.finish, &[&id]).await?;
                }
            }
        }
        self.took += started_at.elapsed();
        Ok(())
    }

    /// Checks that everything was done, and returns the jobs per second.
    async fn finish(self) -> Measured<f64> {
        let contents = match self.calls {
            Calls::Defer(_) => Contents::deferred(self.jobs),
            Calls::Process(_) => Contents::processed(self.jobs),
        };
        contents.expect(self.database.superuser_url()).await?;
        Ok(f64::from(self.jobs) / self.took.as_secs_f64())
    }
}
