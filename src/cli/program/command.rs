//! The commands of all programs.

use clap::Subcommand;

#[cfg(feature = "admin")]
use crate::cli::commands::admin::Admin;
use crate::cli::commands::defer::Defer;
use crate::cli::commands::health::healthchecks::Healthchecks;
use crate::cli::commands::jobs::JobCommand;
use crate::cli::commands::schema::Schema;
use crate::cli::commands::worker::RunWorker;
use crate::cli::shell::Shell;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::Output;
use crate::cli::terminal::session::Session;

/// A command.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    Worker(Box<RunWorker>),
    Defer(Defer),
    Schema(Schema),
    Healthchecks(Healthchecks),
    Shell(Shell),
    #[cfg(feature = "admin")]
    Admin(Admin),
    #[command(flatten)]
    Jobs(JobCommand),
}

impl Command {
    /// Whether the command needs an application.
    pub(crate) fn needs_application(&self) -> bool {
        match self {
            Self::Schema(schema) => schema.needs_database(),
            _ => true,
        }
    }

    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::Worker(worker) => worker.run(session).await,
            Self::Defer(defer) => defer.run(session).await,
            Self::Schema(schema) => schema.run(session).await,
            Self::Healthchecks(healthchecks) => healthchecks.run(session).await,
            Self::Shell(shell) => shell.run(session).await,
            #[cfg(feature = "admin")]
            Self::Admin(admin) => admin.run(session).await,
            Self::Jobs(command) => command.run(session).await,
        }
    }

    pub(crate) fn run_without_application(self, output: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            Self::Schema(schema) => schema.run_without_database(output),
            _ => Ok(()),
        }
    }
}
