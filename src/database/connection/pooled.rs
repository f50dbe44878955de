//! A connection from the application's pool.

use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel::connection::CacheSize;
use diesel_async::{AnsiTransactionManager, AsyncConnection, AsyncPgConnection, TransactionManager};

/// A connection from a pool. Drop it to return it.
///
/// # Example
///
/// ```
/// use diesel_async::AsyncPgConnection;
/// use procrastinate::pool::PooledConnection;
///
/// /// Wraps anything that dereferences to a connection.
/// fn lend(connection: Box<AsyncPgConnection>) -> PooledConnection {
///     PooledConnection::new(connection)
/// }
/// ```
pub struct PooledConnection {
    guard: Box<dyn DerefMut<Target = AsyncPgConnection> + Send>,
    /// Whether statements are prepared only for the length of a transaction.
    pub(crate) without_prepared_statements: bool,
}

impl PooledConnection {
    /// Wraps the pool's own guard. Dropping the connection drops the guard.
    pub fn new(guard: impl DerefMut<Target = AsyncPgConnection> + Send + 'static) -> Self {
        Self { guard: Box::new(guard), without_prepared_statements: false }
    }

    /// Prepares every statement each time, in a transaction.
    pub(crate) fn without_prepared_statements(mut self) -> Self {
        self.set_prepared_statement_cache_size(CacheSize::Disabled);
        self.without_prepared_statements = true;
        self
    }

    /// Whether each statement on it is a transaction and costs one round trip.
    pub(crate) fn commits_each_statement(&mut self) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(&mut **self);
        let is_outside = matches!(status.transaction_depth(), Ok(None));
        is_outside && !self.without_prepared_statements
    }
}

impl Deref for PooledConnection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &Self::Target {
        &self.guard
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.guard
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").finish_non_exhaustive()
    }
}
