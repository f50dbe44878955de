//! What can go wrong, as one type with one clear message.

use std::fmt;
use std::io;

/// Says why there is no server, or no database, in one message meant for the person who started the program.
///
/// `Debug` prints the same text as `Display`: a `main` which returns the error, or a test which unwraps it, prints it
/// with `Debug`, and that is the moment when a readable message matters.
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
    /// Whether there is simply no PostgreSQL: none is installed, and `DATABASE_URL` names none. The message then
    /// lists three ways out.
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

// `scripts/setup` prints the same three ways; change them together.
const NO_SERVER: &str = "\
there is no PostgreSQL server to use: DATABASE_URL is not set, and the programs `initdb` and `postgres` are neither \
on PATH nor in one of the usual directories. Three ways out:
  1. Install the server, on Debian or Ubuntu with:
         apt-get install postgresql
  2. Run one in a container, and name it:
         docker run --detach --rm --publish 5432:5432 --env POSTGRES_PASSWORD=secret postgres:17
         export DATABASE_URL=postgres://postgres:secret@localhost:5432/postgres
  3. Name a server that you have, with a role which may create databases:
         export DATABASE_URL=postgres://user:password@host:5432/database
If the programs are somewhere else, set POSTGRES_BIN to the directory which holds them.";
