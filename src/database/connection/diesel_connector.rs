//! The connector of an application: its pool, and how dedicated connections are made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;

use crate::database::connection::pool::{AsyncPool, get_in_time};
use crate::database::connection::pooled::PooledConnection;
use crate::database::migrations::{
    MigrationStatus, check_contract, migration_status, run_pending_migrations, run_pre_migrations,
};
use crate::error::Error;

/// How long to wait for a connection from a pool that itself would wait for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why what needs a session is refused where there is none to be had.
const NO_SESSION: &str = "this needs a connection to the server itself, and through a pooler that gives each transaction \
                          another one there is none: give the connector such ones with `dedicated_connections`";

/// The pool of the application, as the queue uses it.
///
/// The queue takes connections from the pool for as long as it needs them, and one more outside of the pool for each
/// running worker that listens for notifications. It is cheap to clone.
///
/// # Example
///
/// ```no_run
/// use diesel_async::AsyncPgConnection;
/// use diesel_async::pooled_connection::AsyncDieselConnectionManager;
/// use diesel_async::pooled_connection::bb8::Pool;
/// use procrastinate::DieselConnector;
///
/// # #[cfg(feature = "bb8")]
/// # async fn example(database_url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
/// let pool = Pool::builder().max_size(10).build(manager).await?;
/// let connector = DieselConnector::new(pool.clone());
/// # Ok(())
/// # }
/// ```
///
/// Behind a pooler that gives each transaction another connection to the server, as PgBouncer does in transaction mode,
/// two more things are to be said: see [`pools`](crate::guide::pools).
#[derive(Clone)]
pub struct DieselConnector {
    pool: Arc<dyn AsyncPool>,
    /// What makes the connections that are not the pool's, if it is not the pool.
    direct: Option<Arc<dyn AsyncPool>>,
    /// Whether the pool's connections lose what was prepared on them with each transaction.
    without_prepared_statements: bool,
}

impl DieselConnector {
    /// Uses this pool: one of bb8's (feature `bb8`, on by default), one of deadpool's (feature `deadpool`), or any other
    /// for which the application implements [`AsyncPool`].
    #[must_use]
    pub fn new(pool: impl AsyncPool) -> Self {
        Self { pool: Arc::new(pool), direct: None, without_prepared_statements: false }
    }

    /// Makes the connections that are not the pool's as this other pool makes its own: those on which workers listen and
    /// say that they are alive, one for each, and those on which migrations run. Unless set: as the pool itself does.
    ///
    /// For a pool whose connections go through a pooler that gives each transaction another connection to the server:
    /// nothing can be listened for through it, and no lock be held for longer than a transaction. Of the other pool, which
    /// leads to the server itself, no connection is ever taken, so let it be one that makes none before it is asked.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel_async::AsyncPgConnection;
    /// use diesel_async::pooled_connection::AsyncDieselConnectionManager;
    /// use diesel_async::pooled_connection::bb8::Pool;
    /// use procrastinate::DieselConnector;
    ///
    /// # #[cfg(feature = "bb8")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = |url| AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    /// let pool = Pool::builder().max_size(10).build(manager("postgres://pgbouncer:6432/shop")).await?;
    /// let direct = Pool::builder().build_unchecked(manager("postgres://postgres:5432/shop"));
    /// let connector = DieselConnector::new(pool).dedicated_connections(direct);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn dedicated_connections(mut self, direct: impl AsyncPool) -> Self {
        self.direct = Some(Arc::new(direct));
        self
    }

    /// Runs each of the queue's own statements on the pool's connections in a transaction of its own, where it is prepared
    /// and forgotten again. Unless set: a statement is prepared once for each connection, and runs by itself.
    ///
    /// For a pool whose connections go through a pooler that gives each transaction another connection to the server and
    /// knows nothing of prepared statements: PgBouncer in transaction mode before version 1.21, or with
    /// `max_prepared_statements` at 0. A statement that is prepared there on one connection runs on another, where it is
    /// not known. It costs three more round trips to the pooler for each statement.
    ///
    /// What the application runs on its pool's connections is its own affair, deferring among them: see
    /// [`pools`](crate::guide::pools), also for what the pool itself has to be told.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::DieselConnector;
    /// use procrastinate::pool::AsyncPool;
    ///
    /// fn through_an_old_pgbouncer(pool: impl AsyncPool, direct: impl AsyncPool) -> DieselConnector {
    ///     DieselConnector::new(pool).without_prepared_statements().dedicated_connections(direct)
    /// }
    /// ```
    #[must_use]
    pub fn without_prepared_statements(mut self) -> Self {
        self.without_prepared_statements = true;
        self
    }

    /// Runs those migrations of the source that the database lacks, one process at a time, and returns their versions.
    ///
    /// As [`run_pending_migrations`](crate::migrations::run_pending_migrations), but async, on any flavour of tokio's runtime. It
    /// takes a connection of its own, not one of the pool's.
    ///
    /// # Errors
    ///
    /// [`Error::Migration`] when a migration fails: that one leaves nothing behind, the ones before it stay.
    /// [`Error::Pool`] when the database cannot be reached.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    /// // connector.run_pending_migrations(MIGRATIONS_OF_THE_APPLICATION).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_pending_migrations<S>(&self, source: S) -> Result<Vec<String>, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        self.blocking("run migrations", move |connection| run_pending_migrations(connection, source)).await
    }

    /// Runs those migrations of the source that go before an upgrade of the program, and returns their versions.
    ///
    /// As [`run_pre_migrations`](crate::migrations::run_pre_migrations()), but async, on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`run_pending_migrations`](Self::run_pending_migrations).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// connector.run_pre_migrations(procrastinate::migrations::MIGRATIONS).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_pre_migrations<S>(&self, source: S) -> Result<Vec<String>, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        self.blocking("run migrations", move |connection| run_pre_migrations(connection, source)).await
    }

    /// Which migrations of the source the database has, without a change to it.
    ///
    /// As [`migration_status`](crate::migrations::migration_status()), but async, on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`migration_status`](crate::migrations::migration_status()), and [`Error::Pool`] when the database cannot be reached.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// println!("{}", connector.migration_status(procrastinate::migrations::MIGRATIONS).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn migration_status<S>(&self, source: S) -> Result<MigrationStatus, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        self.blocking("look at the migrations", move |connection| migration_status(connection, source)).await
    }

    /// Checks that the tables, functions, triggers and unique indexes of Procrastinate's contract are there and unchanged.
    ///
    /// As [`check_contract`](crate::migrations::check_contract()), but async, on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`check_contract`](crate::migrations::check_contract()), and [`Error::Pool`] when the database cannot be reached.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// connector.check_contract().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check_contract(&self) -> Result<(), Error> {
        self.blocking("check the database contract", check_contract).await
    }

    /// Calls a function, on a thread where blocking is allowed, with a connection of its own: Diesel's runner of migrations
    /// is a blocking one.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&mut AsyncConnectionWrapper<AsyncPgConnection>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.holds_sessions() {
            return Err(Error::Pool { action, source: NO_SESSION.into() });
        }
        let connection = self.establish(action).await?;
        match tokio::task::spawn_blocking(move || call(&mut AsyncConnectionWrapper::from(connection))).await {
            Ok(result) => result,
            Err(error) => Err(Error::Migration { source: error.into() }),
        }
    }

    /// A connection from the pool, to be given back by dropping it.
    pub(crate) async fn get(&self, action: &'static str) -> Result<PooledConnection, Error> {
        let asked = get_in_time(self.pool.as_ref(), LONGEST_WAIT).await;
        let connection = asked.map_err(|source| Error::Pool { action, source })?;
        Ok(if self.without_prepared_statements { connection.without_prepared_statements() } else { connection })
    }

    /// A connection that is not one of the pool's.
    pub(crate) async fn dedicated(&self, action: &'static str) -> Result<PooledConnection, Error> {
        let connection = PooledConnection::new(Box::new(self.establish(action).await?));
        Ok(if self.holds_sessions() { connection } else { connection.without_prepared_statements() })
    }

    /// Whether a connection that is not one of the pool's leads to one session of the server's, for all that was said.
    pub(crate) fn holds_sessions(&self) -> bool {
        self.direct.is_some() || !self.without_prepared_statements
    }

    async fn establish(&self, action: &'static str) -> Result<AsyncPgConnection, Error> {
        let pool = self.direct.as_ref().unwrap_or(&self.pool);
        let answer = tokio::time::timeout(LONGEST_WAIT, pool.dedicated()).await;
        let late = || Err(format!("the server did not answer within {} seconds", LONGEST_WAIT.as_secs()).into());
        answer.unwrap_or_else(|_| late()).map_err(|source| Error::Pool { action, source })
    }
}

impl fmt::Debug for DieselConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselConnector").finish_non_exhaustive()
    }
}
