//! The connector of an application: its pool, and how dedicated connections are made.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use futures_util::FutureExt;

use crate::database::connection::pool::{AsyncPool, PoolError, get_in_time};
use crate::database::connection::pooled::PooledConnection;
use crate::database::migrations::{
    MigrationStatus, check_contract, migration_status, run_pending_migrations, run_pre_migrations,
};
use crate::error::Error;
use crate::support::panics;

/// How long to wait for a connection from a pool that has no time limit of its own.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How many closed connections a pool may lend in a row. After that, the statement fails.
const MOST_CLOSED: usize = 1_000;

/// Why an action that needs a session is refused.
const NO_SESSION: &str = "it needs a session of the server, which a pooler in transaction mode does not keep; \
                          pass a pool of direct connections to `DieselConnector::dedicated_connections`";

/// The connection pool of the application, as the queue uses it. It is cheap to clone.
///
/// The queue takes connections from the pool while it needs them. It also opens one dedicated connection for each
/// running worker.
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
/// PgBouncer in transaction mode needs two more settings. See [Connection pools and PgBouncer](crate::guide::pools).
#[derive(Clone)]
#[doc(alias = "BaseConnector")]
pub struct DieselConnector {
    pool: Arc<dyn AsyncPool>,
    /// The source of dedicated connections, if it is not the pool.
    direct: Option<Arc<dyn AsyncPool>>,
    /// Whether prepared statements are lost at the end of each transaction.
    without_prepared_statements: bool,
}

impl DieselConnector {
    /// Creates a connector from a pool.
    ///
    /// Pools of bb8 (feature `bb8`, on by default) and deadpool (feature `deadpool`) are supported. For any other pool,
    /// implement [`AsyncPool`].
    #[must_use]
    pub fn new(pool: impl AsyncPool) -> Self {
        Self { pool: Arc::new(pool), direct: None, without_prepared_statements: false }
    }

    /// Uses the settings of another pool for dedicated connections. Default: the settings of the connector's own pool.
    ///
    /// Each worker has one dedicated connection for heartbeats and notifications. Migrations use another one while they
    /// run. Use this method if your pool goes through PgBouncer in transaction mode, because `LISTEN` and session locks
    /// do not work there. The pool `direct` must lead to the server itself. No connection stays checked out of it, so
    /// build it lazily.
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

    /// Runs each of the queue's own statements in a transaction and prepares it each time. Default: each statement is
    /// prepared once per connection.
    ///
    /// Use it if your pool goes through a pooler in transaction mode that does not support prepared statements. These
    /// are PgBouncer before version 1.21, and later versions with `max_prepared_statements = 0`. There, a statement may
    /// be prepared on one connection to the server and run on another. The setting costs three more round trips for
    /// each statement.
    ///
    /// It does not affect the statements of your application, including those that defer jobs on your own connections.
    /// The pool itself needs settings too. See [Connection pools and PgBouncer](crate::guide::pools).
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

    /// Runs the pending migrations of the source, and returns their versions.
    ///
    /// It does the same as [`run_pending_migrations`](crate::migrations::run_pending_migrations), but is async. It
    /// works on any flavor of the tokio runtime and uses a dedicated connection.
    ///
    /// # Errors
    ///
    /// [`Error::Migration`] if a migration fails. It leaves no changes behind, and earlier migrations stay applied.
    /// [`Error::Pool`] if the database cannot be reached.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    /// // connector.run_pending_migrations(YOUR_MIGRATIONS).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_pending_migrations<S>(&self, source: S) -> Result<Vec<String>, Error>
    where
        S: MigrationSource<Pg> + Send + 'static,
    {
        self.blocking("run migrations", move |connection| run_pending_migrations(connection, source)).await
    }

    /// Runs the migrations that must run before an upgrade of the program, and returns their versions.
    ///
    /// It does the same as [`run_pre_migrations`](crate::migrations::run_pre_migrations()), but is async, on a
    /// dedicated connection.
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

    /// Returns which migrations of the source are applied and which are pending, without a change to the database.
    ///
    /// It does the same as [`migration_status`](crate::migrations::migration_status()), but is async, on a dedicated
    /// connection.
    ///
    /// # Errors
    ///
    /// As [`migration_status`](crate::migrations::migration_status()), and [`Error::Pool`] if the database cannot be
    /// reached.
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
        self.blocking("read the status of the migrations", move |connection| migration_status(connection, source)).await
    }

    /// Checks that the tables, functions, triggers and unique indexes of Procrastinate's contract exist and are
    /// unchanged.
    ///
    /// It does the same as [`check_contract`](crate::migrations::check_contract()), but is async, on a dedicated
    /// connection.
    ///
    /// # Errors
    ///
    /// As [`check_contract`](crate::migrations::check_contract()), and [`Error::Pool`] if the database cannot be
    /// reached.
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

    /// Calls a function with a dedicated connection, on a thread where blocking is allowed.
    ///
    /// Diesel's migration runner is blocking.
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

    /// Gets a connection from the pool. Drop it to return it.
    ///
    /// A pool that does not test its connections can lend closed ones, for example after a restart of the server. They
    /// are given back, and it is asked again.
    pub(crate) async fn get(&self, action: &'static str) -> Result<PooledConnection, Error> {
        let mut connection = self.get_any(action).await?;
        for _ in 0..MOST_CLOSED {
            if !connection.is_closed() {
                break;
            }
            connection.discard();
            connection = self.get_any(action).await?;
        }
        Ok(if self.without_prepared_statements { connection.without_prepared_statements() } else { connection })
    }

    async fn get_any(&self, action: &'static str) -> Result<PooledConnection, Error> {
        let asked = catch_panic(get_in_time(self.pool.as_ref(), LONGEST_WAIT)).await;
        asked.map_err(|source| Error::Pool { action, source })
    }

    /// Opens a dedicated connection.
    pub(crate) async fn dedicated(&self, action: &'static str) -> Result<PooledConnection, Error> {
        let connection = PooledConnection::new(Box::new(self.establish(action).await?));
        Ok(if self.holds_sessions() { connection } else { connection.without_prepared_statements() })
    }

    /// Whether a dedicated connection keeps one session of the server, according to the settings.
    pub(crate) fn holds_sessions(&self) -> bool {
        self.direct.is_some() || !self.without_prepared_statements
    }

    async fn establish(&self, action: &'static str) -> Result<AsyncPgConnection, Error> {
        let pool = self.direct.as_ref().unwrap_or(&self.pool);
        let answer = tokio::time::timeout(LONGEST_WAIT, catch_panic(async { pool.dedicated().await })).await;
        let late = || Err(format!("the server did not respond within {} seconds", LONGEST_WAIT.as_secs()).into());
        answer.unwrap_or_else(|_| late()).map_err(|source| Error::Pool { action, source })
    }
}

/// Returns an error if the application's pool panics. A panic must not end a worker, or one of its side tasks.
async fn catch_panic<T>(asked: impl Future<Output = Result<T, PoolError>>) -> Result<T, PoolError> {
    let caught = AssertUnwindSafe(asked).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(format!("the pool {}", panics::describe(&*panic)).into()))
}

impl fmt::Debug for DieselConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselConnector").finish_non_exhaustive()
    }
}
