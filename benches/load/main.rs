//! Puts the queue under load and disturbs it: do throughput and the size of the tables stay within limits?
//!
//! ```text
//! cargo bench --bench load                       everything but `day`, in about half an hour
//! cargo bench --bench load -- --quick            the same, shorter, in about eight minutes
//! cargo bench --bench load -- chaos fleet        only these groups
//! cargo bench --bench load -- day --minutes 30   the traffic of a day in half an hour
//! ```
//!
//! The scenarios of `chaos` and `pressure` are those of a public harness for job queues on PostgreSQL: two replicas
//! defer and process jobs at a steady rate, are disturbed, and recover. The figure is the rate of processed jobs
//! afterwards or meanwhile, as a share of the rate before.
//!
//! | file | contents |
//! |---|---|
//! | `arguments` | the command line |
//! | `server` | the server, connections, and figures about tables |
//! | `replica` | a child process that defers and processes jobs |
//! | `phases` | a phase of a scenario, and what is measured in it |
//! | `chaos` | kills, restarts, terminated sessions, exhausted connections |
//! | `pressure` | an old transaction, more load than usual, readers, bursts |
//! | `fleet` | 200 workers on one database |
//! | `backlog` | a million pending jobs |
//! | `scale` | one to eight workers on one database |
//! | `day` | the traffic of a day |
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it prints the tables")]
#![allow(clippy::print_stderr, reason = "it prints the progress")]

mod arguments;
mod backlog;
mod chaos;
mod day;
mod fleet;
mod phases;
mod pressure;
mod replica;
mod scale;
mod server;

use std::error::Error;

use arguments::{Arguments, Group};
use server::LoadServer;

/// The result of everything here. An error is only printed.
type Measured<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Measured<()> {
    if replica::is_asked_for() {
        return replica::run().await;
    }
    if scale::is_asked_for() {
        return scale::run().await;
    }
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let server = LoadServer::start()?;
    println!("{}", server.introduction().await?);
    for group in &arguments.groups {
        match group {
            Group::Chaos => chaos::measure(&server, &arguments).await?,
            Group::Pressure => pressure::measure(&server, &arguments).await?,
            Group::Fleet => fleet::measure(&server, &arguments).await?,
            Group::Backlog => backlog::measure(&server, &arguments).await?,
            Group::Scale => scale::measure(&server, &arguments).await?,
            Group::Day => day::measure(&server, &arguments).await?,
        }
    }
    Ok(())
}
