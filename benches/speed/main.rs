//! Compares the queue with raw SQL on the same tables, measured in the same run.
//!
//! ```text
//! cargo bench --bench speed                        everything, in about twenty minutes
//! cargo bench --bench speed -- --quick             everything, smaller, in two or three
//! cargo bench --bench speed -- work latency        only these groups
//! cargo bench --bench speed -- --rounds 9 --jobs 50000 --rows 5000000
//! ```
//!
//! If `PROCRASTINATE_PYTHON` names an interpreter that has Procrastinate, `contract` compares with the tables that
//! Python creates.
//!
//! It runs on a private PostgreSQL server with durable storage. This crate and raw SQL take turns, each in a new
//! database, and the other one begins in each round. A table shows medians with the slowest and the fastest round, and
//! the ratio of both sides in the same round. After each measurement, all jobs, their statuses and their events are
//! checked. The tables are Markdown for docs/performance.md.
//!
//! | file | contents |
//! |---|---|
//! | `arguments` | the command line |
//! | `calibration` | the check whether the machine was quiet |
//! | `table` | medians, ratios, and tables |
//! | `bench_server` | the server, databases, connections, and the checks |
//! | `tasks` | the tasks |
//! | `raw` | the limit: raw SQL on the same tables |
//! | `deferring` | one at a time, ten and a hundred producers, batches |
//! | `working` | processing with one worker |
//! | `latency` | from the defer to the start of the task |
//! | `cost` | what a job writes, and how many round trips it takes |
//! | `contract` | the contract's own functions, with this crate's migrations and without |
//! | `growth`, `shapes` | processing with a million other jobs |
//! | `limits` | processing with a pause or limit |
//! | `upkeep` | maintenance with many finished jobs |
//! | `resources` | CPU time and memory of this process |
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it prints the tables")]
#![allow(clippy::print_stderr, reason = "it prints the progress")]

mod arguments;
mod bench_server;
mod calibration;
mod contract;
mod cost;
mod deferring;
mod growth;
mod latency;
mod limits;
mod raw;
mod resources;
mod rows;
mod shapes;
mod table;
mod tasks;
mod upkeep;
mod working;

use std::error::Error;
use std::time::Instant;

use arguments::{Arguments, Group};
use bench_server::BenchServer;
use calibration::Calibrations;
use table::Table;

type Failure = Box<dyn Error + Send + Sync>;
type Measured<T> = Result<T, Failure>;

#[tokio::main]
async fn main() -> Measured<()> {
    let arguments = Arguments::read();
    let began_at = Instant::now();
    let bench = BenchServer::prepare(arguments).await?;
    println!("{}\n", bench.introduction().await?);

    let mut calibrations = Calibrations::default();
    calibrations.take("at the beginning")?;
    for group in bench.arguments.groups() {
        // The progress goes to standard error, so that standard output has only the tables.
        eprintln!("measuring `{}` after {:.0} s", group.name(), began_at.elapsed().as_secs_f64());
        for table in measure(group, &bench).await? {
            println!("{table}");
        }
        calibrations.take(&format!("after `{}`", group.name()))?;
    }
    println!("{}", calibrations.table());
    println!("{}", calibrations.verdict());
    println!("It took {:.0} s.", began_at.elapsed().as_secs_f64());
    Ok(())
}

async fn measure(group: Group, bench: &BenchServer) -> Measured<Vec<Table>> {
    match group {
        Group::Defer => deferring::measure(bench).await,
        Group::Work => working::measure(bench).await,
        Group::Latency => latency::measure(bench).await,
        Group::Cost => cost::measure(bench).await,
        Group::Contract => contract::measure(bench).await,
        Group::Growth => growth::measure(bench).await,
        Group::Limits => limits::measure(bench).await,
        Group::Upkeep => upkeep::measure(bench).await,
    }
}
