//! Worked off by one worker.

use std::time::Instant;

use procrastinate::DeleteJobs;

use crate::place::{self, Contents, Place};
use crate::resources::Usage;
use crate::table::{Spread, Table, number};
use crate::{Measured, raw};

/// The kinds of workers: how many jobs at a time, and whether they are deleted at their end.
const WORKERS: [(usize, bool); 4] = [(10, false), (100, false), (10, true), (100, true)];

/// One kind of worker, round by round.
#[derive(Default)]
struct Worked {
    rates: Vec<f64>,
    /// Microseconds a job.
    processor_time: Vec<f64>,
    /// In MiB.
    peak_growth: Vec<f64>,
}

pub(crate) async fn measure(place: &Place) -> Measured<Vec<Table>> {
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
            for (worker, worked) in WORKERS.iter().zip(&mut worked).filter(|(worker, _)| worker.1 == deletes) {
                work_off(place, jobs, *worker, worked).await?;
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
        "processor time of the process, µs a job",
        "peak memory, MiB more",
    ];
    let mut table = Table::new("Worked off by one worker, jobs a second", &head);
    for ((concurrency, deletes), worked) in WORKERS.into_iter().zip(&worked) {
        let kept = if deletes { "deleted at their end" } else { "history kept" };
        let processor_time = some(&worked.processor_time, |spread| number(spread.median));
        let peak_growth = some(&worked.peak_growth, |spread| format!("{:.1}", spread.highest));
        table.compare(
            &format!("concurrency {concurrency}, {kept}"),
            &worked.rates,
            &limits[usize::from(deletes)],
            [processor_time, peak_growth],
        );
    }
    table.note("Raw SQL: four connections that fetch and end 500 jobs at a time, and run nothing.");
    Ok(vec![table])
}

fn some(values: &[f64], show: impl Fn(Spread) -> String) -> String {
    if values.is_empty() { "not known".to_owned() } else { show(Spread::of(values)) }
}

fn contents(jobs: u32, deletes: bool) -> Contents {
    if deletes { Contents::nothing() } else { Contents::worked_off(jobs) }
}

async fn limit(place: &Place, jobs: u32, deletes: bool) -> Measured<f64> {
    let database = place.database_with_jobs(jobs).await?;
    place::disable_triggers(database.url()).await?;
    let took = raw::work_off(database.url(), deletes).await?;
    contents(jobs, deletes).expect(database.url()).await?;
    Ok(f64::from(jobs) / took.as_secs_f64())
}

async fn work_off(
    place: &Place,
    jobs: u32,
    (concurrency, deletes): (usize, bool),
    worked: &mut Worked,
) -> Measured<()> {
    let database = place.database_with_jobs(jobs).await?;
    let app = place::app(place::pool(database.url()).await?)?;
    let worker = app
        .worker()
        .concurrency(concurrency)
        .delete_jobs(if deletes { DeleteJobs::Always } else { DeleteJobs::Never })
        .install_signal_handlers(false)
        .wait(false);
    let usage = Usage::begin();
    let started_at = Instant::now();
    worker.run().await?;
    worked.rates.push(f64::from(jobs) / started_at.elapsed().as_secs_f64());
    worked.processor_time.extend(usage.processor_time_per_job(jobs));
    worked.peak_growth.extend(usage.peak_growth());
    contents(jobs, deletes).expect(database.url()).await
}
