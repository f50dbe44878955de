//! Runs statements on each kind of connection.

use std::future::Future;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::CompatibleType;
use diesel::result::{DatabaseErrorKind, Error as DieselError, QueryResult};
use diesel_async::{AnsiTransactionManager, AsyncConnectionCore, AsyncPgConnection, TransactionManager};
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use crate::database::connection::Connection;
use crate::database::connection::concurrency::is_of_concurrency;
use crate::database::connection::pooled::PooledConnection;
#[cfg(feature = "testing")]
use crate::database::in_memory::{Answer, MemoryConnection};
use crate::database::statements::Statement;
use crate::error::Error;

/// A statement that [`Run`] accepts. With the feature `testing`, it must have an in-memory implementation too.
#[cfg(not(feature = "testing"))]
pub(crate) trait Executable: Statement {}
#[cfg(not(feature = "testing"))]
impl<S: Statement> Executable for S {}

/// A statement that [`Run`] accepts. It must have an in-memory implementation to compile.
#[cfg(feature = "testing")]
pub(crate) trait Executable: Statement + Answer {}
#[cfg(feature = "testing")]
impl<S: Statement + Answer> Executable for S {}

/// Runs statements.
pub(crate) trait Run {
    /// Runs the statement and returns all its rows.
    fn load<S>(&mut self, statement: S) -> impl Future<Output = Result<Vec<S::Row>, Error>> + Send
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>;

    /// Runs a statement that always has a row, and returns that row.
    fn load_one<S>(&mut self, statement: S) -> impl Future<Output = Result<S::Row, Error>> + Send
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        let rows = self.load(statement);
        async move { rows.await?.into_iter().next().ok_or_else(no_row::<S>) }
    }
}

/// Adds the statement's action to its error.
fn explain<S: Statement>(answer: QueryResult<Vec<S::Row>>) -> Result<Vec<S::Row>, Error> {
    answer.map_err(|source| Error::database(S::ACTION, source))
}

/// The error of a statement that returned no row although it must.
pub(crate) fn no_row<S: Statement>() -> Error {
    Error::database(S::ACTION, DieselError::NotFound)
}

/// Runs statements on a blocking connection. Its futures are always ready.
pub(crate) struct Blocking<'c, C>(pub(crate) &'c mut C);

impl<C: LoadConnection<Backend = Pg>> Run for Blocking<'_, C> {
    fn load<S>(&mut self, statement: S) -> impl Future<Output = Result<Vec<S::Row>, Error>> + Send
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        std::future::ready(explain::<S>(diesel::RunQueryDsl::load::<S::Row>(Runnable(statement), self.0)))
    }
}

/// Runs statements on an async connection.
pub(crate) struct Async<'c, C>(pub(crate) &'c mut C);

impl<C: AsyncConnectionCore<Backend = Pg>> Run for Async<'_, C> {
    fn load<S>(&mut self, statement: S) -> impl Future<Output = Result<Vec<S::Row>, Error>> + Send
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        let answer = diesel_async::RunQueryDsl::load::<S::Row>(Runnable(statement), self.0);
        async move { explain::<S>(answer.await) }
    }
}

/// How often a statement is retried if another client has left its name behind on the connection to the server. Each
/// try uses the next name.
const NAMES_TO_TRY: usize = 5;

impl Run for PooledConnection {
    async fn load<S>(&mut self, statement: S) -> Result<Vec<S::Row>, Error>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        self.begin_statement();
        let result = match self.time_limit {
            None => load_repeatedly(self, &statement).await,
            Some(limit) => timeout(limit, load_repeatedly(self, &statement))
                .await
                .unwrap_or(Err(Error::NoAnswer { action: S::ACTION, timeout: limit })),
        };
        self.end_statement(&result);
        result
    }
}

/// How often a statement is tried that other transactions keep from being committed, for example because the database's
/// default isolation level is serializable. One of these transactions is committed each time.
const TRIES: u32 = 12;

/// The longest delay between two tries. It grows from a millisecond.
const LONGEST_DELAY: Duration = Duration::from_millis(200);

/// Runs the statement again if it is a transaction of its own and was rolled back because of others.
async fn load_repeatedly<S>(pooled: &mut PooledConnection, statement: &S) -> Result<Vec<S::Row>, Error>
where
    S: Executable,
    S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
    Pg: QueryMetadata<S::SqlType>,
{
    let tries = if pooled.is_in_transaction() { 1 } else { TRIES };
    for failures in 1..tries {
        match load_pooled(pooled, statement).await {
            Err(error) if is_of_concurrency(&error) => {
                let longest = Duration::from_millis(2_u64.pow(failures)).min(LONGEST_DELAY);
                sleep(longest.mul_f64(fastrand::f64())).await;
            }
            result => return result,
        }
    }
    load_pooled(pooled, statement).await
}

async fn load_pooled<S>(pooled: &mut PooledConnection, statement: &S) -> Result<Vec<S::Row>, Error>
where
    S: Executable,
    S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
    Pg: QueryMetadata<S::SqlType>,
{
    if !pooled.without_prepared_statements {
        let connection: &mut AsyncPgConnection = pooled;
        return explain::<S>(diesel_async::RunQueryDsl::load::<S::Row>(Runnable(statement), connection).await);
    }
    let mut names_tried = 1;
    loop {
        match load_in_transaction(pooled, statement).await {
            // The transaction was rolled back, so nothing was done.
            Err(error) if names_tried < NAMES_TO_TRY && is_about_a_name(&error) => names_tried += 1,
            answer => return explain::<S>(answer),
        }
    }
}

/// Runs the statement in a transaction of its own. Versions of diesel-async differ in what they accept as the body of a
/// transaction, but not in these functions.
async fn load_in_transaction<S>(pooled: &mut PooledConnection, statement: &S) -> QueryResult<Vec<S::Row>>
where
    S: Executable,
    S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
    Pg: QueryMetadata<S::SqlType>,
{
    let connection: &mut AsyncPgConnection = pooled;
    AnsiTransactionManager::begin_transaction(&mut *connection).await?;
    match diesel_async::RunQueryDsl::load::<S::Row>(Runnable(statement), &mut *connection).await {
        Ok(rows) => {
            AnsiTransactionManager::commit_transaction(connection).await?;
            Ok(rows)
        }
        Err(error) => {
            // If this fails too, the connection is broken and will be closed. The first error says more.
            let _ = AnsiTransactionManager::rollback_transaction(connection).await;
            Err(error)
        }
    }
}

/// Whether a prepared statement of that name exists already, or does not exist.
///
/// Diesel does not expose the SQLSTATE, and the message is in the server's language. But it always contains the name,
/// which tokio-postgres makes of the letter `s` and a number.
fn is_about_a_name(error: &DieselError) -> bool {
    let is_name = |word: &str| {
        word.strip_prefix('s')
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::Unknown, details)
        if details.statement_position().is_none()
            && details.message().split(|c: char| !c.is_ascii_alphanumeric()).any(is_name))
}

impl Run for Connection {
    async fn load<S>(&mut self, statement: S) -> Result<Vec<S::Row>, Error>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        match self {
            Self::Pooled(connection) => Run::load(connection, statement).await,
            #[cfg(feature = "testing")]
            Self::InMemory(connection) => Run::load(connection, statement).await,
        }
    }
}

#[cfg(feature = "testing")]
impl Run for MemoryConnection {
    async fn load<S>(&mut self, statement: S) -> Result<Vec<S::Row>, Error>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        explain::<S>(self.answer(statement).await)
    }
}

/// The value of a future that only ran statements on a [`Blocking`] connection, and is therefore ready.
pub(crate) fn complete<T>(future: impl Future<Output = T>) -> T {
    match future.now_or_never() {
        Some(value) => value,
        None => unreachable!("the futures of a blocking connection are always ready"),
    }
}

/// Diesel's blocking `load` needs `RunQueryDsl` on the statement, which can only be implemented for a local type.
pub(crate) struct Runnable<S>(pub(crate) S);

impl<S: Query> Query for Runnable<S> {
    type SqlType = S::SqlType;
}

impl<S: QueryId> QueryId for Runnable<S> {
    type QueryId = S::QueryId;
    const HAS_STATIC_QUERY_ID: bool = S::HAS_STATIC_QUERY_ID;
}

impl<S: QueryFragment<Pg>> QueryFragment<Pg> for Runnable<S> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }
}

impl<S, C> diesel::RunQueryDsl<C> for Runnable<S> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_prepared_statement_is_recognised_in_every_language() {
        let is_one = |message: &str| {
            let details = Box::new(message.to_owned());
            is_about_a_name(&DieselError::DatabaseError(DatabaseErrorKind::Unknown, details))
        };
        for message in [
            "prepared statement \"s17\" already exists",
            "vorbereitete Anweisung »s17« existiert bereits",
            "l'instruction préparée « s0 » n'existe pas",
            "プリペアド文\"s17\"は存在しません",
        ] {
            assert!(is_one(message), "{message}");
        }
        for message in ["canceling statement due to lock timeout", "relation \"s\" does not exist", "s17x", "as17"] {
            assert!(!is_one(message), "{message}");
        }
    }
}
