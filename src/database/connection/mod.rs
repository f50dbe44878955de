//! Where the queue of an application is: behind its pool, or in memory for a test.

#[cfg(any(feature = "bb8", feature = "deadpool", feature = "cli"))]
pub(crate) mod address;
mod concurrency;
pub(crate) mod diesel_connector;
#[cfg(any(feature = "bb8", feature = "deadpool"))]
mod from_url;
pub mod pool;
pub(crate) mod pooled;
pub(crate) mod run;

use std::time::Duration;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
#[cfg(feature = "cli")]
use diesel_async::AsyncPgConnection;
#[cfg(feature = "cli")]
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;

use crate::database::connection::diesel_connector::DieselConnector;
use crate::database::connection::pooled::PooledConnection;
#[cfg(feature = "testing")]
use crate::database::in_memory::{Memory, MemoryConnection};
use crate::database::migrations::MigrationStatus;
use crate::error::Error;

/// The connector of an [`App`](crate::App): a [`DieselConnector`], or its replacement in a test.
///
/// It is cheap to clone. A clone can be passed to another [`App::builder`](crate::App::builder).
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// app.connector().run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Connector(ConnectorKind);

#[derive(Debug, Clone)]
enum ConnectorKind {
    Diesel(DieselConnector),
    #[cfg(feature = "testing")]
    InMemory(Memory),
}

impl From<DieselConnector> for Connector {
    fn from(connector: DieselConnector) -> Self {
        Self(ConnectorKind::Diesel(connector))
    }
}

#[cfg(feature = "testing")]
impl From<Memory> for Connector {
    fn from(memory: Memory) -> Self {
        Self(ConnectorKind::InMemory(memory))
    }
}

impl Connector {
    /// Does the same as [`DieselConnector::run_pending_migrations`]. In memory, no migration is ever pending.
    ///
    /// # Errors
    ///
    /// As [`DieselConnector::run_pending_migrations`].
    ///
    /// # Example
    ///
    /// See [`Connector`].
    pub async fn run_pending_migrations<S>(&self, source: S) -> Result<Vec<String>, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        match &self.0 {
            ConnectorKind::Diesel(connector) => connector.run_pending_migrations(source).await,
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(_) => Ok(Vec::new()),
        }
    }

    /// Does the same as [`DieselConnector::run_pre_migrations`]. In memory, no migration is ever pending.
    ///
    /// # Errors
    ///
    /// As [`DieselConnector::run_pre_migrations`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.connector().run_pre_migrations(procrastinate::migrations::MIGRATIONS).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_pre_migrations<S>(&self, source: S) -> Result<Vec<String>, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        match &self.0 {
            ConnectorKind::Diesel(connector) => connector.run_pre_migrations(source).await,
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(_) => Ok(Vec::new()),
        }
    }

    /// Does the same as [`DieselConnector::migration_status`]. In memory, all migrations count as applied.
    ///
    /// # Errors
    ///
    /// As [`DieselConnector::migration_status`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// println!("{}", app.connector().migration_status(procrastinate::migrations::MIGRATIONS).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn migration_status<S>(&self, source: S) -> Result<MigrationStatus, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        match &self.0 {
            ConnectorKind::Diesel(connector) => connector.migration_status(source).await,
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(_) => MigrationStatus::of_applied(&source),
        }
    }

    /// Does the same as [`DieselConnector::check_contract`]. In memory, there is nothing to check.
    ///
    /// # Errors
    ///
    /// As [`DieselConnector::check_contract`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.connector().check_contract().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check_contract(&self) -> Result<(), Error> {
        match &self.0 {
            ConnectorKind::Diesel(connector) => connector.check_contract().await,
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(_) => Ok(()),
        }
    }

    /// See [`DieselConnector::blocking`]. In memory, there is no connection for the function.
    #[cfg(feature = "cli")]
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&mut AsyncConnectionWrapper<AsyncPgConnection>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.0 {
            ConnectorKind::Diesel(connector) => connector.blocking(action, call).await,
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(_) => {
                Err(Error::Pool { action, source: "the queue of this application is in memory".into() })
            }
        }
    }

    /// Gets a connection from the pool. Drop it to return it.
    pub(crate) async fn get(&self, action: &'static str) -> Result<Connection, Error> {
        match &self.0 {
            ConnectorKind::Diesel(connector) => Ok(Connection::Pooled(connector.get(action).await?)),
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(memory) => Ok(Connection::InMemory(memory.connect())),
        }
    }

    /// Gets a connection from the pool on which each statement has a time limit.
    pub(crate) async fn get_limited(&self, action: &'static str, limit: Duration) -> Result<Connection, Error> {
        let mut connection = self.get(action).await?;
        if let Some(pooled) = connection.database_mut() {
            pooled.time_limit = Some(limit);
        }
        Ok(connection)
    }

    /// Opens a dedicated connection.
    pub(crate) async fn dedicated(&self, action: &'static str) -> Result<Connection, Error> {
        match &self.0 {
            ConnectorKind::Diesel(connector) => Ok(Connection::Pooled(connector.dedicated(action).await?)),
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(memory) => Ok(Connection::InMemory(memory.connect())),
        }
    }

    /// See [`DieselConnector::holds_sessions`].
    pub(crate) fn holds_sessions(&self) -> bool {
        match &self.0 {
            ConnectorKind::Diesel(connector) => connector.holds_sessions(),
            #[cfg(feature = "testing")]
            ConnectorKind::InMemory(_) => true,
        }
    }
}

/// A connection that runs statements. It is public only because the signature of a sealed trait contains it.
#[derive(Debug)]
pub enum Connection {
    /// A connection from the application's pool, or a dedicated one.
    Pooled(PooledConnection),
    /// The in-memory replacement.
    #[cfg(feature = "testing")]
    InMemory(MemoryConnection),
}

impl Connection {
    /// Closes the connection and frees its slot in the pool, instead of returning it. This waits for nothing, even if a
    /// statement is in flight. Dropping the connection does the same after a statement that nobody waits for, and after
    /// an error that another connection may not have.
    pub(crate) fn discard(self) {
        match self {
            Self::Pooled(connection) => connection.discard(),
            #[cfg(feature = "testing")]
            Self::InMemory(_) => {}
        }
    }

    /// Whether the connection will be closed, so that nothing more should be sent on it.
    pub(crate) fn is_discarded(&self) -> bool {
        match self {
            Self::Pooled(connection) => connection.is_discarded(),
            #[cfg(feature = "testing")]
            Self::InMemory(_) => false,
        }
    }

    /// Lets the server take as long as it needs to respond.
    pub(crate) fn without_time_limit(mut self) -> Self {
        if let Some(pooled) = self.database_mut() {
            pooled.time_limit = None;
        }
        self
    }

    /// The connection itself, if it leads to a database.
    pub(crate) fn database_mut(&mut self) -> Option<&mut PooledConnection> {
        match self {
            Self::Pooled(connection) => Some(connection),
            #[cfg(feature = "testing")]
            Self::InMemory(_) => None,
        }
    }

    /// Whether the connection is in a transaction, which is that of a test.
    pub(crate) fn is_in_transaction(&mut self) -> bool {
        match self {
            Self::Pooled(connection) => connection.is_in_transaction(),
            #[cfg(feature = "testing")]
            Self::InMemory(_) => false,
        }
    }
}

/// A connection from the pool on which each statement has a time limit. After a failure that another connection may not
/// have, it is replaced.
pub(crate) struct RenewedConnection<'c> {
    connector: &'c Connector,
    action: &'static str,
    limit: Duration,
    connection: Option<Connection>,
}

impl<'c> RenewedConnection<'c> {
    pub(crate) fn new(connector: &'c Connector, action: &'static str, limit: Duration) -> Self {
        Self { connector, action, limit, connection: None }
    }

    /// Returns the connection, or another one in its place.
    pub(crate) async fn get(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take().filter(|connection| !connection.is_discarded()) {
            Some(connection) => connection,
            None => self.connector.get_limited(self.action, self.limit).await?,
        };
        Ok(self.connection.insert(connection))
    }
}
