//! Parses and runs the lines of the shell.

use clap::{CommandFactory, Parser};

use crate::cli::commands::jobs::JobCommand;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;

/// Commands about jobs
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    name = "",
    disable_help_flag = false,
    help_template = "{subcommands}\n  exit          Leave the shell, like Ctrl-D"
)]
struct Line {
    #[command(subcommand)]
    command: JobCommand,
}

/// What to do after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextLine {
    Continue,
    Leave,
}

/// Returns the names of the commands.
pub(super) fn command_names() -> Vec<String> {
    let commands = Line::command();
    let names = commands.get_subcommands().map(|command| command.get_name().to_owned());
    names.chain(["help".to_owned(), "exit".to_owned()]).collect()
}

/// Runs a line as it was typed. Words are separated by spaces, and quotes protect spaces.
pub(super) async fn run_line(line: &str, session: &mut Session<'_>) -> Result<NextLine, Failure> {
    match shlex::split(line) {
        Some(words) => run_words(words, session).await,
        None => Err(Failure::usage("missing closing quotation mark")),
    }
}

pub(super) async fn run_words(mut words: Vec<String>, session: &mut Session<'_>) -> Result<NextLine, Failure> {
    match words.first().map(String::as_str) {
        None => return Ok(NextLine::Continue),
        Some("exit" | "quit" | "EOF") => return Ok(NextLine::Leave),
        Some("?") => words[0] = "help".to_owned(),
        Some(first) if first.starts_with('#') => return Ok(NextLine::Continue),
        Some(_) => {}
    }
    match Line::try_parse_from(words) {
        // A command can be large, so it is on the heap.
        Ok(line) => Box::pin(line.command.run(session)).await.map(|()| NextLine::Continue),
        Err(error) if !error.use_stderr() => {
            session.output.text(error.render())?;
            Ok(NextLine::Continue)
        }
        Err(error) => {
            let said = error.render().to_string();
            let said = said.trim().trim_start_matches("error: ");
            let said = said.split("\n\nFor more information").next().unwrap_or(said);
            Err(Failure::usage(said.replace("Usage:  ", "Usage: ")))
        }
    }
}
