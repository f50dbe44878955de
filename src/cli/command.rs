//! The commands, whatever program they are part of.

use clap::Subcommand;

use super::defer::Defer;
use super::failure::Failure;
use super::healthchecks::Healthchecks;
use super::jobs::JobCommand;
use super::output::Output;
use super::schema::Schema;
use super::session::Session;
use super::shell::Shell;
use super::worker::RunWorker;

/// What can be asked for.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    Worker(Box<RunWorker>),
    Defer(Defer),
    Schema(Schema),
    Healthchecks(Healthchecks),
    Shell(Shell),
    #[command(flatten)]
    Jobs(JobCommand),
}

impl Command {
    /// Whether it has to do with a database at all.
    pub(super) fn needs_application(&self) -> bool {
        match self {
            Self::Schema(schema) => schema.needs_database(),
            _ => true,
        }
    }

    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::Worker(worker) => worker.run(session).await,
            Self::Defer(defer) => defer.run(session).await,
            Self::Schema(schema) => schema.run(session).await,
            Self::Healthchecks(healthchecks) => healthchecks.run(session).await,
            Self::Shell(shell) => shell.run(session).await,
            Self::Jobs(command) => command.run(session).await,
        }
    }

    pub(super) fn run_without_application(self, output: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            Self::Schema(schema) => schema.run_without_database(output),
            _ => Ok(()),
        }
    }
}
