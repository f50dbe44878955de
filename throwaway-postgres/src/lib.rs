//! Private PostgreSQL servers for examples, tests and benchmarks. `cargo run` and `cargo test` need only the server's
//! programs on the machine.
//!
//! ```no_run
//! use throwaway_postgres::Server;
//!
//! let server = Server::shared()?;
//! let database = server.create_database("my_test")?;
//! // Connect to `database.url()` with Diesel or another client.
//! # Ok::<(), throwaway_postgres::Error>(())
//! ```
//!
//! # Choice of the server
//!
//! 1. The server that `DATABASE_URL` names. Only databases named `procrastinate_...` are created and dropped on it.
//! 2. A private cluster, with the programs `initdb` and `postgres` in the directory `POSTGRES_BIN`. Use it to choose a
//!    major version. It is an error if they are missing.
//! 3. A private cluster, with the programs on `PATH`, or else the newest ones in the usual directories of packages.
//! 4. Otherwise an error, whose message lists three solutions.
//!
//! # Private clusters
//!
//! A private cluster starts in about half a second, in a directory under `POSTGRES_DIRECTORY` or else
//! [`std::env::temp_dir`] that only its owner can read. It listens on a free port of 127.0.0.1 and requires a random
//! password. Commits are not durable, except with [`Options::durable`]. Its time zone is unusual, to reveal code that
//! assumes UTC.
//!
//! Set `POSTGRES_DIRECTORY=/dev/shm` to keep clusters in memory. A database has hundreds of files, and most file
//! systems are slow to create them. With a database for each test, the tests may take half as long. The variable has
//! no effect on durable clusters.
//!
//! It stops with its [`Server`], or with the process, even if the process is killed. A small shell script waits for the
//! end of a pipe that the process holds. Then it stops the server and removes the directory. PostgreSQL refuses to run
//! as root, so for root the server runs as the user `postgres` or `nobody`.
//!
//! All functions block. You can call them inside and outside of a tokio runtime. Only Unix is supported.

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
pub use crate::server::{Restart, Server};
