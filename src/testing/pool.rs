//! Pools for one test.

use std::time::Duration;

use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::Error;

/// How long code waits for the connection while other code has it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

const ACTION: &str = "connect for a test";

/// Creates a bb8 pool for one test, with a single connection in a transaction that is never committed.
///
/// Give it to the application in place of its own pool. Everything that the application does then happens in that
/// transaction, and the application's own transactions become savepoints. Dropping the pool rolls everything back, so
/// tests do not affect each other.
///
/// Migrate the database first, because a migration on this pool would be rolled back too. Use a database that is only
/// for tests: jobs that are already pending in it are visible, and are run as well.
///
/// Code that needs the connection while other code holds it gets an error after five seconds. Return the connection
/// before you call code that takes one. For a deadpool pool, use `deadpool_test_pool`. For other kinds of pools, set
/// `max_size` to 1 and use Diesel's
/// [`begin_test_transaction`](diesel_async::AsyncConnection::begin_test_transaction).
///
/// # Errors
///
/// [`Error::Pool`] if the database is unreachable.
///
/// # Example
///
/// See [`TestWorker`](super::TestWorker).
#[cfg(feature = "bb8")]
pub async fn test_pool(
    database_url: &str,
) -> Result<diesel_async::pooled_connection::bb8::Pool<AsyncPgConnection>, Error> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
    bb8::Pool::builder()
        .max_size(1)
        .min_idle(Some(1))
        // The connection must not be replaced by another one, which would have its own transaction.
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(LONGEST_WAIT)
        // After a failed statement the transaction is aborted, so the check would fail and replace the connection.
        .test_on_check_out(false)
        .connection_customizer(Box::new(of_bb8::InTestTransaction))
        .build(manager)
        .await
        .map_err(|error| Error::Pool { action: ACTION, source: error.into() })
}

#[cfg(feature = "bb8")]
mod of_bb8 {
    use std::pin::Pin;

    use bb8::CustomizeConnection;
    use diesel_async::pooled_connection::PoolError;

    use super::{AsyncConnection, AsyncPgConnection};

    #[derive(Debug)]
    pub(super) struct InTestTransaction;

    impl CustomizeConnection<AsyncPgConnection, PoolError> for InTestTransaction {
        fn on_acquire<'a>(
            &'a self,
            connection: &'a mut AsyncPgConnection,
        ) -> Pin<Box<dyn Future<Output = Result<(), PoolError>> + Send + 'a>> {
            Box::pin(async { connection.begin_test_transaction().await.map_err(PoolError::QueryError) })
        }
    }
}

/// Creates a deadpool pool for one test. Apart from the kind of pool, it is the same as `test_pool`: a single
/// connection, in a transaction that is never committed.
///
/// # Errors
///
/// [`Error::Pool`] if the database is unreachable.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, DieselConnector, Error, testing};
///
/// # async fn example(database_url: &str) -> Result<(), Error> {
/// let pool = testing::deadpool_test_pool(database_url).await?;
/// let app = App::builder(DieselConnector::new(pool.clone())).build()?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "deadpool")]
pub async fn deadpool_test_pool(
    database_url: &str,
) -> Result<diesel_async::pooled_connection::deadpool::Pool<AsyncPgConnection>, Error> {
    use deadpool::Runtime;
    use diesel_async::pooled_connection::deadpool::{Hook, HookError, Pool};
    use diesel_async::pooled_connection::{ManagerConfig, PoolError, RecyclingMethod};

    let mut config = ManagerConfig::default();
    // After a failed statement the transaction is aborted, so a test query would fail and replace the connection.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(database_url, config);
    let in_test_transaction = Hook::async_fn(|connection: &mut AsyncPgConnection, _| {
        Box::pin(async {
            let begun = connection.begin_test_transaction().await;
            begun.map_err(|error| HookError::Backend(PoolError::QueryError(error)))
        })
    });
    let pool = Pool::builder(manager)
        .max_size(1)
        .post_create(in_test_transaction)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(LONGEST_WAIT))
        .build()
        .map_err(|error| Error::Pool { action: ACTION, source: error.into() })?;
    match pool.get().await {
        Ok(_) => Ok(pool),
        Err(error) => Err(Error::Pool { action: ACTION, source: error.into() }),
    }
}
