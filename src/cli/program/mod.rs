//! A program whose command line is this one and nothing else.

pub(crate) mod command;
mod connection;
mod documents;
mod logging;
pub(crate) mod mounted;
pub(crate) mod stand_alone;

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

/// Runs the workers of an application, and looks after its queue.
#[derive(Debug, Parser)]
#[command(version, propagate_version = false, arg_required_else_help = true)]
struct Program {
    #[command(flatten)]
    logging: Logging,

    #[command(subcommand)]
    command: ProgramCommand,
}

/// What a program can be asked for that is not mounted in another one.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProgramCommand {
    #[command(flatten)]
    Queue(Box<Command>),
    #[command(flatten)]
    Document(Document),
}

/// The whole `main` of a program that is a worker and nothing else: reads the arguments, builds the application, does what
/// was asked for, and answers with the exit status.
///
/// The application is built only when it is needed: not for `--help`. Its log goes to standard error, as the logging flags
/// say, unless the program has installed a subscriber of `tracing` before.
///
/// A program with a command line of its own mounts [`Commands`](crate::cli::Commands) in it.
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

/// As [`main`](crate::cli::main()), with arguments that are not those of the process. The first one is the program's name.
///
/// # Example
///
/// ```no_run
/// # async fn build() -> Result<procrastinate::App, Box<dyn std::error::Error + Send + Sync>> { Err("an example".into()) }
/// # async fn example() {
/// // What a timer of the system calls.
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

/// The arguments of the process. Where there is nothing to be run, after `--help` or a mistake, all has been said.
pub(crate) fn parse<P: Parser, A: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<P, ExitCode> {
    P::try_parse_from(arguments).map_err(|error| {
        // There is nobody to be told that it cannot be written.
        let _ = error.print();
        exit_code(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Does what was asked for, with an application that is built for it.
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
