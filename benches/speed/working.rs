//! Processing with one worker.

use std::time::{Duration, Instant};

use procrastinate::DeleteJobs;

use crate::bench_server::{self, BenchServer, Contents};
use crate::resources::Usage;
use crate::table::{Spread, Table, number};
use crate::{Measured, raw};

/// A kind of worker.
#[derive(Clone, Copy)]
struct Kind {
    /// The number of workers.
    workers: usize,
    concurrency: usize,
    local_buffer: usize,
    /// Whether jobs are deleted when they finish.
    deletes: bool,
}

const WORKERS: [Kind; 9] = [
    Kind { workers: 1, concurrency: 10, local_buffer: 0, deletes: false },
    Kind { workers: 1, concurrency: 100, local_buffer: 0, deletes: false },
    Kind { workers: 1, concurrency: 10, local_buffer: 500, deletes: false },
    Kind { workers: 2, concurrency: 50, local_buffer: 0, deletes: false },
    Kind { workers: 2, concurrency: 5, local_buffer: 250, deletes: false },
    Kind { workers: 1, concurrency: 10, local_buffer: 0, deletes: true },
    Kind { workers: 1, concurrency: 100, local_buffer: 0, deletes: true },
    Kind { workers: 1, concurrency: 10, local_buffer: 500, deletes: true },
    Kind { workers: 2, concurrency: 5, local_buffer: 250, deletes: true },
];

impl Kind {
    fn name(self) -> String {
        let Self { workers, concurrency, local_buffer, deletes } = self;
        let count = if workers == 1 { String::new() } else { format!("{workers} workers, each with ") };
        let buffer = if local_buffer > 0 { format!(", local buffer of {local_buffer}") } else { String::new() };
        let kept = if deletes { "jobs deleted when they finish" } else { "jobs kept" };
        format!("{count}concurrency {concurrency}{buffer}, {kept}")
    }
}

/// The figures of a kind of worker, round by round.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    /// Raw SQL with the same batch size, for one worker.
    raw_rates: Vec<f64>,
    /// Microseconds per job.
    cpu_time: Vec<f64>,
    /// In MiB.
    peak_growth: Vec<f64>,
}

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let jobs = bench.arguments.jobs();
    // Raw SQL that keeps jobs, and raw SQL that deletes them.
    let mut limits = [Vec::new(), Vec::new()];
    let mut figures: [Figures; WORKERS.len()] = Default::default();
    for round in 0..bench.arguments.rounds() {
        for deletes in [false, true] {
            let is_first = round.is_multiple_of(2);
            if is_first {
                limits[usize::from(deletes)].push(limit(bench, jobs, deletes).await?);
            }
            for (worker, figures) in WORKERS.iter().zip(&mut figures).filter(|(worker, _)| worker.deletes == deletes) {
                if is_first {
                    small_batches(bench, jobs, *worker, figures).await?;
                }
                process(bench, jobs, *worker, figures).await?;
                if !is_first {
                    small_batches(bench, jobs, *worker, figures).await?;
                }
            }
            if !is_first {
                limits[usize::from(deletes)].push(limit(bench, jobs, deletes).await?);
            }
        }
    }

    let head = [
        "setting",
        "this crate",
        "raw SQL",
        "ratio",
        "raw SQL, same batch size, one connection",
        "ratio",
        "CPU time of the worker, µs per job",
        "extra memory, MiB",
    ];
    let mut table = Table::new("Processing, jobs per second", &head);
    for (worker, figures) in WORKERS.into_iter().zip(&figures) {
        let cpu_time = some(&figures.cpu_time, |spread| number(spread.median));
        let peak_growth = some(&figures.peak_growth, |spread| format!("{:.1}", spread.highest));
        let small_batches = match &*figures.raw_rates {
            [] => [String::new(), String::new()],
            rates => [Spread::of(rates).to_string(), table.ratio(&figures.rates, rates)],
        };
        table.compare(
            &worker.name(),
            &figures.rates,
            &limits[usize::from(worker.deletes)],
            small_batches.into_iter().chain([cpu_time, peak_growth]),
        );
    }
    table.note("Raw SQL fetches and finishes 500 jobs at a time on four connections, and runs nothing.");
    table.note(
        "The second raw SQL column holds no more jobs than the worker, on one connection. It finishes jobs in the \
         statement that fetches the next.",
    );
    Ok(vec![table])
}

fn some(values: &[f64], show: impl Fn(Spread) -> String) -> String {
    if values.is_empty() { "not known".to_owned() } else { show(Spread::of(values)) }
}

fn contents(jobs: u32, deletes: bool) -> Contents {
    if deletes { Contents::nothing() } else { Contents::processed(jobs) }
}

async fn limit(bench: &BenchServer, jobs: u32, deletes: bool) -> Measured<f64> {
    raw_rate(bench, jobs, deletes, async |url| raw::process(url, deletes).await).await
}

/// Measures raw SQL with the same batch size, for one worker only.
async fn small_batches(bench: &BenchServer, jobs: u32, kind: Kind, figures: &mut Figures) -> Measured<()> {
    let Kind { workers, concurrency, local_buffer, deletes } = kind;
    if workers == 1 {
        let process = async |url: &str| raw::process_in_small_batches(url, concurrency + local_buffer, deletes).await;
        figures.raw_rates.push(raw_rate(bench, jobs, deletes, process).await?);
    }
    Ok(())
}

async fn raw_rate(
    bench: &BenchServer,
    jobs: u32,
    deletes: bool,
    process: impl AsyncFnOnce(&str) -> Measured<Duration>,
) -> Measured<f64> {
    let database = bench.database_with_jobs(jobs).await?;
    bench_server::disable_triggers(database.superuser_url()).await?;
    let took = process(database.superuser_url()).await?;
    contents(jobs, deletes).expect(database.superuser_url()).await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}

async fn process(bench: &BenchServer, jobs: u32, kind: Kind, figures: &mut Figures) -> Measured<()> {
    let database = bench.database_with_jobs(jobs).await?;
    let app = bench_server::app(bench_server::pool(database.superuser_url()).await?)?;
    let one = || {
        app.worker()
            .concurrency(kind.concurrency)
            .local_buffer(kind.local_buffer)
            .delete_jobs(if kind.deletes { DeleteJobs::Always } else { DeleteJobs::Never })
            .install_signal_handlers(false)
            .stop_when_empty()
    };
    let usage = Usage::begin();
    let started_at = Instant::now();
    let workers: Vec<_> = (0..kind.workers).map(|_| tokio::spawn(one().run())).collect();
    for worker in workers {
        worker.await??;
    }
    figures.rates.push(f64::from(jobs) / started_at.elapsed().as_secs_f64());
    figures.cpu_time.extend(usage.cpu_time_per_job(jobs));
    figures.peak_growth.extend(usage.peak_growth());
    contents(jobs, kind.deletes).expect(database.superuser_url()).await
}
