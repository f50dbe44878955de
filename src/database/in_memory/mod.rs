//! The queue's tables in memory, as a replacement for the database in tests (feature `testing`).
//!
//! | file | purpose |
//! |---|---|
//! | `store` | the tables, and what triggers and constraints do when a row changes |
//! | `fetch` | which jobs may start |
//! | `controls` | what is paused or limited, and which priorities age |
//! | `flow` | how many more jobs may start |
//! | `options` | options that few jobs have, and jobs that have not started in time |
//! | `sequence` | sequences of IDs |
//! | `unique_keys` | keys that refuse further jobs |
//! | `violations` | errors that the database would return |
//! | `listeners` | listeners and their notifications |
//! | `values` | how PostgreSQL changes values when it stores them |
//! | `answers` | the implementation of each statement, grouped like `statements` |
//! | `tests` | random statements, compared with PostgreSQL |
//!
//! One lock protects everything, and each statement holds it, as if transactions ran one after the other. A statement
//! that fails changes nothing. Besides `tests`, `tests/it/conformance` compares it with PostgreSQL through an
//! application.

mod answers;
mod controls;
mod fetch;
mod flow;
mod keys;
mod listeners;
mod options;
mod sequence;
mod store;
#[cfg(test)]
#[cfg(feature = "cli")]
mod tests;
mod unique_keys;
mod values;
mod violations;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::pg::Pg;
use diesel::result::QueryResult;
use tokio::sync::mpsc;

pub(crate) use store::Store;

use crate::database::statements::Statement;

/// The in-memory implementation of a statement.
pub(crate) trait Answer: Statement {
    /// Returns the rows of the statement. If it fails, the store is unchanged.
    fn answer(self, store: &mut Store) -> QueryResult<Vec<Self::Row>>;
}

/// A statement that was run.
///
/// # Example
///
/// See [`InMemoryConnector::queries`](crate::testing::InMemoryConnector::queries).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutedQuery {
    /// The name of the statement in this crate, such as `InsertJob` or `FinishAndFetchJobs`. It can change in any
    /// version.
    pub name: &'static str,
    /// The SQL for PostgreSQL, with its bound values.
    pub sql: String,
}

/// The tables, shared by all their connections.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Store>>);

impl Memory {
    /// Locks the tables, to read or clear them.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        // Code that holds the lock never panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connect(&self) -> MemoryConnection {
        MemoryConnection { memory: self.clone(), messages: None }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// The replacement of a database connection. It is public by name only.
#[derive(Debug)]
pub struct MemoryConnection {
    memory: Memory,
    messages: Option<mpsc::UnboundedReceiver<(String, String)>>,
}

impl MemoryConnection {
    /// Receives notifications on these channels from now on.
    pub(crate) fn listen(&mut self, channels: &[String]) {
        self.messages = Some(self.memory.lock().listeners.add(channels));
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn answer<S: Answer>(&self, statement: S) -> QueryResult<Vec<S::Row>> {
        // A statement never has to wait, so a caller that runs them in a loop would block other tasks.
        tokio::task::consume_budget().await;
        let sql = diesel::debug_query::<Pg, _>(&statement).to_string();
        let mut store = self.memory.lock();
        store.begin(ExecutedQuery { name: S::NAME, sql });
        statement.answer(&mut store)
    }

    /// Waits for the next message and its channel, indefinitely if there is no listener. Dropping the future loses
    /// none.
    pub(crate) async fn next_message(&mut self) -> (String, String) {
        let message = match &mut self.messages {
            Some(messages) => messages.recv().await,
            None => None,
        };
        match message {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }
}
