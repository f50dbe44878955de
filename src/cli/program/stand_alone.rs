//! The program `procrastinate`: the commands on a database, without the code of any task.

use std::process::ExitCode;

use clap::Parser;

use crate::app::App;
use crate::cli::program::connection::{Address, OneConnection};
use crate::cli::program::logging::Logging;
use crate::cli::program::{self, ProgramCommand};
use crate::cli::terminal::failure::Failure;
use crate::database::connection::diesel_connector::DieselConnector;

/// Looks after a queue of Procrastinate's, whichever language its programs are written in.
///
/// Jobs are listed, explained, retried, cancelled, rescheduled and deleted; the database is set up and checked. Running
/// jobs takes their code: that is for the worker of the application.
#[derive(Debug, Parser)]
#[command(name = "procrastinate", version, propagate_version = false, arg_required_else_help = true)]
#[command(after_help = "Start with `procrastinate healthchecks`, and go on with `procrastinate shell`.")]
pub(crate) struct StandAlone {
    #[command(flatten)]
    logging: Logging,

    #[command(flatten)]
    address: Address,

    /// The application, of which this program knows nothing
    #[arg(short, long, value_name = "APP", hide = true)]
    app: Option<String>,

    #[command(subcommand)]
    command: ProgramCommand,
}

/// What the program `procrastinate` does: its whole `main`.
///
/// It reads the arguments of the process, talks to standard output and standard error, and answers with the exit status.
/// A program with tasks of its own uses [`main`](crate::cli::main()) or [`Commands`](crate::cli::Commands).
///
/// # Example
///
/// ```no_run
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> std::process::ExitCode {
///     procrastinate::cli::stand_alone().await
/// }
/// ```
pub async fn stand_alone() -> ExitCode {
    let parsed = match program::parse::<StandAlone, _>(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let StandAlone { logging, address, app: python_app, command } = parsed;
    program::run::<StandAlone>(&logging, command, false, async {
        if python_app.is_some() {
            tracing::debug!("--app has no meaning here: this program needs the database alone");
        }
        let app = App::builder(DieselConnector::new(OneConnection::new(address.find()?))).build();
        app.map_err(Failure::from)
    })
    .await
}
