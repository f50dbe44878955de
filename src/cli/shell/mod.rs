//! `shell`: runs several commands about jobs.

mod editor;
mod lines;

use std::io::IsTerminal;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use editor::Editor;
use lines::{NextLine, run_line, run_words};

/// Open a shell for managing jobs, or run one of its commands
///
/// In the shell, `help` lists the commands. If its input is not a terminal, it runs the lines one by one, and exits
/// with 1 if one of them failed.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  shell\n  shell list_jobs queue=mails status=failed details\n  echo 'retry 7' | … shell"
)]
pub(super) struct Shell {
    /// A command of the shell with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    shell_command: Vec<String>,
}

impl Shell {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self.shell_command.as_slice() {
            [] if std::io::stdin().is_terminal() => interactive(session).await,
            [] => piped(session).await,
            // A single argument in quotes is a whole line.
            [line] if line.contains(' ') => run_line(line, session).await.map(|_| ()),
            words => run_words(words.to_vec(), session).await.map(|_| ()),
        }
    }
}

async fn interactive(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut editor = Editor::open(session).await?;
    session.output.line("Welcome to the procrastinate shell. Type help or ? to list commands, exit to leave.\n")?;
    loop {
        session.output.flush()?;
        let Some(line) = editor.read().await? else { return Ok(()) };
        match run_line(&line, session).await {
            Ok(NextLine::Continue) => {}
            Ok(NextLine::Leave) => return Ok(()),
            Err(failure) => session.output.report(&failure),
        }
        editor.refresh(session).await;
    }
}

/// Runs the lines of an input that is not a terminal.
async fn piped(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut has_failed = false;
    loop {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            break;
        }
        match run_line(&line, session).await {
            Ok(NextLine::Continue) => {}
            Ok(NextLine::Leave) => break,
            Err(failure) => {
                session.output.report(&failure);
                has_failed = true;
            }
        }
        session.output.flush()?;
    }
    if has_failed { Err(Failure::Reported) } else { Ok(()) }
}
