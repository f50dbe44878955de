//! The command line: the program `procrastinate`, run as its users run it.

#[cfg(feature = "admin")]
mod admin;
mod defer;
mod documents;
mod flow;
mod healthchecks;
mod jobs;
pub mod mounted;
#[cfg(unix)]
pub mod probe;
mod program;
mod python;
mod schedules;
mod schema;
mod shell;
mod tls;

use std::process::{Command, Output, Stdio};

use throwaway_postgres::Database;

/// The program with arguments, before it is run. Of this process's environment it gets nothing.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procrastinate"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// The same, on a database.
pub fn on(database: &Database, arguments: &[&str]) -> Command {
    let mut command = program(arguments);
    command.env("DATABASE_URL", database.url());
    command
}

/// What a program came to.
#[derive(Debug)]
pub struct Ended {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// What it wrote to standard output. A test fails if it failed.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out
    }

    /// What it wrote to standard error. A test fails if it did not end with this status.
    #[track_caller]
    pub fn with(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.err
    }
}

/// Runs it to its end.
pub fn run(mut command: Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: status.code().expect("it ended by itself"), out: text(stdout), err: text(stderr) }
}
