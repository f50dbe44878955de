//! The database connection of the stand-alone program, and its address.

use std::error::Error as _;
use std::fmt::{self, Write as _};
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
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct Address {
    /// The database: postgres://user:password@host:port/database [env: DATABASE_URL; or PGHOST, PGPORT, PGUSER,
    /// PGPASSWORD, PGDATABASE]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
}

impl fmt::Debug for Address {
    /// Omits the address, because it contains a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
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
            // The address is not shown: what is not understood may be a part of the password.
            Err(error) => {
                let rule = "must be postgres://user:password@host:port/database, or come from PGHOST, PGPORT and so on";
                let hint = "write special characters of the password as %XX";
                let reason = reason_without_secrets(&address, &error);
                Err(Failure::usage(format!("invalid database address{reason}: {rule}; {hint}")))
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

/// Returns the reason for which an address is invalid, in brackets. A reason that quotes a part of the address is only
/// returned if the part cannot be mistaken for one of a password.
fn reason_without_secrets(address: &str, error: &tokio_postgres::Error) -> String {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    let parameters = address.split_once('?').map_or("", |(_, parameters)| parameters);
    let is_option = |option: &str| {
        !parameters.contains('@') && option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let is_shown = match reason.strip_prefix("unknown option `") {
        Some(option) => is_option(option.trim_end_matches('`')),
        None => reason.starts_with("invalid value for option ") || reason == "unexpected EOF",
    };
    if is_shown { format!(" ({reason})") } else { String::new() }
}

/// Formats the server, the user and the database of an address, for messages.
///
/// A password with special characters can be mistaken for another part. So a part with such characters is omitted.
fn without_password(address: &str) -> String {
    let Ok(config) = address.parse::<Config>() else { return "the database".to_owned() };
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let host = hosts.filter(|host| !host.contains(['@', '?', '#', '&'])).collect::<Vec<_>>().join(",");
    let port = config.get_ports().iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let shown = |part: Option<&str>| {
        part.filter(|part| !part.contains(['@', ':', '/', '?', '#', '&'])).unwrap_or_default().to_owned()
    };
    let (user, dbname) = (shown(config.get_user()), shown(config.get_dbname()));
    let part = |before: &str, value: &str, after: &str| {
        if value.is_empty() { String::new() } else { format!("{before}{value}{after}") }
    };
    match address.split_once("://") {
        Some((scheme, _)) if !host.starts_with('/') => {
            format!("{scheme}://{}{host}{}{}", part("", &user, "@"), part(":", &port, ""), part("/", &dbname, ""))
        }
        _ => {
            let parts = [("host='", host), ("port='", port), ("user='", user), ("dbname='", dbname)];
            let parts: Vec<_> = parts.iter().map(|(key, value)| part(key, value, "'")).collect();
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
    }
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
    use super::{Address, Failure, without_password};

    #[test]
    fn a_password_is_never_shown() {
        for (address, expected) in [
            ("postgres://ada:s3cr%3Aet@host/shop", "postgres://ada@host:5432/shop"),
            ("postgres://host/shop", "postgres://host:5432/shop"),
            ("postgres://h:5/shop?user=ada&password=s3cret", "postgres://ada@h:5/shop"),
            ("host='h' password='s3cret' dbname='shop'", "host='h' dbname='shop'"),
            ("host='h' password = 's3 cr\\' et' port=5", "host='h' port='5'"),
            ("postgres://ada:5432/s3cret@host/shop", "postgres://ada@host:5432/shop"),
        ] {
            assert_eq!(without_password(address), expected);
        }
    }

    #[test]
    fn an_invalid_address_is_refused_without_its_parts() {
        for wrong in [
            "postgres:ada:s3cret@host",
            "host=h port=x password=s3cret",
            "postgres://ada:x?s3cret@host/shop",
            "postgres://ada:s3cret#x@host:port/shop",
            "postgres://ada:x/s3cret@host/shop",
            "postgres://ada:x@s3cret@host/shop",
            "s3cret",
        ] {
            let address = Address { database_url: Some(wrong.to_owned()) };
            assert!(!format!("{address:?}").contains("s3cret"));
            let found = address.find();
            let message = found.as_ref().err().and_then(Failure::message).unwrap_or_else(|| without_password(wrong));
            assert!(!message.contains("s3cret"), "{message}");
        }
        let address = Address { database_url: Some("postgres://ada@host:x/shop".to_owned()) };
        let message = address.find().err().and_then(|failure| failure.message());
        assert!(message.is_some_and(|message| message.contains("(invalid value for option `port`)")));
    }
}
