//! Worked off by one worker.

use std::time::{Duration, Instant};

use procrastinate::DeleteJobs;

use crate::place::{self, BenchServer, Contents};
use crate::resources::Usage;
use crate::table::{Spread, Table, number, ratio};
use crate::{Measured, raw};

/// A kind of worker.
#[derive(Clone, Copy)]
struct Kind {
    /// How many of them there are.
    workers: usize,
    concurrency: usize,
    local_buffer: usize,
    /// Whether jobs are deleted at their end.
    deletes: bool,
}

const WORKERS: [Kind; 8] = [
    Kind { workers: 1, concurrency: 10, local_buffer: 0, deletes: false },
    Kind { workers: 1, concurrency: 100, local_buffer: 0, deletes: false },
    Kind { workers: 1, concurrency: 10, local_buffer: 500, deletes: false },
    Kind { workers: 2, concurrency: 50, local_buffer: 0, deletes: false },
    Kind { workers: 2, concurrency: 5, local_buffer: 250, deletes: false },
    Kind { workers: 1, concurrency: 10, local_buffer: 0, deletes: true },
    Kind { workers: 1, concurrency: 100, local_buffer: 0, deletes: true },
    Kind { workers: 1, concurrency: 10, local_buffer: 500, deletes: true },
];

impl Kind {
    fn name(self) -> String {
        let Self { workers, concurrency, local_buffer, deletes } = self;
        let count = if workers == 1 { String::new() } else { format!("{workers} workers, each: ") };
        let buffer = if local_buffer > 0 { format!(", a local buffer of {local_buffer}") } else { String::new() };
        let kept = if deletes { "deleted at their end" } else { "history kept" };
        format!("{count}concurrency {concurrency}{buffer}, {kept}")
    }
}

/// One kind of worker, round by round.
#[derive(Default)]
struct Worked {
    rates: Vec<f64>,
    /// Raw SQL that has as many jobs in hand, for one worker.
    raw_rates: Vec<f64>,
    /// Microseconds a job.
    processor_time: Vec<f64>,
    /// In MiB.
    peak_growth: Vec<f64>,
}

pub(crate) async fn measure(place: &BenchServer) -> Measured<Vec<Table>> {
    let jobs = place.arguments.jobs();
    // Raw SQL with history, and without.
    let mut limits = [Vec::new(), Vec::new()];
    let mut worked: [Worked; WORKERS.len()] = Default::default();
    for round in 0..place.arguments.rounds() {
        for deletes in [false, true] {
            let is_first = round.is_multiple_of(2);
            if is_first {
                limits[usize::from(deletes)].push(limit(place, jobs, deletes).await?);
            }
            for (worker, worked) in WORKERS.iter().zip(&mut worked).filter(|(worker, _)| worker.deletes == deletes) {
                if is_first {
                    few_by_few(place, jobs, *worker, worked).await?;
                }
                work_off(place, jobs, *worker, worked).await?;
                if !is_first {
                    few_by_few(place, jobs, *worker, worked).await?;
                }
            }
            if !is_first {
                limits[usize::from(deletes)].push(limit(place, jobs, deletes).await?);
            }
        }
    }

    let head = [
        "what",
        "the crate",
        "raw SQL",
        "the crate / raw SQL",
        "raw SQL, as many at a time on one connection",
        "the crate / that",
        "processor time of the process, µs a job",
        "peak memory, MiB more",
    ];
    let mut table = Table::new("Worked off by one worker, jobs a second", &head);
    for (worker, worked) in WORKERS.into_iter().zip(&worked) {
        let processor_time = some(&worked.processor_time, |spread| number(spread.median));
        let peak_growth = some(&worked.peak_growth, |spread| format!("{:.1}", spread.highest));
        let few_by_few = match &*worked.raw_rates {
            [] => [String::new(), String::new()],
            rates => [Spread::of(rates).to_string(), ratio(&worked.rates, rates).to_string()],
        };
        table.compare(
            &worker.name(),
            &worked.rates,
            &limits[usize::from(worker.deletes)],
            few_by_few.into_iter().chain([processor_time, peak_growth]),
        );
    }
    table.note("Raw SQL: four connections that fetch and end 500 jobs at a time, and run nothing.");
    table.note(
        "Raw SQL, as many at a time on one connection: has no more jobs in hand than the worker, and ends them in the \
         statement that fetches the next.",
    );
    Ok(vec![table])
}

fn some(values: &[f64], show: impl Fn(Spread) -> String) -> String {
    if values.is_empty() { "not known".to_owned() } else { show(Spread::of(values)) }
}

fn contents(jobs: u32, deletes: bool) -> Contents {
    if deletes { Contents::nothing() } else { Contents::worked_off(jobs) }
}

async fn limit(place: &BenchServer, jobs: u32, deletes: bool) -> Measured<f64> {
    raw_rate(place, jobs, deletes, async |url| raw::work_off(url, deletes).await).await
}

/// For one worker only.
async fn few_by_few(place: &BenchServer, jobs: u32, kind: Kind, worked: &mut Worked) -> Measured<()> {
    let Kind { workers, concurrency, local_buffer, deletes } = kind;
    if workers == 1 {
        let work_off = async |url: &str| raw::work_off_few_by_few(url, concurrency + local_buffer, deletes).await;
        worked.raw_rates.push(raw_rate(place, jobs, deletes, work_off).await?);
    }
    Ok(())
}

async fn raw_rate(
    place: &BenchServer,
    jobs: u32,
    deletes: bool,
    work_off: impl AsyncFnOnce(&str) -> Measured<Duration>,
) -> Measured<f64> {
    let database = place.database_with_jobs(jobs).await?;
    place::disable_triggers(database.url()).await?;
    let took = work_off(database.url()).await?;
    contents(jobs, deletes).expect(database.url()).await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}

async fn work_off(place: &BenchServer, jobs: u32, kind: Kind, worked: &mut Worked) -> Measured<()> {
    let database = place.database_with_jobs(jobs).await?;
    let app = place::app(place::pool(database.url()).await?)?;
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
    worked.rates.push(f64::from(jobs) / started_at.elapsed().as_secs_f64());
    worked.processor_time.extend(usage.processor_time_per_job(jobs));
    worked.peak_growth.extend(usage.peak_growth());
    contents(jobs, kind.deletes).expect(database.url()).await
}
