//! A pool for one test.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bb8::CustomizeConnection;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::Error;

/// How long who wants the connection waits while somebody else has it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A pool for one test: it has a single connection, in a transaction that is never committed.
///
/// Given to the application in place of its own pool, it has all that the application does happen in that transaction:
/// transactions of the application's become savepoints in it. Dropping the pool rolls everything back, so that tests need
/// no cleaning up and do not see each other.
///
/// The database must have been migrated before: what a migration does on a test's pool is rolled back, too. It should be
/// one for tests, since jobs that wait in it already are seen, and run, as well.
///
/// Who wants the connection while somebody else holds it gets an error after five seconds: in a test, code must give a
/// connection back before it calls code that takes one. Diesel's
/// [`begin_test_transaction`](diesel_async::AsyncConnection::begin_test_transaction) does the same for a pool of another
/// kind with `max_size` 1.
///
/// # Errors
///
/// [`Error::Pool`] when the database cannot be reached.
///
/// # Example
///
/// See [`TestWorker`](super::TestWorker).
pub async fn test_pool(database_url: &str) -> Result<Pool<AsyncPgConnection>, Error> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
    Pool::builder()
        .max_size(1)
        .min_idle(Some(1))
        // It must not be replaced by another one, which would be in a transaction of its own.
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(LONGEST_WAIT)
        // A statement that failed spoils the transaction, and the check would have the connection replaced for it.
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
