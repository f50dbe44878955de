//! A private PostgreSQL for examples, tests and benchmarks: `cargo run` and `cargo test` need nothing but the server's
//! programs on the machine.
//!
//! ```no_run
//! use throwaway_postgres::Server;
//!
//! let server = Server::shared()?;
//! let database = server.create_database("my_test")?;
//! // Connect to `database.url()` with Diesel or whatever you like.
//! # Ok::<(), throwaway_postgres::Error>(())
//! ```
//!
//! # Which server
//!
//! 1. The one `DATABASE_URL` names. Nothing there is touched but databases of our own, named `procrastinate_...`.
//! 2. A cluster of our own, made of the programs `initdb` and `postgres` in the directory `POSTGRES_BIN` names. That is
//!    how to choose among several major versions. If they are not there, that is an error.
//! 3. The same, with the programs on `PATH`, or else the newest in the usual directories of packages.
//! 4. Otherwise an error, whose message lists three ways out.
//!
//! # A cluster of our own
//!
//! It is started in about half a second, in a directory under [`std::env::temp_dir`] which only its owner can read. It
//! listens on a free port of 127.0.0.1 and wants a random password. A write is not on disk when it is answered, except
//! with [`Options::durable`]. Its time zone is an unusual one, so that code which assumes UTC is found out. On a slow
//! disk, `TMPDIR=/dev/shm` keeps it in memory.
//!
//! It ends with its [`Server`], or with the process, even if that is killed: a small shell waits for the end of a
//! pipe which the process holds, then stops the server and removes the directory. PostgreSQL refuses to run as root,
//! so for root it runs as the user `postgres` or `nobody`.
//!
//! Everything here blocks, and may be called inside of a tokio runtime as well as outside. Only Unix is supported.

mod account;
mod binaries;
mod client;
mod cluster;
mod database;
mod directory;
mod error;
mod options;
mod server;
mod url;

pub use crate::database::Database;
pub use crate::error::Error;
pub use crate::options::Options;
pub use crate::server::Server;
