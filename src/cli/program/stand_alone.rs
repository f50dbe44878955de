//! The program `procrastinate`: the commands for any database, without tasks.

use std::process::ExitCode;

use clap::Parser;

use crate::app::App;
use crate::cli::program::address::Address;
use crate::cli::program::connection::FewConnections;
use crate::cli::program::logging::Logging;
use crate::cli::program::{self, ProgramCommand};
use crate::cli::terminal::failure::Failure;
use crate::database::connection::diesel_connector::DieselConnector;

/// Manage a Procrastinate queue, whichever language its programs use.
///
/// Lists, explains, retries, cancels, reschedules and deletes jobs, and sets up and checks the database. To run jobs,
/// use the worker of your application.
#[derive(Debug, Parser)]
#[command(name = "procrastinate", version, propagate_version = false, arg_required_else_help = true)]
#[command(after_help = "Start with `procrastinate healthchecks`, then try `procrastinate shell`.")]
pub(crate) struct StandAlone {
    #[command(flatten)]
    logging: Logging,

    #[command(flatten)]
    address: Address,

    /// The application. This program ignores it
    #[arg(short, long, value_name = "APP", hide = true)]
    app: Option<String>,

    #[command(subcommand)]
    command: ProgramCommand,
}

/// Runs the command line of the program `procrastinate`. Returns its exit status.
///
/// It reads the arguments of the process. A program with tasks uses [`main`](crate::cli::main()) or
/// [`Commands`](crate::cli::Commands).
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
            tracing::debug!("--app has no effect: this program needs only a database");
        }
        let app = App::builder(DieselConnector::new(FewConnections::new(address.find()?))).build();
        app.map_err(Failure::from)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_words_are_a_command_or_refused(
            command in "(list_jobs|show|why|retry|cancel|abort|reschedule|delete|clean|defer|schedules|schema|shell|worker|healthchecks)",
            words in proptest::collection::vec("(--?[a-z-]{0,12}(=\\PC{0,5})?|[a-z]+=\\PC{0,8}|#?-?[0-9]{0,20}|\\PC{0,8})", 0..6),
        ) {
            let arguments = ["procrastinate".to_owned(), command].into_iter().chain(words);
            if let Err(error) = StandAlone::try_parse_from(arguments) {
                assert!(!error.render().to_string().is_empty());
            }
        }
    }
}
