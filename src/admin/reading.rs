//! A transaction in which a page reads.

use std::time::Duration;

use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_dsl::CompatibleType;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};

use crate::database::connection::run::{Executable, Run};
use crate::database::connection::{Connection, Connector};
use crate::error::Error;

/// How much longer the client waits than the server works, for the way of the response.
const GRACE: Duration = Duration::from_secs(2);

/// Settings of the planner that are switched off. So it reads no whole tables, and does not sort where an index has the
/// order, whatever its statistics are.
const OFF: [&str; 7] = [
    "jit",
    "enable_seqscan",
    "enable_bitmapscan",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_sort",
    "enable_incremental_sort",
];

/// A transaction that only reads, and in which each statement has a time limit. If it is dropped before its end, its
/// connection is closed.
pub(crate) struct Reading {
    connection: Option<Connection>,
}

impl Reading {
    /// Begins the transaction.
    pub(crate) async fn begin(connector: &Connector, limit: Duration) -> Result<Self, Error> {
        const ACTION: &str = "begin to read";
        let connection = connector.get_limited(ACTION, limit + GRACE).await?;
        let mut reading = Self { connection: Some(connection) };
        if let Some(pooled) = reading.connection.as_mut().and_then(Connection::database_mut) {
            let connection: &mut AsyncPgConnection = pooled;
            let switched_off = OFF.map(|setting| format!("SET LOCAL {setting} = off")).join("; ");
            let settings = format!(
                "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {}; \
                 SET LOCAL max_parallel_workers_per_gather = 0; {switched_off}",
                limit.as_millis()
            );
            let begun = tokio::time::timeout(limit + GRACE, async {
                AnsiTransactionManager::begin_transaction(&mut *connection).await?;
                connection.batch_execute(&settings).await
            });
            match begun.await {
                Ok(begun) => begun.map_err(|source| Error::database(ACTION, source))?,
                Err(_) => return Err(Error::NoAnswer { action: ACTION, timeout: limit + GRACE }),
            }
        }
        Ok(reading)
    }

    /// Ends the transaction, and returns the connection to the pool.
    pub(crate) async fn end(mut self) -> Result<(), Error> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let Some(pooled) = connection.database_mut() else { return Ok(()) };
        let ended = AnsiTransactionManager::commit_transaction(&mut **pooled).await;
        ended.map_err(|source| {
            let error = Error::database("end the reading", source);
            connection.discard();
            error
        })
    }
}

impl Run for Reading {
    async fn load<S>(&mut self, statement: S) -> Result<Vec<S::Row>, Error>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        match &mut self.connection {
            Some(connection) => connection.load(statement).await,
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
}
