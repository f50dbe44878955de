//! The error type.

use std::fmt;
use std::io;

/// The reason why there is no server or no database, in one message for the person who started the program.
///
/// `Debug` prints the same text as `Display`, because a `main` that returns the error and a test that unwraps it print
/// it with `Debug`.
///
/// ```
/// fn explain(error: &throwaway_postgres::Error) {
///     assert_eq!(format!("{error}"), format!("{error:?}"));
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    NoServer,
    PortTaken,
    Other,
}

impl Error {
    /// Whether no PostgreSQL server was found: none is installed, and `DATABASE_URL` is not set. The message lists
    /// three solutions.
    ///
    /// ```no_run
    /// use throwaway_postgres::Server;
    ///
    /// if let Err(error) = Server::start() {
    ///     assert!(error.is_no_server(), "something else is wrong: {error}");
    /// }
    /// ```
    pub fn is_no_server(&self) -> bool {
        self.kind == Kind::NoServer
    }

    pub(crate) fn new(message: impl Into<String>) -> Error {
        Error { kind: Kind::Other, message: message.into() }
    }

    pub(crate) fn io(doing: impl fmt::Display, error: &io::Error) -> Error {
        Error::new(format!("could not {doing}: {error}"))
    }

    pub(crate) fn no_server() -> Error {
        Error { kind: Kind::NoServer, message: NO_SERVER.to_owned() }
    }

    pub(crate) fn port_taken(message: String) -> Error {
        Error { kind: Kind::PortTaken, message }
    }

    pub(crate) fn is_port_taken(&self) -> bool {
        self.kind == Kind::PortTaken
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

// `scripts/setup` prints the same three solutions; change them together.
const NO_SERVER: &str = "\
could not find a PostgreSQL server: DATABASE_URL is not set, and the programs `initdb` and `postgres` are neither \
on PATH nor in one of the usual directories. Three solutions:
  1. Install the server, on Debian or Ubuntu with:
         apt-get install postgresql
  2. Run one in a container:
         docker run --detach --rm --publish 5432:5432 --env POSTGRES_PASSWORD=secret postgres:17
         export DATABASE_URL=postgres://postgres:secret@localhost:5432/postgres
  3. Use an existing server, with a role that can create databases:
         export DATABASE_URL=postgres://user:password@host:5432/database
If the programs are somewhere else, set POSTGRES_BIN to the directory that contains them.";
