//! Every statement of the crate, as a value.
//!
//! A statement is a struct that holds its binds. It has a static `QueryId`, so that a connection prepares it once, and
//! one row type. One with optional filters has in its SQL only those that are set, and is prepared by its SQL. [`Run`] runs it: on a blocking connection or on an async one, so that what uses statements is written
//! once for both.

#[cfg(feature = "cli")]
pub(crate) mod browse;
pub(crate) mod defer;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod manage;
pub(crate) mod periodic;
#[cfg(feature = "testing")]
pub(crate) mod testing;

use std::future::Future;

use diesel::connection::LoadConnection;
use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::CompatibleType;
use diesel::result::QueryResult;
use diesel_async::AsyncConnectionCore;
use futures_util::FutureExt;

#[cfg(feature = "testing")]
use crate::in_memory::Store;

/// One statement with its binds.
pub(crate) trait Statement: Query + QueryFragment<Pg> + QueryId + Send + Sync + 'static {
    /// What one row of its answer becomes.
    type Row: FromSqlRow<Self::SqlType, Pg> + Send + 'static;

    /// Its name, for who looks at what was asked.
    #[cfg(feature = "testing")]
    const NAME: &'static str;

    /// What it comes to where the tables are in memory. So that none can be added without saying so.
    #[cfg(feature = "testing")]
    fn answer_in_memory(self, store: &mut Store) -> QueryResult<Vec<Self::Row>>;
}

/// Declares a statement: its SQL in a function of its own, everything else the same for all. With `filtered` its SQL
/// depends on which filters are set.
macro_rules! statement {
    ($statement:ident -> $row:ty: $sql_type:ty, $write:expr) => {
        crate::queries::statement!(@ true, $statement -> $row: $sql_type, $write);
    };
    (filtered $statement:ident -> $row:ty: $sql_type:ty, $write:expr) => {
        crate::queries::statement!(@ false, $statement -> $row: $sql_type, $write);
    };
    (@ $is_static:literal, $statement:ident -> $row:ty: $sql_type:ty, $write:expr) => {
        impl diesel::query_builder::QueryId for $statement {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = $is_static;
        }

        impl diesel::query_builder::Query for $statement {
            type SqlType = $sql_type;
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $statement {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::result::QueryResult<()> {
                let write: fn(
                    &'b $statement,
                    &mut diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
                ) -> diesel::result::QueryResult<()> = $write;
                write(self, &mut out)
            }
        }

        impl crate::queries::Statement for $statement {
            type Row = $row;

            #[cfg(feature = "testing")]
            const NAME: &'static str = stringify!($statement);

            #[cfg(feature = "testing")]
            fn answer_in_memory(
                self,
                store: &mut crate::in_memory::Store,
            ) -> diesel::result::QueryResult<Vec<$row>> {
                crate::in_memory::Answer::answer(self, store)
            }
        }
    };
}
pub(crate) use statement;

/// Runs statements.
pub(crate) trait Run {
    /// All rows of the statement's answer.
    fn load<S>(&mut self, statement: S) -> impl Future<Output = QueryResult<Vec<S::Row>>> + Send
    where
        S: Statement,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>;
}

/// Runs statements on a blocking connection: its futures are always ready.
pub(crate) struct Blocking<'c, C>(pub(crate) &'c mut C);

impl<C: LoadConnection<Backend = Pg>> Run for Blocking<'_, C> {
    fn load<S>(&mut self, statement: S) -> impl Future<Output = QueryResult<Vec<S::Row>>> + Send
    where
        S: Statement,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        std::future::ready(diesel::RunQueryDsl::load::<S::Row>(Runnable(statement), self.0))
    }
}

/// Runs statements on an async connection.
pub(crate) struct Async<'c, C>(pub(crate) &'c mut C);

impl<C: AsyncConnectionCore<Backend = Pg>> Run for Async<'_, C> {
    fn load<S>(&mut self, statement: S) -> impl Future<Output = QueryResult<Vec<S::Row>>> + Send
    where
        S: Statement,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        diesel_async::RunQueryDsl::load::<S::Row>(Runnable(statement), self.0)
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
