//! The fault rig: real workers and deferrers under a seeded schedule of faults, and a checker of the queue's promises.
//!
//! | file | contents |
//! |---|---|
//! | `run` | the rig, from start to end |
//! | `schedule` | which fault happens when, by a seed |
//! | `faults` | the faults |
//! | `server`, `processes`, `proxy` | what the faults happen to |
//! | `worker`, `deferrers`, `tasks` | the child processes, and what their jobs do |
//! | `python` | the child processes in Python |
//! | `ledger` | what each process did, outside of the database |
//! | `evidence`, `checker`, `report` | what happened, whether the promises were kept, and what is printed |
//!
//! The README of the rig says how to run it.
#![cfg(unix)]
#![allow(missing_docs, reason = "nothing here is a public surface")]

mod checker;
mod deferrers;
mod evidence;
mod faults;
mod ledger;
mod processes;
mod proxy;
mod python;
mod report;
mod run;
mod schedule;
mod server;
mod tasks;
mod worker;

use std::collections::HashMap;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use self::deferrers::DeferrerArguments;
use self::report::say;
use self::run::RunArguments;
use self::schedule::Kind;
use self::worker::WorkerArguments;

/// Any error. The rig only prints it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: fault-rig run [--seed NUMBER] [--seconds NUMBER] [--only KIND,KIND]";

#[tokio::main]
async fn main() -> ExitCode {
    match run_command().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format!("fault-rig: {error}"));
            ExitCode::from(2)
        }
    }
}

async fn run_command() -> Result<bool, Failure> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().ok_or(USAGE)?;
    let options = Options::read(arguments)?;
    match &*command {
        "run" => {
            let seed = options.number("seed")?.unwrap_or_else(|| fastrand::u64(..1_000_000));
            let length = Duration::from_secs(options.number("seconds")?.unwrap_or(60));
            return run::run(RunArguments { seed, length, kinds: options.kinds()? }).await;
        }
        "worker" => {
            log_to_standard_error();
            let missing = "an option of the worker is missing";
            let arguments = WorkerArguments {
                name: options.text("name")?,
                url: options.text("url")?,
                ledger: options.text("ledger")?.into(),
                concurrency: options.number("concurrency")?.ok_or(missing)?,
                local_buffer: options.number("local-buffer")?.ok_or(missing)?,
                queues: options.number("queues")?.ok_or(missing)?,
                deletes: options.text("deletes")?.parse()?,
            };
            worker::run(arguments).await?;
        }
        "deferrer" => {
            log_to_standard_error();
            let seed = options.number("seed")?.unwrap_or_default();
            let (url, ledger) = (options.text("url")?, options.text("ledger")?.into());
            deferrers::run(DeferrerArguments { url, ledger, seed }).await?;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(true)
}

fn log_to_standard_error() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
}

/// The options of a command line, each with a value.
struct Options(HashMap<String, String>);

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = HashMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or(USAGE)?;
            options.insert(name.to_owned(), words.next().ok_or(USAGE)?);
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> Result<String, Failure> {
        Ok(self.0.get(name).ok_or_else(|| format!("--{name} is missing"))?.clone())
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &String| text.parse().map_err(|_| format!("--{name} must be a number").into());
        self.0.get(name).map(parse).transpose()
    }

    /// Returns the kinds of faults whose names contain one of the given words.
    fn kinds(&self) -> Result<Vec<Kind>, Failure> {
        let Some(only) = self.0.get("only") else { return Ok(Vec::new()) };
        let matches = |kind: &Kind| only.split(',').any(|word| kind.to_string().contains(word.trim()));
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(matches).collect();
        if kinds.is_empty() { Err("--only matches no kind of fault".into()) } else { Ok(kinds) }
    }
}
