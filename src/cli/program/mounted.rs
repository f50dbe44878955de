//! The commands, to be mounted in an application's own command line.

use std::io::BufWriter;
use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches, Subcommand};

use crate::app::App;
use crate::cli::program::command::Command;
use crate::cli::terminal::exit::finish;
use crate::cli::terminal::output::{Output, Style};
use crate::cli::terminal::session::Session;

/// The commands of the queue, for a program whose command line is made with clap: what `manage.py procrastinate` is to
/// Django.
///
/// It can be mounted as a subcommand, as here, or with `#[command(flatten)]` beside the program's own subcommands; and in
/// a program that uses clap's builder, with the functions of clap's traits [`clap::Subcommand`] and [`clap::Args`] that it
/// implements. Its flags have no meaning outside of its commands, so they cannot meet the program's own.
///
/// The program sees to its log itself.
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
///     /// Serves the web pages
///     Serve,
///     /// Runs the worker, and looks after the queue
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
    /// Does what was asked for, with the application's tasks, pool and state, and answers with the exit status: 0, or 1
    /// when it failed, or 2 when a value cannot be. What there is to say was said then, on standard output and standard
    /// error.
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
