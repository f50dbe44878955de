//! Everyday work and maintenance with many finished jobs.

use std::time::{Duration, Instant};

use procrastinate::App;
use procrastinate::job_manager::{delete_old_jobs, get_stalled_jobs, list_queues, prune_stalled_workers};
use throwaway_postgres::Database;

use crate::Measured;
use crate::bench_server::{self, BenchServer};
use crate::shapes::finished;
use crate::table::{Spread, Table, number};
use crate::tasks::{TEXT, no_op};

/// The number of jobs that one step deletes, and the hours between the jobs of consecutive steps.
const STEP: u32 = 1_000;
const HOURS: u32 = 100;
/// The number of stalled jobs.
const STALLED: u32 = 10;

/// How many jobs are deferred one by one, and how many in a batch. Then all are processed.
const SINGLE: u32 = 100;
const BATCH: u32 = 1_000;
/// How many finished jobs one statement inserts.
const INSERTED: u32 = 1_000_000;

const OPERATIONS: [&str; 8] = [
    "100 jobs are deferred, one after the other",
    "1,000 jobs are deferred in a batch",
    "a worker with concurrency 10 processes these 1,100 jobs",
    "a worker starts, finds nothing, and stops",
    "a stalled worker with 10 running jobs is pruned",
    "10 stalled jobs are found",
    "the jobs of each queue are counted by status",
    "1,000 old jobs are deleted",
];

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let (rounds, rows) = (bench.arguments.rounds(), bench.arguments.rows());
    // The small table has only the jobs that will be deleted.
    let small = prepare(bench, rounds * STEP).await?;
    let large = prepare(bench, rows.max(rounds * STEP)).await?;
    let mut times: [[Vec<f64>; 2]; OPERATIONS.len()] = Default::default();
    for round in 0..rounds {
        for turn in 0..2 {
            let is_large = (round + turn) % 2 == 1;
            let database = if is_large { &large } else { &small };
            for (times, took) in times.iter_mut().zip(operate(database, rounds, round).await?) {
                times[usize::from(is_large)].push(1_000.0 * took.as_secs_f64());
            }
        }
    }
    let head = [
        "what".to_owned(),
        format!("with {} finished jobs", number(rows.into())),
        format!("with {}", number((rounds * STEP).into())),
        "ratio".to_owned(),
    ];
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new("Maintenance, milliseconds", &head);
    for (operation, [small, large]) in OPERATIONS.iter().zip(&times) {
        let ratio = table.ratio(large, small);
        table.row([(*operation).to_owned(), Spread::of(large).to_string(), Spread::of(small).to_string(), ratio]);
    }
    Ok(vec![table])
}

/// Creates finished jobs. The oldest ones are grouped into one step for each round, far apart in time, and the others
/// are new.
async fn prepare(bench: &BenchServer, rows: u32) -> Measured<Database> {
    let database = bench.database()?;
    let rounds = bench.arguments.rounds();
    let at = format!(
        "now() - CASE WHEN n <= {} THEN {HOURS} * ({rounds} - (n - 1) / {STEP}) * interval '1 hour' ELSE '1 hour' END",
        rounds * STEP
    );
    let first_numbers = (1..=rows).step_by(INSERTED as usize);
    for first in first_numbers {
        let last = rows.min(first + INSERTED - 1);
        bench_server::fill(database.superuser_url(), &finished(first, last, &at)).await?;
    }
    bench_server::settle(database.superuser_url()).await?;
    Ok(database)
}

/// Runs and checks all operations, and returns their times.
async fn operate(database: &Database, rounds: u32, round: u32) -> Measured<[Duration; OPERATIONS.len()]> {
    let app = bench_server::app(bench_server::pool(database.superuser_url()).await?)?;
    // Warm up, so that no operation has to open a connection or prepare a statement.
    app.defer(no_op(0, TEXT.to_owned())).await?;
    run_worker(&app).await?;

    let started_at = Instant::now();
    for a in 0..SINGLE {
        app.defer(no_op(a.into(), TEXT.to_owned())).await?;
    }
    let single = started_at.elapsed();
    let started_at = Instant::now();
    app.batch_defer((0..BATCH).map(|a| no_op(a.into(), TEXT.to_owned()))).await?;
    let batch = started_at.elapsed();
    let process = run_worker(&app).await?;

    let worker = run_worker(&app).await?;

    stall(database).await?;
    let started_at = Instant::now();
    let pruned = app.perform(prune_stalled_workers()).await?;
    let prune = started_at.elapsed();
    expect("stalled workers", pruned.len() as u64, 1)?;

    let started_at = Instant::now();
    let stalled = app.perform(get_stalled_jobs()).await?;
    let find = started_at.elapsed();
    expect("stalled jobs", stalled.len() as u64, (STALLED).into())?;
    bench_server::connect(database.superuser_url())
        .await?
        .batch_execute("DELETE FROM procrastinate_jobs WHERE status = 'doing'")
        .await?;

    let count = count(&app).await?;

    let started_at = Instant::now();
    let deleted = app
        .perform(delete_old_jobs(Duration::from_secs(3_600 * u64::from(HOURS * (rounds - round) - HOURS / 2))))
        .await?;
    let delete = started_at.elapsed();
    expect("old jobs", deleted, STEP.into())?;
    Ok([single, batch, process, worker, prune, find, count, delete])
}

/// Runs a worker until nothing is left to do.
async fn run_worker(app: &App) -> Measured<Duration> {
    let started_at = Instant::now();
    app.worker().concurrency(10).install_signal_handlers(false).stop_when_empty().run().await?;
    Ok(started_at.elapsed())
}

async fn count(app: &App) -> Measured<Duration> {
    let started_at = Instant::now();
    let counts = app.perform(list_queues()).await?;
    let took = started_at.elapsed();
    expect("queues", counts.len() as u64, 2)?;
    Ok(took)
}

fn expect(what: &str, found: u64, expected: u64) -> Measured<()> {
    if found == expected { Ok(()) } else { Err(format!("expected {expected} {what}, found {found}").into()) }
}

/// Adds a worker without a heartbeat for an hour, and its jobs.
async fn stall(database: &Database) -> Measured<()> {
    let sql = format!(
        "WITH worker AS (
             INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour') RETURNING id)
         INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)
         SELECT 'work-0', 'counted', 'doing', worker.id FROM worker, generate_series(1, {STALLED})"
    );
    bench_server::connect(database.superuser_url()).await?.batch_execute(&sql).await?;
    Ok(())
}
