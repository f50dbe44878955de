//! PgBouncer in transaction mode between an application and its server: each transaction meets another connection.
//!
//! The poolers of these tests share out three connections by turns, which is the worst that can happen: whatever a
//! session is taken to keep from one transaction to the next is gone. Without PgBouncer these tests are skipped, or fail
//! with `PROCRASTINATE_REQUIRE_PGBOUNCER=1`.

mod deferring;
mod migrating;
mod pgbouncer;
mod working;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use procrastinate::DieselConnector;
use tokio_postgres::NoTls;

use self::pgbouncer::{PgBouncer, Settings};

/// A PgBouncer that keeps prepared statements, if it can.
fn keeping_statements() -> Settings {
    Settings { max_prepared_statements: 100, ..Settings::default() }
}

/// The pool that an application has before a PgBouncer which knows nothing of prepared statements.
async fn pool_before(pooler: &PgBouncer) -> Pool<AsyncPgConnection> {
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(|url| connect_in_a_transaction(url).boxed());
    // The other ways to try a connection prepare a statement for it.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(pooler.url(), config);
    Pool::builder().max_size(5).build(manager).await.unwrap()
}

/// Connects, with the statements that diesel-async prepares for it in one transaction.
async fn connect_in_a_transaction(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let bad = |error: tokio_postgres::Error| ConnectionError::BadConnection(error.to_string());
    let (client, mut driver) = tokio_postgres::connect(url, NoTls).await.map_err(bad)?;
    tokio::select! {
        begun = client.batch_execute("BEGIN") => begun.map_err(bad)?,
        ended = &mut driver => return Err(ConnectionError::BadConnection(format!("it was closed: {ended:?}"))),
    }
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, driver).await?;
    let committed = connection.batch_execute("COMMIT").await;
    committed.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// As it is without a pooler.
async fn ordinary_pool_before(pooler: &PgBouncer) -> Pool<AsyncPgConnection> {
    Pool::builder().max_size(5).build(AsyncDieselConnectionManager::new(pooler.url())).await.unwrap()
}

/// What makes connections to the server itself.
fn direct(url: &str) -> Pool<AsyncPgConnection> {
    Pool::builder().build_unchecked(AsyncDieselConnectionManager::new(url))
}

/// The connector before a PgBouncer that knows nothing of prepared statements, without direct connections.
async fn connector_before(pooler: &PgBouncer) -> DieselConnector {
    DieselConnector::new(pool_before(pooler).await).without_prepared_statements()
}
