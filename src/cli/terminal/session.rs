//! The session of a command.

use std::io::{BufRead, IsTerminal};

use chrono::{DateTime, Utc};
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_dsl::CompatibleType;

use crate::app::App;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::Output;
use crate::cli::terminal::times::Times;
use crate::database::connection::run::{Executable, Run};
use crate::database::statements::Statement as _;
use crate::database::statements::explain::CurrentTime;

/// An application and the user's terminal.
pub(crate) struct Session<'s> {
    pub(crate) app: App,
    /// Whether this program has tasks, or only a database.
    pub(crate) has_tasks: bool,
    /// Whether the user can answer questions.
    pub(crate) can_ask: bool,
    pub(crate) output: Output<'s>,
}

impl<'s> Session<'s> {
    pub(crate) fn new(app: App, has_tasks: bool, output: Output<'s>) -> Self {
        let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self { app, has_tasks, can_ask, output }
    }

    /// Loads the rows of a statement, on a connection from the pool.
    pub(crate) async fn load<S>(&self, statement: S) -> Result<Vec<S::Row>, Failure>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        let mut connection = self.app.connector().get(S::ACTION).await?;
        Ok(connection.load(statement).await?)
    }

    /// Returns the time by the database's clock.
    pub(crate) async fn now(&self) -> Result<DateTime<Utc>, Failure> {
        let mut connection = self.app.connector().get(CurrentTime::ACTION).await?;
        Ok(connection.load_one(CurrentTime).await?)
    }

    /// Returns how to show times.
    pub(crate) async fn times(&self, is_exact: bool) -> Result<Times, Failure> {
        Ok(Times { now: self.now().await?, is_exact })
    }

    /// Asks for confirmation. Without a terminal, `--yes` is required.
    pub(crate) fn confirm(&mut self, is_confirmed: bool, question: &str) -> Result<bool, Failure> {
        if is_confirmed {
            return Ok(true);
        }
        if !self.can_ask {
            return Err(Failure::usage(format!("{question} Could not ask without a terminal; use --yes to confirm")));
        }
        self.output.ask(format!("{question} [y/N]"));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
