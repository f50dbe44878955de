//! Connection pools: the trait that a pool implements, and the connections that it returns.
//!
//! | item | purpose |
//! |---|---|
//! | [`AsyncPool`] | the trait for pools of async connections |
//! | [`PooledConnection`] | a connection from such a pool |
//! | [`PoolError`] | the error of such a pool |
//! | [`BoxFuture`] | what the trait's functions return |
//!
//! bb8's and deadpool's pools implement the trait with the features `bb8` and `deadpool`. You need this module only for
//! another pool. See [Connection pools and PgBouncer](crate::guide::pools) for sizes and settings.
//!
//! # Example
//!
//! ```
//! use procrastinate::DieselConnector;
//! use procrastinate::pool::AsyncPool;
//!
//! fn connect(pool: impl AsyncPool) -> DieselConnector {
//!     DieselConnector::new(pool)
//! }
//! ```

use std::error::Error as StdError;
use std::pin::Pin;
use std::time::Duration;

use diesel_async::AsyncPgConnection;

pub use crate::database::connection::pooled::PooledConnection;

/// The error of a pool that returned no connection.
pub type PoolError = Box<dyn StdError + Send + Sync>;

/// A future of a pool. It is the same type as the `BoxFuture` of the crates `futures` and `futures-util`.
pub type BoxFuture<'f, T> = Pin<Box<dyn Future<Output = T> + Send + 'f>>;

/// A pool of diesel-async connections to PostgreSQL.
///
/// It is implemented for bb8's and deadpool's pools, with the features of these names. For another pool, implement its
/// two functions.
///
/// # Example
///
/// This example has no pool, and opens a new connection each time:
///
/// ```
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
/// use procrastinate::pool::{AsyncPool, BoxFuture, PoolError, PooledConnection};
///
/// struct Unpooled {
///     database_url: String,
/// }
///
/// impl AsyncPool for Unpooled {
///     fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
///         Box::pin(async move { Ok(PooledConnection::new(Box::new(self.dedicated().await?))) })
///     }
///
///     fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
///         Box::pin(async move { Ok(AsyncPgConnection::establish(&self.database_url).await?) })
///     }
/// }
///
/// let connector = procrastinate::DieselConnector::new(Unpooled { database_url: "postgres://localhost/shop".into() });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a pool that procrastinate can use",
    label = "not a pool of `AsyncPgConnection`",
    note = "for a bb8 pool, enable the feature `bb8` of procrastinate: `cargo add procrastinate --features bb8`",
    note = "for a deadpool pool, enable the feature `deadpool`: `cargo add procrastinate --features deadpool`",
    note = "if the feature is enabled, check that the pool and procrastinate use the same versions of bb8 or deadpool, and \
            of diesel-async: `cargo tree --duplicates`",
    note = "with `PgConnection` or an r2d2 pool, use `DieselConnector::from_url`",
    note = "for any other pool, implement `procrastinate::pool::AsyncPool`"
)]
pub trait AsyncPool: Send + Sync + 'static {
    /// Gets a connection from the pool.
    ///
    /// # Errors
    ///
    /// The pool's error, which should name the cause.
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>>;

    /// Opens a connection as the pool opens its own, without taking a slot of the pool.
    ///
    /// # Errors
    ///
    /// The reason why the connection could not be opened.
    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>>;
}

#[cfg(feature = "bb8")]
impl<M> AsyncPool for bb8::Pool<M>
where
    M: bb8::ManageConnection<Connection = AsyncPgConnection, Error: StdError + Send + Sync + 'static>,
{
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
        Box::pin(async move {
            match self.get_owned().await {
                Ok(connection) => Ok(PooledConnection::new(connection)),
                Err(bb8::RunError::User(error)) => Err(error.into()),
                // bb8 returns the same error for a busy pool and a dead server. Trying to connect distinguishes the
                // two.
                Err(bb8::RunError::TimedOut) => match self.dedicated_connection().await {
                    Err(error) => Err(error.into()),
                    Ok(_) => {
                        let size = self.state().connections;
                        Err(format!("all {size} connections of the pool are in use and none became free in time")
                            .into())
                    }
                },
            }
        })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        Box::pin(async move { Ok(self.dedicated_connection().await?) })
    }
}

#[cfg(feature = "deadpool")]
impl<M> AsyncPool for deadpool::managed::Pool<M>
where
    M: deadpool::managed::Manager<Type = AsyncPgConnection, Error: StdError + Send + Sync + 'static> + 'static,
{
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
        Box::pin(async move {
            // An object that is merely dropped stays open until the pool hands it out again.
            let close = |object| drop(deadpool::managed::Object::take(object));
            Ok(PooledConnection::with_close(Self::get(self).await?, close))
        })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        Box::pin(async move {
            // Only the pool runs its hooks, so the connection is made by the pool and taken out of it.
            Ok(deadpool_dedicated::take(self).await?)
        })
    }
}

/// Connections that leave a deadpool pool.
#[cfg(feature = "deadpool")]
mod deadpool_dedicated {
    use std::time::Duration;

    use deadpool::managed::{Manager, Object, Pool, PoolError, TimeoutType, Timeouts};
    use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};

    /// Takes a connection that the pool can do without.
    pub(super) async fn take<M>(pool: &Pool<M>) -> Result<AsyncPgConnection, PoolError<M::Error>>
    where
        M: Manager<Type = AsyncPgConnection>,
    {
        let mut held = Vec::new();
        loop {
            let timeouts = Timeouts { wait: Some(Duration::ZERO), ..pool.timeouts() };
            let mut object = match pool.timeout_get(&timeouts).await {
                Err(PoolError::Timeout(TimeoutType::Wait)) => get_from_exhausted(pool).await?,
                object => object?,
            };
            let is_new = Object::metrics(&object).recycle_count == 0;
            if is_new || !is_in_transaction(&mut object) {
                return Ok(Object::take(object));
            }
            // A test needs this one. It is returned to the pool, when that has no more connections than slots.
            held.push(object);
        }
    }

    fn is_in_transaction(connection: &mut AsyncPgConnection) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(connection);
        !matches!(status.transaction_depth(), Ok(None))
    }

    /// Gets a connection from a pool all of whose connections are in use. The pool may have one more meanwhile.
    async fn get_from_exhausted<M: Manager>(pool: &Pool<M>) -> Result<Object<M>, PoolError<M::Error>> {
        /// Takes the slot back. The connection that is one too many then does not return to the pool.
        struct Enlarged<'p, M: Manager>(&'p Pool<M>);

        impl<M: Manager> Drop for Enlarged<'_, M> {
            fn drop(&mut self) {
                self.0.resize(self.0.status().max_size.saturating_sub(1));
            }
        }

        let _enlarged = (!pool.is_closed()).then(|| {
            pool.resize(pool.status().max_size + 1);
            Enlarged(pool)
        });
        pool.get().await
    }
}

/// How long to try to connect, to distinguish a busy pool from a dead server.
const PROBE: Duration = Duration::from_secs(2);

/// Gets a connection from the pool, or an error with the reason if that takes too long.
pub(crate) async fn get_in_time(pool: &dyn AsyncPool, longest: Duration) -> Result<PooledConnection, PoolError> {
    if let Ok(answer) = tokio::time::timeout(longest, pool.get()).await {
        return answer;
    }
    // A pool may keep trying for longer than that without giving a reason.
    match tokio::time::timeout(PROBE, pool.dedicated()).await {
        Ok(Ok(_)) => Err(format!("no connection became free within {} seconds", longest.as_secs()).into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("the server did not respond within {} seconds", (longest + PROBE).as_secs()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{AsyncPgConnection, AsyncPool, BoxFuture, Duration, PoolError, PooledConnection, get_in_time};

    /// A pool that keeps trying to reach a dead server, as bb8's does.
    struct OfADeadServer;

    impl AsyncPool for OfADeadServer {
        fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
            Box::pin(std::future::pending())
        }

        fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
            Box::pin(std::future::ready(Err("connection refused".into())))
        }
    }

    #[tokio::test]
    async fn a_pool_without_a_result_in_time_is_not_reported_as_busy() {
        let Err(error) = get_in_time(&OfADeadServer, Duration::from_millis(10)).await else { panic!("connected") };
        assert_eq!(error.to_string(), "connection refused");
    }
}
