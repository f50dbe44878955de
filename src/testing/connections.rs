//! The connections of a test worker. Each is held for one step only, so that tasks can use it in between.

use std::ops::DerefMut;

use diesel::connection::{Connection, LoadConnection, SimpleConnection, TransactionManager};
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_dsl::CompatibleType;
use diesel::result::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use crate::database::connection::pool::PoolError;
use crate::database::connection::run::{Blocking, Executable, Run, complete};
use crate::database::connection::{Connection as AppConnection, Connector};
use crate::error::Error;

/// The name of the operation, for errors.
const ACTION: &str = "run the jobs of a test";

/// A source of connections.
pub(super) trait ConnectionSource {
    type TestConnection: TestConnection;

    /// Returns a connection that nothing else uses. The caller drops it soon.
    async fn get(&mut self) -> Result<Self::TestConnection, Error>;
}

/// A connection that is held for one step.
pub(super) trait TestConnection: Run {
    /// Whether it is in a transaction, which a failed statement would abort.
    fn is_in_transaction(&mut self) -> bool;

    /// Runs statements without results.
    async fn execute(&mut self, sql: &str) -> QueryResult<()>;
}

/// Takes connections from the application's pool, or from its in-memory queue.
pub(super) struct FromApp(pub(super) Connector);

impl ConnectionSource for FromApp {
    type TestConnection = AppConnection;

    async fn get(&mut self) -> Result<AppConnection, Error> {
        self.0.get(ACTION).await
    }
}

impl TestConnection for AppConnection {
    fn is_in_transaction(&mut self) -> bool {
        type Manager = <AsyncPgConnection as AsyncConnection>::TransactionManager;
        let Some(connection) = self.database_mut() else { return false };
        let status =
            <Manager as diesel_async::TransactionManager<_>>::transaction_manager_status_mut(&mut **connection);
        matches!(status.transaction_depth(), Ok(Some(_)))
    }

    async fn execute(&mut self, sql: &str) -> QueryResult<()> {
        match self.database_mut() {
            Some(connection) => connection.batch_execute(sql).await,
            // Without transactions there are no savepoints.
            None => Ok(()),
        }
    }
}

/// Takes blocking connections from a function.
pub(super) struct FromFn<F>(pub(super) F);

impl<F, G, E> ConnectionSource for FromFn<F>
where
    F: FnMut() -> Result<G, E>,
    G: DerefMut<Target: LoadConnection<Backend = Pg>>,
    E: Into<PoolError>,
{
    type TestConnection = BlockingTestConnection<G>;

    async fn get(&mut self) -> Result<BlockingTestConnection<G>, Error> {
        (self.0)().map(BlockingTestConnection).map_err(|error| Error::Pool { action: ACTION, source: error.into() })
    }
}

/// A blocking connection that is held for one step.
pub(super) struct BlockingTestConnection<G>(G);

impl<G> TestConnection for BlockingTestConnection<G>
where
    G: DerefMut<Target: LoadConnection<Backend = Pg>>,
{
    fn is_in_transaction(&mut self) -> bool {
        let status = <G::Target as Connection>::TransactionManager::transaction_manager_status_mut(&mut *self.0);
        matches!(status.transaction_depth(), Ok(Some(_)))
    }

    async fn execute(&mut self, sql: &str) -> QueryResult<()> {
        self.0.batch_execute(sql)
    }
}

impl<G> Run for BlockingTestConnection<G>
where
    G: DerefMut<Target: LoadConnection<Backend = Pg>>,
{
    fn load<S>(&mut self, statement: S) -> impl Future<Output = Result<Vec<S::Row>, Error>> + Send
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        std::future::ready(complete(Blocking(&mut *self.0).load(statement)))
    }
}
