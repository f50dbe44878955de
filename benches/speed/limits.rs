//! Processing while something is paused or limited. The same workers process the same jobs with the pause or limit and
//! without it, in turns.

use std::time::Instant;

use crate::Measured;
use crate::bench_server::{self, BenchServer};
use crate::deferring::Figures;
use crate::rows::jobs_to_do;
use crate::table::{Table, number};

/// A pause or limit, and the workers.
struct Case {
    name: String,
    /// SQL that pauses or limits.
    control: &'static str,
    /// SQL that inserts jobs that the pause or limit holds back. Without it, there are none.
    before: Option<String>,
    /// Whether the pause or limit is there on both sides, which then differ only by these jobs.
    is_always_there: bool,
    workers: usize,
    concurrency: usize,
    local_buffer: usize,
}

fn cases(rows: u32) -> Vec<Case> {
    let not_binding = [
        ("a limit of the queue that does not bind", "set_limit_v1('queue', 'work', 10000, NULL, NULL)"),
        ("a limit of the task that does not bind", "set_limit_v1('task', 'no_op', 10000, NULL, NULL)"),
        ("a limit of its starts that does not bind", "set_limit_v1('queue', 'work', NULL, 1000000, 60)"),
        ("a limit of another queue", "set_limit_v1('queue', 'other', 5, NULL, NULL)"),
        ("a paused queue without jobs", "pause_v1('queue', 'other')"),
        ("a limit for each of 100 keys that does not bind", "limit_keys_v1('queue', 'work', '{a}', 1000, NULL, NULL)"),
        ("a limit of one job for each of 100 keys", "limit_keys_v1('queue', 'work', '{a}', 1, NULL, NULL)"),
    ];
    let workers = [(1, 10, 0), (1, 100, 0), (1, 10, 500), (2, 50, 0)];
    let mut cases = Vec::new();
    for (name, control) in not_binding {
        for (workers, concurrency, local_buffer) in workers {
            let name = format!("{name}; {}", workers_text(workers, concurrency, local_buffer));
            cases.push(Case {
                name,
                control,
                before: None,
                is_always_there: false,
                workers,
                concurrency,
                local_buffer,
            });
        }
    }
    let blocked = [
        ("of a paused queue", "pause_v1('queue', 'blocked')", "'blocked'", "no_op"),
        ("of a full queue", "set_limit_v1('queue', 'blocked', 1, NULL, NULL)", "'blocked'", "no_op"),
        ("of a paused task", "pause_v1('task', 'timed')", "'work'", "timed"),
        ("of a full task", "set_limit_v1('task', 'timed', 1, NULL, NULL)", "'work'", "timed"),
    ];
    for (what, control, queue, task) in blocked {
        let name = format!("{} jobs {what} with earlier IDs; concurrency 10", number(rows.into()));
        let before = Some(format!("{};\n{RUN_FIRST}", jobs_to_do(rows, task, queue)));
        cases.push(Case {
            name,
            control,
            before,
            is_always_there: false,
            workers: 1,
            concurrency: 10,
            local_buffer: 0,
        });
    }
    let full_key = format!(
        "{};
         UPDATE procrastinate_jobs SET args = jsonb_set(args, '{{a}}', '\"full\"');
         {RUN_FIRST}",
        jobs_to_do(rows, "no_op", "'work'")
    );
    cases.push(Case {
        name: format!("{} jobs of a full key with earlier IDs; concurrency 10", number(rows.into())),
        control: "limit_keys_v1('queue', 'work', '{a}', 1, NULL, NULL)",
        before: Some(full_key),
        is_always_there: true,
        workers: 1,
        concurrency: 10,
        local_buffer: 0,
    });
    cases
}

/// Starts the first job, for a worker that never counts as stalled. So a limit of one job is full.
const RUN_FIRST: &str = "
    WITH worker AS (
        INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 day') RETURNING id)
    UPDATE procrastinate_jobs SET status = 'doing', worker_id = worker.id
    FROM worker
    WHERE procrastinate_jobs.id = (SELECT min(id) FROM procrastinate_jobs)";

/// What deferring does for jobs with a key. They were inserted without it.
const NOTE_JOBS: &str = "SELECT procrastinate_diesel_note_missing_jobs_v1('queue', 'work', 2147483647)";

fn workers_text(workers: usize, concurrency: usize, local_buffer: usize) -> String {
    let count = if workers == 1 { String::new() } else { format!("{workers} workers, each with ") };
    let buffer = if local_buffer > 0 { format!(", local buffer of {local_buffer}") } else { String::new() };
    format!("{count}concurrency {concurrency}{buffer}")
}

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let head = ["pause or limit; workers", "with it", "without", "ratio"];
    let mut table = Table::new("Processing with a pause or limit, jobs per second", &head);
    for case in cases(bench.arguments.rows() / 2) {
        eprintln!("  {}", case.name);
        let rounds = if case.before.is_some() { bench.arguments.long_rounds() } else { bench.arguments.rounds() };
        let mut figures = Figures::default();
        for round in 0..rounds {
            figures
                .take(round, async || process(bench, &case, true).await, async || process(bench, &case, false).await)
                .await?;
        }
        table.compare(&case.name, &figures.ours, &figures.others, []);
    }
    Ok(vec![table])
}

async fn process(bench: &BenchServer, case: &Case, is_controlled: bool) -> Measured<f64> {
    let jobs = bench.arguments.jobs();
    let database = bench.database()?;
    let url = database.superuser_url();
    let client = bench_server::connect(url).await?;
    let has_keys = case.control.starts_with("limit_keys");
    let has_control = is_controlled || case.is_always_there;
    if has_control {
        client.batch_execute(&format!("SELECT procrastinate_diesel_{}", case.control)).await?;
    }
    if is_controlled && let Some(before) = &case.before {
        bench_server::fill(url, before).await?;
        if has_keys {
            client.batch_execute(NOTE_JOBS).await?;
            client.batch_execute("SELECT procrastinate_diesel_assign_keys_v1(2147483647, now())").await?;
        }
    }
    bench_server::fill_with_jobs(url, jobs).await?;
    if has_keys {
        // Also without the limit.
        let add_keys = "UPDATE procrastinate_jobs SET args = jsonb_set(args, '{a}', to_jsonb(id % 100)) \
                        WHERE args ->> 'a' <> 'full'";
        bench_server::fill(url, add_keys).await?;
    }
    if has_keys && has_control {
        client.batch_execute(NOTE_JOBS).await?;
    }
    client.batch_execute("CHECKPOINT").await?;

    let app = bench_server::app(bench_server::pool(url).await?)?;
    let worker = || {
        let worker = app.worker().concurrency(case.concurrency).local_buffer(case.local_buffer);
        worker.install_signal_handlers(false).stop_when_empty()
    };
    let started_at = Instant::now();
    let workers: Vec<_> = (0..case.workers).map(|_| tokio::spawn(worker().run())).collect();
    for worker in workers {
        worker.await??;
    }
    let took = started_at.elapsed().as_secs_f64();
    let query = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'";
    let succeeded: i64 = client.query_one(query, &[]).await?.get(0);
    if succeeded != i64::from(jobs) {
        return Err(format!("{}: expected {jobs} jobs to succeed, found {succeeded}", case.name).into());
    }
    Ok(f64::from(jobs) / took)
}
