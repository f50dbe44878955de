//! Reads lines from a terminal, with editing, a history and completion.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Helper};

use super::lines::command_names;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::database::statements::cli::NamesInUse;
use crate::job::STATUSES;

const PROMPT: &str = "procrastinate> ";

type LineEditor = rustyline::Editor<Names, FileHistory>;

/// Reads lines from a terminal.
pub(super) struct Editor {
    /// `None` while a line is being read.
    lines: Option<Box<LineEditor>>,
    history: Option<PathBuf>,
}

impl Editor {
    pub(super) async fn open(session: &Session<'_>) -> Result<Self, Failure> {
        let config = Config::builder().auto_add_history(true).history_ignore_space(true);
        let config = config.max_history_size(1_000).map_err(Failure::of)?.build();
        let mut lines = LineEditor::with_config(config).map_err(Failure::of)?;
        lines.set_helper(Some(Names::new(session).await));
        let history = history_file();
        if let Some(path) = &history {
            // There is no history the first time.
            let _ = lines.load_history(path);
        }
        Ok(Self { lines: Some(Box::new(lines)), history })
    }

    /// Returns the next line, or `None` at the end. Ctrl-C starts a new line.
    pub(super) async fn read(&mut self) -> Result<Option<String>, Failure> {
        loop {
            let Some(mut lines) = self.lines.take() else { return Ok(None) };
            let history = self.history.clone();
            let read = tokio::task::spawn_blocking(move || {
                let line = lines.readline(PROMPT);
                if let Some(path) = &history {
                    // The shell also works without a history.
                    let _ = lines.append_history(path);
                }
                (lines, line)
            });
            let (lines, line) = read.await.map_err(Failure::of)?;
            self.lines = Some(lines);
            match line {
                Ok(line) => return Ok(Some(line)),
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(Failure::of(error)),
            }
        }
    }

    /// Loads new names of queues and tasks.
    pub(super) async fn refresh(&mut self, session: &Session<'_>) {
        let names = Names::new(session).await;
        if let Some(lines) = &mut self.lines {
            lines.set_helper(Some(names));
        }
    }
}

/// Returns the path of the history, as the XDG base directory specification defines it.
fn history_file() -> Option<PathBuf> {
    let of = |variable: &str| std::env::var_os(variable).filter(|value| Path::new(value).is_absolute());
    let state = of("XDG_STATE_HOME").map(PathBuf::from);
    let directory =
        state.or_else(|| of("HOME").map(|home| Path::new(&home).join(".local/state")))?.join("procrastinate");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

/// The names that can be completed.
#[derive(Debug, Default)]
pub(super) struct Names {
    commands: Vec<String>,
    queues: Vec<String>,
    tasks: Vec<String>,
}

impl Names {
    /// Loads the names of jobs and of the application's tasks. If that fails, there are fewer completions.
    async fn new(session: &Session<'_>) -> Self {
        let found = session.load(NamesInUse).await.unwrap_or_default();
        let mut tasks: BTreeSet<String> = session.app.task_names().into_iter().map(str::to_owned).collect();
        let mut queues = Vec::new();
        for (is_queue, name) in found {
            if is_queue {
                queues.push(name);
            } else {
                tasks.insert(name);
            }
        }
        Self { commands: command_names(), queues, tasks: tasks.into_iter().collect() }
    }

    /// Returns where the word at the cursor begins, and its possible completions.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        const KEYS: [&str; 10] =
            ["queue=", "task=", "status=", "lock=", "queueing_lock=", "id=", "worker=", "stalled", "details", "--json"];
        let start = line.rfind(' ').map_or(0, |space| space + 1);
        let word = &line[start..];
        let starting_with = |names: &[String], start: &str| -> Vec<String> {
            names.iter().filter(|name| name.starts_with(start)).cloned().collect()
        };
        if line[..start].trim().is_empty() || line[..start].trim() == "help" {
            return (start, starting_with(&self.commands, word));
        }
        if let Some((key, value)) = word.split_once('=') {
            let start = start + key.len() + 1;
            let statuses = STATUSES.map(|status| status.to_string());
            let found = match key {
                "queue" => starting_with(&self.queues, value),
                "task" => starting_with(&self.tasks, value),
                "status" => starting_with(&statuses, value),
                _ => Vec::new(),
            };
            return (start, found);
        }
        (start, starting_with(&KEYS.map(str::to_owned), word))
    }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line.get(..position).unwrap_or(line)))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Validator for Names {}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn commands_keys_and_names_are_completed() {
        let names = Names {
            commands: super::command_names(),
            queues: vec!["mails".to_owned(), "maps".to_owned()],
            tasks: vec!["send".to_owned()],
        };
        let candidates = |line: &str| names.candidates(line);
        assert_eq!(candidates("list_q"), (0, vec!["list_queues".to_owned()]));
        assert_eq!(candidates("help ret"), (5, vec!["retry".to_owned()]));
        assert_eq!(candidates("list_jobs qu"), (10, vec!["queue=".to_owned(), "queueing_lock=".to_owned()]));
        assert_eq!(candidates("list_jobs queue=mai"), (16, vec!["mails".to_owned()]));
        assert_eq!(candidates("list_jobs task="), (15, vec!["send".to_owned()]));
        assert_eq!(candidates("list_jobs status=fa"), (17, vec!["failed".to_owned()]));
    }
}
