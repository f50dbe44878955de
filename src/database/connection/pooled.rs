//! A connection from the application's pool.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use diesel::connection::CacheSize;
use diesel_async::{AnsiTransactionManager, AsyncConnection, AsyncPgConnection, TransactionManager};
use tokio::runtime::Handle;

use crate::error::Error;

/// A connection from a pool. Drop it to return it.
///
/// The queue closes a connection instead of returning it, if a statement failed for a reason that another connection
/// may not have, or if it stopped waiting for a statement.
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
    /// `None` only while this is dropped.
    guard: Option<Box<dyn Guard>>,
    /// Whether statements are prepared only for the length of a transaction.
    pub(crate) without_prepared_statements: bool,
    /// How long the server may take to respond to a statement.
    pub(crate) time_limit: Option<Duration>,
    /// Whether a statement was sent that has no response yet.
    is_in_flight: bool,
    /// Whether the connection is closed when this is dropped.
    is_discarded: bool,
}

impl PooledConnection {
    /// Wraps the pool's own guard. Dropping the connection drops the guard.
    ///
    /// To close the connection, the queue sets its transaction manager in error and drops the guard. The pool must then
    /// close it, which the pools of diesel-async do.
    pub fn new(guard: impl DerefMut<Target = AsyncPgConnection> + Send + 'static) -> Self {
        Self::with_close(guard, |mut guard| {
            AnsiTransactionManager::transaction_manager_status_mut(&mut *guard).set_in_error();
        })
    }

    /// Wraps the pool's own guard. The function closes the connection and frees its slot in the pool.
    pub(crate) fn with_close<G>(guard: G, close: fn(G)) -> Self
    where
        G: DerefMut<Target = AsyncPgConnection> + Send + 'static,
    {
        let guard = Some(Box::new(Closable { guard, close }) as Box<dyn Guard>);
        Self { guard, without_prepared_statements: false, time_limit: None, is_in_flight: false, is_discarded: false }
    }

    /// Prepares every statement each time, in a transaction.
    pub(crate) fn without_prepared_statements(mut self) -> Self {
        self.set_prepared_statement_cache_size(CacheSize::Disabled);
        self.without_prepared_statements = true;
        self
    }

    /// Closes the connection and frees its slot in the pool, even if a statement is in flight.
    pub(crate) fn discard(mut self) {
        self.is_discarded = true;
    }

    /// Closes the connection when it is returned.
    #[cfg(feature = "admin")]
    pub(crate) fn discard_later(&mut self) {
        self.is_discarded = true;
    }

    /// Whether the connection was closed while nobody used it. Nothing is sent to find out.
    pub(crate) fn is_closed(&mut self) -> bool {
        #[cfg(any(feature = "bb8", feature = "deadpool"))]
        return diesel_async::pooled_connection::PoolableConnection::is_broken(&mut **self);
        // diesel-async only tells with a feature for a pool.
        #[cfg(not(any(feature = "bb8", feature = "deadpool")))]
        false
    }

    /// Notes that a statement is about to be sent. If nobody waits for its response, the connection is closed.
    ///
    /// A connection in a transaction is returned in any case. It is that of a test, and would lose the test's data.
    pub(crate) fn begin_statement(&mut self) {
        self.is_in_flight = !self.is_in_transaction();
    }

    /// Notes the result of the statement. After an error that another connection may not have, the connection is
    /// closed.
    pub(crate) fn end_statement<T>(&mut self, result: &Result<T, Error>) {
        let was_in_flight = std::mem::take(&mut self.is_in_flight);
        self.is_discarded |= was_in_flight && result.as_ref().is_err_and(Error::may_be_of_connection);
    }

    /// Whether the connection will be closed, so that nothing more should be sent on it.
    pub(crate) fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// Whether the connection is in a transaction, which is that of a test.
    pub(crate) fn is_in_transaction(&mut self) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(&mut **self);
        matches!(status.transaction_depth(), Ok(Some(_)))
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        // A pool may open another connection instead, for which it needs the runtime.
        if (self.is_discarded || self.is_in_flight) && Handle::try_current().is_ok() {
            guard.close();
        }
    }
}

const TAKEN: &str = "the guard is taken only when the connection is dropped";

/// A pool's guard, which can also close its connection.
trait Guard: DerefMut<Target = AsyncPgConnection> + Send {
    fn close(self: Box<Self>);
}

struct Closable<G> {
    guard: G,
    close: fn(G),
}

impl<G: DerefMut<Target = AsyncPgConnection> + Send> Guard for Closable<G> {
    fn close(self: Box<Self>) {
        (self.close)(self.guard);
    }
}

impl<G: Deref<Target = AsyncPgConnection>> Deref for Closable<G> {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.guard
    }
}

impl<G: DerefMut<Target = AsyncPgConnection>> DerefMut for Closable<G> {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.guard
    }
}

impl Deref for PooledConnection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &Self::Target {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("{TAKEN}"),
        }
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.guard {
            Some(guard) => guard,
            None => unreachable!("{TAKEN}"),
        }
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").finish_non_exhaustive()
    }
}
