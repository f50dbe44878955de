//! The database connection of the stand-alone program, and its address.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use crate::cli::terminal::environment::text;
use crate::cli::terminal::failure::{Failure, chain};
use crate::database::connection::pool::{AsyncPool, PoolError};
use crate::database::connection::pooled::PooledConnection;

/// The address of the database.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct Address {
    /// The database: postgres://user:password@host:port/database [env: DATABASE_URL; or PGHOST, PGPORT, PGUSER,
    /// PGPASSWORD, PGDATABASE]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
}

impl Address {
    /// Returns the address from the flag, from `DATABASE_URL`, or from PostgreSQL's own variables.
    pub(crate) fn find(&self) -> Result<String, Failure> {
        let address = match &self.database_url {
            Some(url) => Some(url.clone()),
            None => text("DATABASE_URL")?,
        };
        let address = match address {
            Some(address) => Some(address),
            None => of_postgresql_variables()?,
        };
        let address = address.ok_or_else(|| {
            Failure::usage(
                "no database is set; use --database-url postgres://user:password@host/database, or set DATABASE_URL, \
                 or PGHOST, PGDATABASE and PGUSER",
            )
        })?;
        match address.parse::<Config>() {
            Ok(_) => Ok(address),
            Err(error) => {
                let (shown, reason) = (without_password(&address), chain(&error).join(": "));
                let rule = "must be postgres://user:password@host:port/database, or come from PGHOST, PGPORT and so on";
                Err(Failure::usage(format!("invalid database address {shown:?}: {rule} ({reason})")))
            }
        }
    }
}

/// Builds an address from the variables that libpq reads.
fn of_postgresql_variables() -> Result<Option<String>, Failure> {
    const VARIABLES: [(&str, &str); 9] = [
        ("PGHOST", "host"),
        ("PGPORT", "port"),
        ("PGUSER", "user"),
        ("PGPASSWORD", "password"),
        ("PGDATABASE", "dbname"),
        ("PGOPTIONS", "options"),
        ("PGAPPNAME", "application_name"),
        ("PGCONNECT_TIMEOUT", "connect_timeout"),
        ("PGSSLMODE", "sslmode"),
    ];
    if text("PGHOST")?.is_none() && text("PGDATABASE")?.is_none() && text("PGUSER")?.is_none() {
        return Ok(None);
    }
    let mut address = String::new();
    for (variable, key) in VARIABLES {
        let value = match (text(variable)?, variable) {
            (Some(value), _) => value,
            (None, "PGHOST") => "localhost".to_owned(),
            (None, "PGUSER") => text("USER")?.unwrap_or_else(|| "postgres".to_owned()),
            (None, _) => continue,
        };
        let _ = write!(address, "{key}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'"));
    }
    Ok(Some(address))
}

/// Returns the address without its password, for messages.
pub(crate) fn without_password(address: &str) -> String {
    if let Some((scheme, rest)) = address.split_once("://") {
        let (server, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let server = match server.rsplit_once('@') {
            Some((user, server)) => format!("{}@{server}", user.split(':').next().unwrap_or_default()),
            None => server.to_owned(),
        };
        let parameters = parameters.split('&').filter(|one| !one.is_empty() && !one.starts_with("password"));
        let parameters = parameters.collect::<Vec<_>>().join("&");
        let mark = if parameters.is_empty() { "" } else { "?" };
        return format!("{scheme}://{server}{mark}{parameters}");
    }
    match address.parse::<Config>() {
        // A password can contain spaces and quotation marks, so the address is rebuilt without it.
        Ok(config) => of_config(&config),
        Err(_) if address.contains("password") || address.contains('@') => "…".to_owned(),
        Err(_) => address.to_owned(),
    }
}

/// Formats the server, the user and the database.
fn of_config(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let ports = config.get_ports().iter().map(u16::to_string);
    let parts = [
        ("host", hosts.collect::<Vec<_>>().join(",")),
        ("port", ports.collect::<Vec<_>>().join(",")),
        ("user", config.get_user().unwrap_or_default().to_owned()),
        ("dbname", config.get_dbname().unwrap_or_default().to_owned()),
    ];
    let parts = parts.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}='{value}'"));
    parts.collect::<Vec<_>>().join(" ")
}

/// A pool of one connection, which is opened when it is first needed.
pub(crate) struct OneConnection {
    address: String,
    kept: Arc<Mutex<Option<AsyncPgConnection>>>,
    last_used: std::sync::Mutex<Instant>,
}

/// How long to try to connect, unless the address sets a timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is used without a test.
const TRUSTED_FOR: Duration = Duration::from_secs(2);

impl OneConnection {
    pub(crate) fn new(address: String) -> Self {
        Self { address, kept: Arc::default(), last_used: std::sync::Mutex::new(Instant::now()) }
    }

    async fn connect(&self) -> Result<AsyncPgConnection, PoolError> {
        let connected = async {
            let mut config: Config = self.address.parse()?;
            if config.get_connect_timeout().is_none() {
                config.connect_timeout(CONNECT_TIMEOUT);
            }
            if config.get_application_name().is_none() {
                config.application_name("procrastinate");
            }
            // Diesel's own function does not return the reason of a failure.
            let (client, connection) = config.connect(NoTls).await?;
            Ok::<_, PoolError>(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
        };
        connected.await.map_err(|source| {
            let hint = if self.address.contains("sslmode") {
                "; TLS is not supported: remove sslmode, and use a tunnel if your server requires TLS"
            } else {
                ""
            };
            let reason = chain(source.as_ref()).join(": ");
            format!("could not connect to {}: {reason}{hint}", without_password(&self.address)).into()
        })
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

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(without_password("postgres://ada:s3cr:t@host/shop"), "postgres://ada@host/shop");
        assert_eq!(without_password("postgres://host/shop"), "postgres://host/shop");
        assert_eq!(without_password("postgres://h/shop?user=ada&password=s3cret"), "postgres://h/shop?user=ada");
        assert_eq!(without_password("host='h' password='s3cret' dbname='shop'"), "host='h' dbname='shop'");
        assert_eq!(without_password("host='h' password = 's3 cr\\' et' port=5"), "host='h' port='5'");
        for wrong in ["postgres:ada:s3cret@host", "host=h port=x password=s3cret"] {
            assert!(!without_password(wrong).contains("s3cret"), "{wrong}");
        }
    }
}
