//! The commands, mounted in an application's own command line.

use std::io::BufWriter;
use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches, Subcommand};

use crate::app::App;
use crate::cli::program::command::Command;
use crate::cli::terminal::exit::finish;
use crate::cli::terminal::output::{Output, Style};
use crate::cli::terminal::session::Session;

/// The queue's commands for a program whose command line uses clap, like `manage.py procrastinate` for Django.
///
/// Mount it as a subcommand, as below, or with `#[command(flatten)]` alongside your subcommands. With clap's builder,
/// use the functions of [`clap::Subcommand`] and [`clap::Args`], which it implements. All flags belong to its
/// subcommands, so they cannot conflict with yours.
///
/// Your program sets up its own logging.
///
/// # Example
///
/// ```no_run
/// use clap::Parser;
/// use procrastinate::{App, cli};
///
/// /// The shop.
/// #[derive(Parser)]
/// enum Shop {
/// /// Serve the web pages
///     Serve,
/// /// Run workers and manage the queue
///     Queue(cli::Commands),
/// }
///
/// # async fn build() -> Result<App, Box<dyn std::error::Error>> { Err("an example".into()) }
/// #[tokio::main]
/// async fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
///     match Shop::parse() {
///         Shop::Serve => Ok(std::process::ExitCode::SUCCESS),
///         // `shop queue worker --queues mails`, `shop queue healthchecks` …
///         Shop::Queue(commands) => Ok(commands.run(&build().await?).await),
///     }
/// }
/// ```
///
/// With clap's builder:
///
/// ```
/// use clap::{Command, FromArgMatches, Subcommand};
/// use procrastinate::cli::Commands;
///
/// let queue = Commands::augment_subcommands(Command::new("queue")).subcommand_required(true);
/// let shop = Command::new("shop").subcommand(Command::new("serve")).subcommand(queue);
///
/// let matches = shop.try_get_matches_from(["shop", "queue", "worker", "--concurrency", "5"])?;
/// if let Some(("queue", matches)) = matches.subcommand() {
///     let commands = Commands::from_arg_matches(matches)?;
///     // commands.run(&app).await
/// #   drop(commands);
/// }
/// # Ok::<_, clap::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Commands {
    command: Box<Command>,
}

impl Commands {
    /// Runs the command with the application's tasks, pool and state, and prints its output. Returns the exit status: 0
    /// for success, 1 for a failure, 2 for invalid usage.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(commands: procrastinate::cli::Commands, app: procrastinate::App) {
    /// let code: std::process::ExitCode = commands.run(&app).await;
    /// # }
    /// ```
    pub async fn run(self, app: &App) -> ExitCode {
        let (mut out, mut err) = (BufWriter::new(std::io::stdout()), std::io::stderr());
        let mut session = Session::new(app.clone(), true, Output::new(&mut out, &mut err, Style::of_standard_output()));
        let result = if self.command.needs_application() {
            self.command.run(&mut session).await
        } else {
            self.command.run_without_application(&mut session.output)
        };
        finish(result, &mut session.output)
    }
}

impl FromArgMatches for Commands {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { command: Box::new(Command::from_arg_matches(matches)?) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.command.update_from_arg_matches(matches)
    }
}

impl Subcommand for Commands {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        Command::augment_subcommands(command)
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Command::augment_subcommands_for_update(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Command::has_subcommand(name)
    }
}

impl Args for Commands {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command).subcommand_required(true).arg_required_else_help(true)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands_for_update(command)
    }
}
