//! The connection of the stand-alone program, and where its address comes from.

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

/// Where the database is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct Address {
    /// The database, as postgres://user:password@host:port/database [env: DATABASE_URL; or PGHOST, PGPORT, PGUSER,
    /// PGPASSWORD, PGDATABASE]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
}

impl Address {
    /// The flag, or `DATABASE_URL`, or what the variables of PostgreSQL's own programs say.
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
                "which database? Say --database-url postgres://user:password@host/database, or set DATABASE_URL, or \
                 PGHOST, PGDATABASE and PGUSER",
            )
        })?;
        match address.parse::<Config>() {
            Ok(_) => Ok(address),
            Err(error) => {
                let (shown, reason) = (without_password(&address), chain(&error).join(": "));
                let rule = "it is postgres://user:password@host:port/database, or what PGHOST, PGPORT and so on say";
                Err(Failure::usage(format!("invalid address of the database {shown:?}: {rule} ({reason})")))
            }
        }
    }
}

/// What the variables say that libpq reads, and so do Python's programs.
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

/// The address without its password, to be shown.
pub(crate) fn without_password(address: &str) -> String {
    if let Some((scheme, rest)) = address.split_once("://") {
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let place = match place.rsplit_once('@') {
            Some((user, place)) => format!("{}@{place}", user.split(':').next().unwrap_or_default()),
            None => place.to_owned(),
        };
        let parameters = parameters.split('&').filter(|one| !one.is_empty() && !one.starts_with("password"));
        let parameters = parameters.collect::<Vec<_>>().join("&");
        let mark = if parameters.is_empty() { "" } else { "?" };
        return format!("{scheme}://{place}{mark}{parameters}");
    }
    match address.parse::<Config>() {
        // A password may have spaces and quotation marks in it, so what is shown is made anew.
        Ok(config) => of_config(&config),
        Err(_) if address.contains("password") || address.contains('@') => "…".to_owned(),
        Err(_) => address.to_owned(),
    }
}

/// Where an address leads, and as whom.
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

/// A pool of one connection, which is made when it is first wanted.
pub(crate) struct OneConnection {
    address: String,
    kept: Arc<Mutex<Option<AsyncPgConnection>>>,
    last_used: std::sync::Mutex<Instant>,
}

/// How long to try to reach a server, unless the address says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may have been idle without being tried before it is used.
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
            // Not with Diesel's own function, which keeps the reason to itself.
            let (client, connection) = config.connect(NoTls).await?;
            Ok::<_, PoolError>(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
        };
        connected.await.map_err(|source| {
            let hint = if self.address.contains("sslmode") {
                "; this program speaks no TLS: leave sslmode out, and use a tunnel where the server wants it"
            } else {
                ""
            };
            let reason = chain(source.as_ref()).join(": ");
            format!("cannot connect to {}: {reason}{hint}", without_password(&self.address)).into()
        })
    }

    /// Whether the connection that is kept was idle for so long that it should be tried. It counts as used now.
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
