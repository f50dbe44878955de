//! The database connection of the stand-alone program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};

use crate::cli::program::address::Target;
use crate::cli::program::tls::{self, Tls};
use crate::cli::terminal::failure::chain;
use crate::database::connection::pool::{AsyncPool, BoxFuture, PoolError};
use crate::database::connection::pooled::PooledConnection;

/// How long to try to connect, unless the address sets a timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A pool of one connection, which is opened when it is first needed.
pub(crate) struct OneConnection {
    target: Target,
    kept: Arc<Mutex<Option<AsyncPgConnection>>>,
    last_used: std::sync::Mutex<Instant>,
}

/// How long an idle connection is used without a test.
const TRUSTED_FOR: Duration = Duration::from_secs(2);

impl OneConnection {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, kept: Arc::default(), last_used: std::sync::Mutex::new(Instant::now()) }
    }

    async fn connect(&self) -> Result<AsyncPgConnection, PoolError> {
        self.target
            .connect()
            .await
            .map_err(|reason| format!("could not connect to {}: {reason}", self.target.without_password()).into())
    }

    /// Whether the kept connection was idle for so long that it must be tested. Records that it is used now.
    fn was_idle(&self) -> bool {
        let mut last_used = self.last_used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *last_used, Instant::now()).elapsed() > TRUSTED_FOR
    }
}

impl AsyncPool for OneConnection {
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
        Box::pin(async move {
            let mut kept = self.kept.clone().lock_owned().await;
            if self.was_idle()
                && let Some(connection) = kept.as_mut()
                && connection.batch_execute("SELECT 1").await.is_err()
            {
                *kept = None;
            }
            if kept.is_none() {
                *kept = Some(self.connect().await?);
            }
            match OwnedMutexGuard::try_map(kept, Option::as_mut) {
                Ok(connection) => Ok(PooledConnection::new(connection)),
                Err(_) => Err("the connection is gone".into()),
            }
        })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        Box::pin(self.connect())
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
