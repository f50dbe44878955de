//! A connector for programs without a pool of their own.

use std::error::Error as _;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use futures_util::FutureExt;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use crate::database::connection::address;
use crate::database::connection::diesel_connector::DieselConnector;
use crate::database::connection::pool::AsyncPool;
use crate::error::Error;

/// A worker needs one connection, and sometimes a second one.
const CONNECTIONS: u8 = 2;

/// How long to try to reach the server, unless the URL sets a time limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const RULE: &str =
    "must be postgres://user:password@host:port/database, with special characters of the password as %XX";

const NO_TLS: &str = "must not require TLS, because `DieselConnector::from_url` connects without it; pass a pool with \
                      TLS to `DieselConnector::new`, as the guide shows in \"Connection pools and PgBouncer\"";

impl DieselConnector {
    /// Creates a connector from the URL of a database, for programs without an async pool.
    ///
    /// Use it for the worker of a synchronous application. It makes a pool of two connections, which is enough for any
    /// worker, and opens them when they are first needed. Dedicated connections come in addition. If your tasks need
    /// async connections, make a pool that you share with them, and use [`new`](Self::new).
    ///
    /// The connections are not encrypted. A URL that requires TLS is refused. For TLS, use [`new`](Self::new) with a
    /// pool that connects in that way. See [TLS](crate::guide::pools).
    ///
    /// It requires the feature `bb8` or `deadpool`. All async code that uses the connector must run on the same tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the URL is not one of PostgreSQL or requires TLS. The error does not contain the password.
    ///
    /// # Example
    ///
    /// A program that is not async runs the worker on a runtime of its own:
    ///
    /// ```no_run
    /// use procrastinate::{App, DieselConnector, TaskError, task};
    ///
    /// #[task]
    /// fn import(file: String) {
    ///     println!("importing {file}");
    /// }
    ///
    /// fn main() -> Result<(), TaskError> {
    ///     let connector = DieselConnector::from_url(&std::env::var("DATABASE_URL")?)?;
    ///     let app = App::builder(connector).task::<import>().build()?;
    ///     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    ///     runtime.block_on(app.worker().run())?;
    ///     Ok(())
    /// }
    /// ```
    pub fn from_url(database_url: &str) -> Result<Self, Error> {
        Ok(Self::new(pool(read(database_url)?)?))
    }
}

/// Reads the URL. tokio-postgres does not know the modes of `sslmode` that verify the server, or their parameters.
fn read(database_url: &str) -> Result<Config, Error> {
    let invalid = |reason: &str, rule: &str| {
        let value = if reason.is_empty() { "(not shown)" } else { reason.trim_start() };
        Error::Invalid { what: "database URL", value: value.to_owned(), rule: rule.to_owned() }
    };
    let mut config = address::parse(database_url).map_err(|reason| {
        let is_about_tls = ["`sslmode`", "`sslrootcert`", "`sslcert`", "`sslkey`"].iter().any(|o| reason.contains(o));
        invalid(&reason, if is_about_tls { NO_TLS } else { RULE })
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(invalid("(no host)", RULE));
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(invalid("(sslmode=require)", NO_TLS));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    Ok(config)
}

fn manager(config: Config) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    let mut settings = ManagerConfig::default();
    settings.custom_setup = Box::new(move |_| connect(config.clone()).boxed());
    // The manager shows its URL in its debug output.
    AsyncDieselConnectionManager::new_with_config(String::new(), settings)
}

/// Opens a connection. Diesel's own function does not return the reason of a failure.
async fn connect(config: Config) -> ConnectionResult<AsyncPgConnection> {
    let (client, connection) = config.connect(NoTls).await.map_err(|error| {
        let reason = error.source().map(|reason| format!(": {reason}")).unwrap_or_default();
        ConnectionError::BadConnection(format!("{error}{reason}"))
    })?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

#[cfg(feature = "bb8")]
fn pool(config: Config) -> Result<impl AsyncPool, Error> {
    let builder = bb8::Pool::builder().max_size(CONNECTIONS.into()).connection_timeout(CONNECT_TIMEOUT);
    // A limited lifetime would need a runtime at this point.
    Ok(builder.idle_timeout(None).max_lifetime(None).build_unchecked(manager(config)))
}

#[cfg(not(feature = "bb8"))]
fn pool(config: Config) -> Result<impl AsyncPool, Error> {
    let pool = deadpool::managed::Pool::builder(manager(config)).max_size(CONNECTIONS.into()).build();
    pool.map_err(|error| Error::Pool { action: "make a pool", source: error.into() })
}
