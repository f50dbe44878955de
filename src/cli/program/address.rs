//! The address of the database: where it comes from, and how it is shown.

use std::fmt::{self, Write as _};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::cli::program::parameters;
use crate::cli::program::tls::{self, Tls};
use crate::cli::terminal::environment::text;
use crate::cli::terminal::failure::Failure;
use crate::database::connection::address;

/// The address of the database.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct Address {
    /// The database: postgres://user:password@host:port/database [env: DATABASE_URL; or PGHOST, PGPORT, PGUSER,
    /// PGPASSWORD, PGDATABASE]. For TLS, add ?sslmode=verify-full&sslrootcert=FILE, or set PGSSLMODE and PGSSLROOTCERT
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
}

impl fmt::Debug for Address {
    /// Omits the address, because it contains a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

/// A database, and how to connect to it.
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    is_url: bool,
}

impl Address {
    /// Returns the database from the flag, from `DATABASE_URL`, or from PostgreSQL's own variables.
    pub(crate) fn find(&self) -> Result<Target, Failure> {
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
        let (address, parameters) = parameters::take(&address, &tls::PARAMETERS);
        match address::parse(&address) {
            Ok(config) => Ok(Target { config, tls: Tls::find(&parameters)?, is_url: address.contains("://") }),
            // The address is not shown: what is not understood may be a part of the password.
            Err(reason) => {
                let rule = "must be postgres://user:password@host:port/database, or come from PGHOST, PGPORT and so on";
                let hint = "write special characters of the password as %XX";
                Err(Failure::usage(format!("invalid database address{reason}: {rule}; {hint}")))
            }
        }
    }
}

/// Builds an address from the variables that libpq reads.
fn of_postgresql_variables() -> Result<Option<String>, Failure> {
    const VARIABLES: [(&str, &str); 8] = [
        ("PGHOST", "host"),
        ("PGPORT", "port"),
        ("PGUSER", "user"),
        ("PGPASSWORD", "password"),
        ("PGDATABASE", "dbname"),
        ("PGOPTIONS", "options"),
        ("PGAPPNAME", "application_name"),
        ("PGCONNECT_TIMEOUT", "connect_timeout"),
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

impl Target {
    /// Formats the server, the user and the database of an address, for messages.
    ///
    /// A password with special characters can be mistaken for another part. So a part with such characters is omitted.
    pub(crate) fn without_password(&self) -> String {
        let config = &self.config;
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
        match self.is_url && !host.starts_with('/') {
            true => {
                format!("postgres://{}{host}{}{}", part("", &user, "@"), part(":", &port, ""), part("/", &dbname, ""))
            }
            false => {
                let parts = [("host='", host), ("port='", port), ("user='", user), ("dbname='", dbname)];
                let parts: Vec<_> = parts.iter().map(|(key, value)| part(key, value, "'")).collect();
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Target};

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
            let address = Address { database_url: Some(address.to_owned()) };
            assert_eq!(address.find().unwrap().without_password(), expected);
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
            let message = match found {
                Ok(target) => Target::without_password(&target),
                Err(failure) => failure.message().unwrap(),
            };
            assert!(!message.contains("s3cret"), "{message}");
        }
        let address = Address { database_url: Some("postgres://ada@host:x/shop".to_owned()) };
        let message = address.find().err().and_then(|failure| failure.message());
        assert!(message.is_some_and(|message| message.contains("(invalid value for option `port`)")));
    }
}
