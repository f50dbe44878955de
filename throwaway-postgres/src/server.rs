//! The server: a cluster of our own or the one `DATABASE_URL` names.

use std::env;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::binaries::Places;
use crate::client::{self, Failure};
use crate::cluster::Cluster;
use crate::{Database, Error, Options};

/// A PostgreSQL server: the one `DATABASE_URL` names, or else a cluster of our own.
///
/// A cluster of our own ends when the `Server` and the last [`Database`] on it have been dropped, and also when the
/// process ends, in whatever way: it may exit with a server in a static, or be killed.
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

/// What the server and its databases need for as long as one of them is there.
pub(crate) struct Shared {
    pub(crate) url: String,
    cluster: Option<Cluster>,
}

impl Server {
    /// The server `DATABASE_URL` names if that variable is set, else a new cluster with the default [`Options`].
    ///
    /// Blocks for about half a second. It may be called inside of a tokio runtime and outside.
    ///
    /// # Errors
    ///
    /// There is no server, or it does not start, or the one named does not answer. The [`Error`] says which, and what
    /// to do about it.
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

    /// Like [`start`](Server::start), with [`Options`].
    ///
    /// # Errors
    ///
    /// As for [`start`](Server::start); a setting which PostgreSQL does not accept is one of the reasons why a cluster
    /// does not start.
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
                // Better now, where the message can say where the address comes from, than at the first database.
                client::ask(&url, "SELECT 1").map_err(|failure| named_server_failed(&failure))?;
                Shared { url, cluster: None }
            }
            _ => {
                let (cluster, url) = Cluster::start(&Places::of_this_machine().find()?, options)?;
                Shared { url, cluster: Some(cluster) }
            }
        };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// One server for the whole process, started by whoever asks first; others who ask meanwhile wait for it.
    ///
    /// # Errors
    ///
    /// As for [`start`](Server::start). There is only one attempt, and everybody gets its error.
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

    /// The connection URL of the maintenance database: `postgres` on a cluster of our own (as superuser, with a
    /// password), else `DATABASE_URL` itself.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// assert!(server.url().starts_with("postgres://"));
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The server's major version, for instance 17.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// assert!(server.major_version()? >= 13);
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn major_version(&self) -> Result<u32, Error> {
        let failed =
            |reason: &dyn fmt::Display| Error::new(format!("could not ask for the server's version: {reason}"));
        let answer = client::ask(self.url(), "SHOW server_version_num").map_err(|failure| failed(&failure))?;
        // The last four digits count the minor versions.
        let number = answer.and_then(|number| number.parse::<u32>().ok());
        number.map(|number| number / 10_000).ok_or_else(|| failed(&"the answer is no number"))
    }

    /// Creates an empty database named `procrastinate_<prefix>_<unique>`, in UTF-8 and with the locale C.
    ///
    /// A long prefix is cut so that the name keeps PostgreSQL's limit of 63 bytes.
    ///
    /// # Errors
    ///
    /// The server does not answer, or the role may not create databases; the message says what to grant.
    ///
    /// ```no_run
    /// # let server = throwaway_postgres::Server::start()?;
    /// let database = server.create_database("orders")?;
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn create_database(&self, name_prefix: &str) -> Result<Database, Error> {
        Database::create(&self.shared, name_prefix, None)
    }

    /// Creates a database as a copy of another one on the same server, which costs some milliseconds; so each test
    /// can have a database of its own, migrated once.
    ///
    /// Many threads may copy one template at once. Nobody may be connected to it, though: as long as somebody is, this
    /// waits, for at most half a minute.
    ///
    /// # Errors
    ///
    /// As for [`create_database`](Server::create_database); also if somebody stays connected to the template.
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
    /// Without the URL, since that holds a password.
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

fn named_server_failed(failure: &Failure) -> Error {
    Error::new(format!(
        "the server which DATABASE_URL names cannot be used: {failure}. \
         Correct DATABASE_URL, or unset it to let a PostgreSQL of our own be started"
    ))
}
