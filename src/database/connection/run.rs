//! How a statement runs, on each kind of connection.

use std::future::Future;

use diesel::connection::LoadConnection;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::CompatibleType;
use diesel::result::{Error as DieselError, QueryResult};
use diesel_async::{AsyncConnection, AsyncConnectionCore};
use futures_util::FutureExt;

use crate::database::connection::Connection;
use crate::database::connection::pooled::PooledConnection;
#[cfg(feature = "testing")]
use crate::database::in_memory::{Answer, MemoryConnection};
use crate::database::statements::Statement;
use crate::error::Error;

/// A statement that [`Run`] accepts. With the feature `testing` it also has an answer in memory: one without does not
/// compile.
#[cfg(not(feature = "testing"))]
pub(crate) trait Executable: Statement {}
#[cfg(not(feature = "testing"))]
impl<S: Statement> Executable for S {}

/// A statement that [`Run`] accepts: it has an answer in memory, too. One without does not compile.
#[cfg(feature = "testing")]
pub(crate) trait Executable: Statement + Answer {}
#[cfg(feature = "testing")]
impl<S: Statement + Answer> Executable for S {}

/// Runs statements.
pub(crate) trait Run {
    /// All rows of the statement's answer.
    fn load<S>(&mut self, statement: S) -> impl Future<Output = Result<Vec<S::Row>, Error>> + Send
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>;

    /// The row of a statement that always has one.
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

/// Adds what the statement was to do.
fn explain<S: Statement>(answer: QueryResult<Vec<S::Row>>) -> Result<Vec<S::Row>, Error> {
    answer.map_err(|source| Error::database(S::ACTION, source))
}

/// The error of a statement that has no row where it must have one.
pub(crate) fn no_row<S: Statement>() -> Error {
    Error::database(S::ACTION, DieselError::NotFound)
}

/// Runs statements on a blocking connection: its futures are always ready.
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

/// How often a statement is run whose name somebody else has left behind on the server's connection. The next name is
/// another one.
const NAMES_TO_TRY: usize = 5;

impl Run for PooledConnection {
    async fn load<S>(&mut self, statement: S) -> Result<Vec<S::Row>, Error>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        if !self.without_prepared_statements {
            return Async(&mut **self).load(statement).await;
        }
        let mut names_tried = 1;
        loop {
            let answer = self.transaction(async |connection| {
                diesel_async::RunQueryDsl::load::<S::Row>(Runnable(&statement), &mut **connection).await
            });
            match answer.await {
                // Nothing was done: the transaction was rolled back.
                Err(error) if names_tried < NAMES_TO_TRY && is_about_a_name(&error) => names_tried += 1,
                answer => return explain::<S>(answer),
            }
        }
    }
}

/// Whether a statement of that name exists, or does not: only the message tells.
fn is_about_a_name(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(_, details) if details.message().starts_with("prepared statement \""))
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

/// The value of a future that only ran statements on a [`Blocking`] connection, and so never waited.
pub(crate) fn complete<T>(future: impl Future<Output = T>) -> T {
    match future.now_or_never() {
        Some(value) => value,
        None => unreachable!("a blocking connection answers before its future is polled"),
    }
}

/// Diesel's blocking `load` wants `RunQueryDsl` on the statement, which can only be implemented for a type of ours.
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
