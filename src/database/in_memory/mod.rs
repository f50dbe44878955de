//! The queue's tables in memory, in place of a database: for tests (feature `testing`).
//!
//! | file | what it is about |
//! |---|---|
//! | `store` | the tables, and what the database does by itself when a row of theirs changes |
//! | `fetching` | which jobs may be started |
//! | `refusals` | what the database would refuse |
//! | `listeners` | who hears what is announced |
//! | `values` | what becomes of values when PostgreSQL stores them |
//! | `answers` | what each statement comes to, in the groups of `queries` |
//! | `tests` | random statements, put to PostgreSQL as well |
//!
//! One lock is around all of it, and a statement is answered while it is held: as if each were a transaction, one after
//! the other. What is refused has changed nothing. Besides `tests`, `tests/it/conformance` holds it against PostgreSQL,
//! through an application.

mod answers;
mod fetch;
mod listeners;
mod store;
#[cfg(test)]
#[cfg(feature = "cli")]
mod tests;
mod values;
mod violations;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::pg::Pg;
use diesel::result::QueryResult;
use tokio::sync::mpsc;

pub(crate) use store::Store;

use crate::database::statements::Statement;

/// What a statement comes to.
pub(crate) trait Answer: Statement {
    /// The rows of its answer. Where it is refused the store is as it was.
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
    /// What it is called in this crate: `InsertJob`, `FinishAndFetchJobs`. Names may change with any version.
    pub name: &'static str,
    /// What PostgreSQL would have been sent, with the values that are bound in it.
    pub sql: String,
}

/// The tables, shared by all who have a connection to them.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Store>>);

impl Memory {
    /// For looking at the tables, and for clearing them.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        // Nothing panics within it.
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

/// What stands for a connection to the database. Public by name only.
#[derive(Debug)]
pub struct MemoryConnection {
    memory: Memory,
    messages: Option<mpsc::UnboundedReceiver<String>>,
}

impl MemoryConnection {
    /// Hears from now on what is announced on these channels.
    pub(crate) fn listen(&mut self, channels: &[String]) {
        self.messages = Some(self.memory.lock().listeners.add(channels));
    }

    /// The rows of a statement's answer.
    pub(crate) async fn answer<S: Answer>(&self, statement: S) -> QueryResult<Vec<S::Row>> {
        // An answer is always there, so a caller that asks in a loop would keep other tasks from running.
        tokio::task::consume_budget().await;
        let sql = diesel::debug_query::<Pg, _>(&statement).to_string();
        let mut store = self.memory.lock();
        store.begin(ExecutedQuery { name: S::NAME, sql });
        statement.answer(&mut store)
    }

    /// The next message; waits for ever where nothing is listened for. Dropping the future loses none.
    pub(crate) async fn next_message(&mut self) -> String {
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
