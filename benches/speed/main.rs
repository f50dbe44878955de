//! How fast the queue is, beside the fastest that plain SQL is on the same tables, measured in the same run.
//!
//! ```text
//! cargo bench --bench speed                        everything, in about twenty minutes
//! cargo bench --bench speed -- --quick             everything, smaller, in two or three
//! cargo bench --bench speed -- work latency        only these groups
//! cargo bench --bench speed -- --rounds 9 --jobs 50000 --rows 5000000
//! ```
//!
//! With `PROCRASTINATE_PYTHON` naming an interpreter that has Procrastinate, `contract` compares with the tables that Python
//! creates.
//!
//! On a private PostgreSQL that stores durably. The crate and raw SQL take turns, round by round, and in each round the
//! other one begins; each has a fresh database. A table shows medians, with the slowest and the fastest round, and the
//! ratio of the two in the same round. Everything measured is checked afterwards: that all jobs are there, have ended as
//! they should, and have their events. The tables are Markdown, to be pasted into PERFORMANCE.md as they are.
//!
//! | file | what it is |
//! |---|---|
//! | `arguments` | what to measure, and how much of it |
//! | `calibration` | whether the machine was quiet enough to tell |
//! | `table` | medians, ratios, and how they are printed |
//! | `place` | the server, databases, connections, and the checks |
//! | `tasks` | the tasks that are run |
//! | `raw` | the limit: plain SQL on the same tables |
//! | `deferring` | one at a time, ten producers, bulk |
//! | `working` | worked off by one worker |
//! | `latency` | from the defer to the start of the task |
//! | `cost` | what a job writes, and how often somebody waits for the database |
//! | `contract` | the contract's own functions, with everything that the crate adds and without |
//! | `growth`, `shapes` | beside a million jobs that are not to be started |
//! | `upkeep` | what is done once in a while, on a large history |
//! | `resources` | processor time and memory of this process |
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it reports")]
#![allow(clippy::print_stderr, reason = "it says how far it is")]

mod arguments;
mod calibration;
mod contract;
mod cost;
mod deferring;
mod growth;
mod latency;
mod place;
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
use calibration::Calibrations;
use place::BenchServer;
use table::Table;

type Failure = Box<dyn Error + Send + Sync>;
type Measured<T> = Result<T, Failure>;

#[tokio::main]
async fn main() -> Measured<()> {
    let arguments = Arguments::read();
    let began_at = Instant::now();
    let place = BenchServer::prepare(arguments).await?;
    println!("{}\n", place.introduction().await?);

    let mut calibrations = Calibrations::default();
    calibrations.take("at the beginning")?;
    for group in place.arguments.groups() {
        // For whoever waits; the tables alone are on the standard output.
        eprintln!("measuring `{}` after {:.0} s", group.name(), began_at.elapsed().as_secs_f64());
        for table in measure(group, &place).await? {
            println!("{table}");
        }
        calibrations.take(&format!("after `{}`", group.name()))?;
    }
    println!("{}", calibrations.table());
    println!("{}", calibrations.verdict());
    println!("It took {:.0} s.", began_at.elapsed().as_secs_f64());
    Ok(())
}

async fn measure(group: Group, place: &BenchServer) -> Measured<Vec<Table>> {
    match group {
        Group::Defer => deferring::measure(place).await,
        Group::Work => working::measure(place).await,
        Group::Latency => latency::measure(place).await,
        Group::Cost => cost::measure(place).await,
        Group::Contract => contract::measure(place).await,
        Group::Growth => growth::measure(place).await,
        Group::Upkeep => upkeep::measure(place).await,
    }
}
