//! A pool for one test.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bb8::CustomizeConnection;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::Error;

/// How long code waits for the connection while other code has it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Creates a pool for one test, with a single connection in a transaction that is never committed.
///
/// Give it to the application in place of its own pool. Everything that the application does then happens in that
/// transaction, and the application's own transactions become savepoints. Dropping the pool rolls everything back, so
/// tests do not affect each other.
///
/// Migrate the database first, because a migration on this pool would be rolled back too. Use a database that is only
/// for tests: jobs that are already pending in it are visible, and are run as well.
///
/// Code that needs the connection while other code holds it gets an error after five seconds. Return the connection
/// before you call code that takes one. For other kinds of pools, set `max_size` to 1 and use Diesel's
/// [`begin_test_transaction`](diesel_async::AsyncConnection::begin_test_transaction).
///
/// # Errors
///
/// [`Error::Pool`] if the database is unreachable.
///
/// # Example
///
/// See [`TestWorker`](super::TestWorker).
pub async fn test_pool(database_url: &str) -> Result<Pool<AsyncPgConnection>, Error> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
    Pool::builder()
        .max_size(1)
        .min_idle(Some(1))
        // The connection must not be replaced by another one, which would have its own transaction.
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(LONGEST_WAIT)
        // After a failed statement the transaction is aborted, so the check would fail and replace the connection.
        .test_on_check_out(false)
        .connection_customizer(Box::new(InTestTransaction))
        .build(manager)
        .await
        .map_err(|error| Error::Pool { action: "connect for a test", source: error.into() })
}

#[derive(Debug)]
struct InTestTransaction;

impl CustomizeConnection<AsyncPgConnection, PoolError> for InTestTransaction {
    fn on_acquire<'a>(
        &'a self,
        connection: &'a mut AsyncPgConnection,
    ) -> Pin<Box<dyn Future<Output = Result<(), PoolError>> + Send + 'a>> {
        Box::pin(async { connection.begin_test_transaction().await.map_err(PoolError::QueryError) })
    }
}
