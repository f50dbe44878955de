//! What a pool has to offer, and the pools that offer it.

use std::error::Error as StdError;
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use futures_util::future::BoxFuture;

pub use crate::database::connection::pooled::PooledConnection;

/// Why a pool gave no connection: its own error.
pub type PoolError = Box<dyn StdError + Send + Sync>;

/// A pool of diesel-async connections to PostgreSQL.
///
/// Implemented for bb8's and deadpool's pools behind their features. For another pool it is two functions.
///
/// # Example
///
/// No pool at all, but a new connection each time:
///
/// ```
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
/// use futures_util::future::BoxFuture;
/// use procrastinate::pool::{AsyncPool, PoolError, PooledConnection};
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
pub trait AsyncPool: Send + Sync + 'static {
    /// A connection from the pool.
    ///
    /// # Errors
    ///
    /// The pool's error, which should name the cause.
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>>;

    /// A connection made as the pool makes its own, which takes no slot of the pool's.
    ///
    /// # Errors
    ///
    /// Why the connection could not be made.
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
                // bb8 says the same of a busy pool and of a dead server. Trying to connect tells which it is.
                Err(bb8::RunError::TimedOut) => match self.dedicated_connection().await {
                    Err(error) => Err(error.into()),
                    Ok(_) => {
                        let size = self.state().connections;
                        Err(format!("all {size} connections of the pool are in use, and none became free in time")
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
        Box::pin(async move { Ok(PooledConnection::new(Self::get(self).await?)) })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        Box::pin(async move { Ok(deadpool::managed::Manager::create(self.manager()).await?) })
    }
}

/// How long to try to connect, in order to tell a busy pool from a dead server.
const PROBE: Duration = Duration::from_secs(2);

/// What the pool gives, or why it gives nothing in time.
pub(crate) async fn get_in_time(pool: &dyn AsyncPool, longest: Duration) -> Result<PooledConnection, PoolError> {
    if let Ok(answer) = tokio::time::timeout(longest, pool.get()).await {
        return answer;
    }
    // A pool may go on trying for as long as that, or for longer, and say nothing of the reason.
    match tokio::time::timeout(PROBE, pool.dedicated()).await {
        Ok(Ok(_)) => Err(format!("none became free within {} seconds", longest.as_secs()).into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("the server did not answer within {} seconds", (longest + PROBE).as_secs()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{AsyncPgConnection, AsyncPool, BoxFuture, Duration, PoolError, PooledConnection, get_in_time};

    /// A pool that goes on trying, as bb8's does, to reach a server that is down.
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
    async fn a_pool_that_says_nothing_in_time_is_not_taken_for_a_busy_one() {
        let Err(error) = get_in_time(&OfADeadServer, Duration::from_millis(10)).await else { panic!("connected") };
        assert_eq!(error.to_string(), "connection refused");
    }
}
