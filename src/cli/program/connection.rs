//! The database connections of the stand-alone program.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel_async::{AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};

use crate::cli::program::address::Target;
use crate::cli::program::tls::{self, Tls};
use crate::cli::terminal::failure::chain;
use crate::database::connection::pool::{AsyncPool, BoxFuture, PoolError};
use crate::database::connection::pooled::PooledConnection;

/// How long to try to connect, unless the address sets a timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections there can be. Only the admin pages use more than one at the same time.
const MOST_CONNECTIONS: usize = 4;

/// How long an idle connection is used without a test.
const TRUSTED_FOR: Duration = Duration::from_secs(2);

/// A small pool. Its connections are opened when they are needed.
pub(crate) struct FewConnections {
    target: Target,
    idle: Arc<Idle>,
    slots: Arc<Semaphore>,
}

/// The connections that nobody uses, each with the time when it was last used. The last one was used most recently.
type Idle = Mutex<Vec<(AsyncPgConnection, Instant)>>;

/// A connection in use. Returns to the pool when it is dropped, unless it is broken.
struct Used {
    /// `None` only while this is dropped.
    connection: Option<AsyncPgConnection>,
    idle: Arc<Idle>,
    _slot: OwnedSemaphorePermit,
}

impl FewConnections {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, idle: Arc::default(), slots: Arc::new(Semaphore::new(MOST_CONNECTIONS)) }
    }

    async fn connect(&self) -> Result<AsyncPgConnection, PoolError> {
        self.target
            .connect()
            .await
            .map_err(|reason| format!("could not connect to {}: {reason}", self.target.without_password()).into())
    }

    fn take_idle(&self) -> Option<(AsyncPgConnection, Instant)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl AsyncPool for FewConnections {
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
        Box::pin(async move {
            let slot = self.slots.clone().acquire_owned().await?;
            let mut kept = None;
            while let Some((mut connection, last_used)) = self.take_idle() {
                if last_used.elapsed() <= TRUSTED_FOR || connection.batch_execute("SELECT 1").await.is_ok() {
                    kept = Some(connection);
                    break;
                }
            }
            let connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let used = Used { connection: Some(connection), idle: self.idle.clone(), _slot: slot };
            Ok(PooledConnection::new(used))
        })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        Box::pin(self.connect())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if !AnsiTransactionManager::is_broken_transaction_manager(&mut connection) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
    }
}

const TAKEN: &str = "the connection is taken only when it is dropped";

impl Deref for Used {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("{TAKEN}"),
        }
    }
}

impl DerefMut for Used {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("{TAKEN}"),
        }
    }
}

impl Target {
    /// Opens a connection, encrypted as the settings say. Returns the reason if that fails.
    async fn connect(&self) -> Result<AsyncPgConnection, String> {
        let text = |error: PoolError| chain(error.as_ref()).join(": ");
        let mut config = self.config.clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("procrastinate");
        }
        if config.get_hosts().is_empty() {
            // The address is then also the name that the certificate must contain.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string().as_str());
            }
        }
        let attempts = if is_local(&config) { &[SslMode::Disable] } else { self.tls.attempts() };
        let mut reasons: Vec<String> = Vec::new();
        for (number, mode) in (1..).zip(attempts) {
            config.ssl_mode(*mode);
            match connect(&config, &self.tls).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let is_last = number == attempts.len();
                    let may_differ = error.downcast_ref().is_some_and(tls::is_about_encryption);
                    let reason = self.tls.explain(error.as_ref());
                    let reason = [Some(text(error)), reason].into_iter().flatten().collect::<Vec<_>>().join(": ");
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                    if is_last || !may_differ {
                        break;
                    }
                }
            }
        }
        Err(reasons.join("; then "))
    }
}

/// Whether all connections are to sockets of this machine, which are never encrypted.
fn is_local(config: &Config) -> bool {
    let is_socket = |host: &Host| !matches!(host, Host::Tcp(_));
    !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_socket)
}

async fn connect(config: &Config, tls: &Tls) -> Result<AsyncPgConnection, PoolError> {
    // Diesel's own function does not return the reason of a failure.
    if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await?;
        return Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?);
    }
    let (client, connection) = config.connect(tls.connector()?).await?;
    Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
}

#[cfg(test)]
mod tests {
    use super::{Config, is_local};

    #[test]
    fn only_sockets_are_never_encrypted() {
        let is_local = |address: &str| is_local(&address.parse::<Config>().unwrap());
        assert!(is_local("host=/run/postgresql sslmode=require"));
        for remote in ["host=localhost", "host=/run/postgresql,db", "hostaddr=127.0.0.1"] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
