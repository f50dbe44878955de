//! A program that has only this command line.

mod address;
pub(crate) mod command;
mod connection;
mod documents;
mod logging;
pub(crate) mod mounted;
mod parameters;
pub(crate) mod stand_alone;
mod tls;

use std::error::Error as StdError;
use std::ffi::OsString;
use std::future::Future;
use std::io::BufWriter;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::app::App;
use crate::cli::program::command::Command;
use crate::cli::program::documents::Document;
use crate::cli::program::logging::Logging;
use crate::cli::terminal::exit::finish;
use crate::cli::terminal::failure::{Failure, exit_code};
use crate::cli::terminal::output::{Output, Style};
use crate::cli::terminal::session::Session;

/// Run workers and manage the queue.
#[derive(Debug, Parser)]
#[command(version, propagate_version = false, arg_required_else_help = true)]
struct Program {
    #[command(flatten)]
    logging: Logging,

    #[command(subcommand)]
    command: ProgramCommand,
}

/// The commands that only a complete program has.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProgramCommand {
    #[command(flatten)]
    Queue(Box<Command>),
    #[command(flatten)]
    Document(Document),
}

/// Runs the command line of a program that only runs workers. Returns its exit status.
///
/// It parses the arguments and builds the application if the command needs one, so not for `--help`. The logging flags
/// configure the log on standard error, unless the program has installed a `tracing` subscriber before.
///
/// If your program has its own command line, mount [`Commands`](crate::cli::Commands) in it.
///
/// # Example
///
/// ```no_run
/// use diesel_async::AsyncPgConnection;
/// use diesel_async::pooled_connection::AsyncDieselConnectionManager;
/// use diesel_async::pooled_connection::bb8::Pool;
/// use procrastinate::{App, DieselConnector, task};
///
/// #[task(queue = "mails")]
/// async fn welcome(customer: i64) {
///     println!("Welcome, {customer}!");
/// }
///
/// # #[cfg(feature = "bb8")]
/// async fn build() -> Result<App, Box<dyn std::error::Error + Send + Sync>> {
///     let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(std::env::var("DATABASE_URL")?);
///     let connector = DieselConnector::new(Pool::builder().build_unchecked(manager));
///     Ok(App::builder(connector).task::<welcome>().build()?)
/// }
///
/// # #[cfg(feature = "bb8")]
/// #[tokio::main]
/// async fn main() -> std::process::ExitCode {
///     // `shop-worker worker --queues mails`, `shop-worker healthchecks`, `shop-worker shell` …
///     procrastinate::cli::main(build).await
/// }
/// # #[cfg(not(feature = "bb8"))]
/// # fn main() {}
/// ```
pub async fn main<F, E>(build: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = Result<App, E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    main_from(std::env::args_os(), build).await
}

/// Does the same as [`main`](crate::cli::main()) with other arguments than those of the process. The first one is the
/// name of the program.
///
/// # Example
///
/// ```no_run
/// # async fn build() -> Result<procrastinate::App, procrastinate::Error> { unimplemented!() }
/// # async fn example() {
/// // What a timer of the operating system runs.
/// let code = procrastinate::cli::main_from(["shop-worker", "worker", "--one-shot"], build).await;
/// # }
/// ```
pub async fn main_from<F, E, A>(arguments: impl IntoIterator<Item = A>, build: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = Result<App, E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
    A: Into<OsString> + Clone,
{
    let Program { logging, command } = match parse::<Program, A>(arguments) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    run::<Program>(&logging, command, true, async { build().await.map_err(Failure::of) }).await
}

/// Parses the arguments. Returns the exit status if there is nothing to run, after `--help` or invalid usage.
pub(crate) fn parse<P: Parser, A: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<P, ExitCode> {
    P::try_parse_from(arguments).map_err(|error| {
        // There is nowhere to report a failed write.
        let _ = error.print();
        exit_code(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Builds the application and runs the command.
pub(crate) async fn run<P: CommandFactory>(
    logging: &Logging,
    command: ProgramCommand,
    has_tasks: bool,
    app: impl Future<Output = Result<App, Failure>>,
) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout());
    let mut err = std::io::stderr();
    let mut output = Output::new(&mut out, &mut err, Style::of_standard_output());
    let result = match (logging.start(), command) {
        (Err(failure), _) => Err(failure),
        (Ok(()), ProgramCommand::Document(document)) => document.write(P::command(), &mut output),
        (Ok(()), ProgramCommand::Queue(command)) if !command.needs_application() => {
            command.run_without_application(&mut output)
        }
        (Ok(()), ProgramCommand::Queue(command)) => match app.await {
            Err(failure) => Err(failure),
            Ok(app) => {
                let mut session = Session::new(app, has_tasks, output);
                let result = command.run(&mut session).await;
                output = session.output;
                result
            }
        },
    };
    finish(result, &mut output)
}
