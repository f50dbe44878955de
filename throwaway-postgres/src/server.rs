//! The server: a private cluster, or the server that `DATABASE_URL` names.

use std::env;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::binaries::Places;
use crate::client::{self, Failure};
use crate::cluster::Cluster;
use crate::directory::random_hex;
use crate::url::with_account;
use crate::{Database, Error, Options};

/// A PostgreSQL server: the one that `DATABASE_URL` names, or else a private cluster.
///
/// A private cluster stops when the `Server` and the last [`Database`] on it have been dropped. It also stops when the
/// process ends for any reason, even if the server is in a static or the process is killed.
///
/// ```no_run
/// use throwaway_postgres::Server;
///
/// let server = Server::start()?;
/// let database = server.create_database("example")?;
/// assert!(database.name().starts_with("procrastinate_example_"));
/// # Ok::<(), throwaway_postgres::Error>(())
/// ```
pub struct Server {
    shared: Arc<Shared>,
}

/// The parts that the server and its databases share.
pub(crate) struct Shared {
    pub(crate) url: String,
    /// The role that owns the databases, on a private cluster.
    pub(crate) owner: Option<Owner>,
    /// How to copy a template, for `CREATE DATABASE`.
    pub(crate) strategy: &'static str,
    cluster: Option<Cluster>,
}

/// A role that is no superuser, as a managed PostgreSQL gives it to an application.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) name: &'static str,
    password: String,
}

impl Owner {
    fn create(url: &str) -> Result<Owner, Error> {
        let owner = Owner { name: "application", password: random_hex::<16>()? };
        let statement = format!("CREATE ROLE {} LOGIN PASSWORD '{}'", owner.name, owner.password);
        client::ask(url, &statement)
            .map_err(|failure| Error::new(format!("could not create the role of the databases: {failure}")))?;
        Ok(owner)
    }

    /// Returns the connection URL with this role.
    pub(crate) fn with_role(&self, url: &str) -> String {
        with_account(url, self.name, &self.password)
    }
}

/// How [`Server::restart`] shuts the server down.
///
/// ```no_run
/// # let server = throwaway_postgres::Server::start()?;
/// server.restart(throwaway_postgres::Restart::Fast)?;
/// # Ok::<(), throwaway_postgres::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Aborts the transactions and writes everything to disk.
    Fast,
    /// Ends all processes, as a crash would. The server recovers when it starts again.
    Immediate,
}

impl Restart {
    /// Returns the name of the signal that shuts the server down in this way.
    pub(crate) fn signal(self) -> &'static str {
        match self {
            Restart::Fast => "INT",
            Restart::Immediate => "QUIT",
        }
    }
}

impl Server {
    /// Uses the server that `DATABASE_URL` names, or else starts a private cluster with the default [`Options`].
    ///
    /// Blocks for about half a second. You can call it inside and outside of a tokio runtime.
    ///
    /// # Errors
    ///
    /// If there is no server, if it does not start, or if the named server does not respond. The [`Error`] says why and
    /// what to do.
    ///
    /// ```no_run
    /// use throwaway_postgres::Server;
    ///
    /// let server = Server::start()?;
    /// println!("psql {}", server.url());
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn start() -> Result<Server, Error> {
        Server::start_with(&Options::default())
    }

    /// Does the same as [`start`](Server::start), with [`Options`].
    ///
    /// # Errors
    ///
    /// The same as [`start`](Server::start). A setting that PostgreSQL rejects is also an error.
    ///
    /// ```no_run
    /// use throwaway_postgres::{Options, Server};
    ///
    /// let server = Server::start_with(&Options::new().durable(true).ignore_database_url(true))?;
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn start_with(options: &Options) -> Result<Server, Error> {
        let shared = match database_url()? {
            Some(url) if !options.ignores_database_url() => {
                // Check the connection now, because the message can name the source of the address.
                client::ask(&url, "SELECT 1").map_err(|failure| named_server_failed(&failure))?;
                Shared { url, owner: None, strategy: "", cluster: None }
            }
            _ => {
                let cluster = Cluster::start(&Places::of_this_machine().find()?, options, None)?;
                let url = cluster.url();
                // Since version 15, a template is by default copied through the write-ahead log. That takes three times
                // as long.
                let strategy = if major_version(&url)? < 15 { "" } else { "STRATEGY FILE_COPY" };
                Shared { owner: Some(Owner::create(&url)?), url, strategy, cluster: Some(cluster) }
            }
        };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// Starts a streaming standby of a private cluster, in a directory of its own. It has the same roles, passwords and
    /// databases, and outlives its primary. `SELECT pg_promote()` makes it a primary. A standby that should be durable
    /// needs that option again, and so do settings.
    ///
    /// # Errors
    ///
    /// If the server is the one that `DATABASE_URL` names, if the program `pg_basebackup` is missing where the server's
    /// programs are, or if the standby does not start.
    ///
    /// ```no_run
    /// use throwaway_postgres::{Options, Server};
    ///
    /// let primary = Server::start_with(&Options::new().ignore_database_url(true))?;
    /// let standby = primary.start_standby(&Options::new())?;
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn start_standby(&self, options: &Options) -> Result<Server, Error> {
        let Some(primary) = &self.shared.cluster else {
            return Err(Error::new(
                "could not start a standby of the server in DATABASE_URL: it must be a private one",
            ));
        };
        let cluster = Cluster::start(&Places::of_this_machine().find()?, options, Some(primary))?;
        let shared = Shared {
            url: cluster.url(),
            owner: self.shared.owner.clone(),
            strategy: self.shared.strategy,
            cluster: Some(cluster),
        };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// Returns one server for the whole process. The first call starts it, and concurrent calls wait for it.
    ///
    /// # Errors
    ///
    /// The same as [`start`](Server::start). It is tried only once, and all calls get its error.
    ///
    /// ```no_run
    /// use throwaway_postgres::Server;
    ///
    /// assert_eq!(Server::shared()?.url(), Server::shared()?.url());
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn shared() -> Result<&'static Server, Error> {
        static SERVER: OnceLock<Result<Server, Error>> = OnceLock::new();
        SERVER.get_or_init(Server::start).as_ref().map_err(Error::clone)
    }

    /// Returns the connection URL of the maintenance database. On a private cluster that is `postgres`, as superuser
    /// with a password. Otherwise it is `DATABASE_URL`.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// assert!(server.url().starts_with("postgres://"));
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Returns the server's major version, for example 17.
    ///
    /// # Errors
    ///
    /// If the server does not respond.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// assert!(server.major_version()? >= 13);
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn major_version(&self) -> Result<u32, Error> {
        major_version(self.url())
    }

    /// Restarts a private cluster, and waits until it is ready. The address stays the same. A server that has ended on
    /// its own is started again.
    ///
    /// # Errors
    ///
    /// If the server does not become ready within a minute, or if it is the one that `DATABASE_URL` names.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// server.restart(throwaway_postgres::Restart::Immediate)?;
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn restart(&self, mode: Restart) -> Result<(), Error> {
        match &self.shared.cluster {
            Some(cluster) => cluster.restart(mode),
            None => {
                Err(Error::new("could not restart the server in DATABASE_URL: only a private one can be restarted"))
            }
        }
    }

    /// Creates an empty database named `procrastinate_<prefix>_<unique>`, in UTF-8 and with the locale C.
    ///
    /// On a private cluster it belongs to a role that is no superuser, as which [`Database::url`] connects.
    ///
    /// A long prefix is truncated, because PostgreSQL limits names to 63 bytes.
    ///
    /// # Errors
    ///
    /// If the server does not respond, or if the role cannot create databases. The message says what to grant.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// let database = server.create_database("orders")?;
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn create_database(&self, name_prefix: &str) -> Result<Database, Error> {
        Database::create(&self.shared, name_prefix, None)
    }

    /// Creates a database as a copy of another one on the same server. A copy takes a few milliseconds, so each test
    /// can have its own database that was migrated once.
    ///
    /// Several threads can copy one template at the same time. No session may be connected to the template. This waits
    /// up to 30 seconds for sessions to end.
    ///
    /// # Errors
    ///
    /// The same as [`create_database`](Server::create_database), or if a session stays connected to the template.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// let template = server.create_database("template")?;
    /// // Migrate it, close the connection, and then:
    /// let first = server.create_database_from(&template, "first_test")?;
    /// let second = server.create_database_from(&template, "second_test")?;
    /// assert_ne!(first.url(), second.url());
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn create_database_from(&self, template: &Database, name_prefix: &str) -> Result<Database, Error> {
        Database::create(&self.shared, name_prefix, Some(template))
    }
}

impl fmt::Debug for Server {
    /// Omits the URL, because it contains a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("cluster", &self.shared.cluster).finish_non_exhaustive()
    }
}

fn database_url() -> Result<Option<String>, Error> {
    match env::var("DATABASE_URL") {
        Ok(url) => Ok(Some(url).filter(|url| !url.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Error::new("DATABASE_URL is not valid UTF-8")),
    }
}

fn major_version(url: &str) -> Result<u32, Error> {
    let failed = |reason: &dyn fmt::Display| Error::new(format!("could not read the server's version: {reason}"));
    let version = client::ask(url, "SHOW server_version_num").map_err(|failure| failed(&failure))?;
    // The last four digits count the minor versions.
    let number = version.and_then(|number| number.parse::<u32>().ok());
    number.map(|number| number / 10_000).ok_or_else(|| failed(&"the version is not a number"))
}

fn named_server_failed(failure: &Failure) -> Error {
    Error::new(format!(
        "could not use the server in DATABASE_URL: {failure}. \
         Correct DATABASE_URL, or unset it to start a private server"
    ))
}
