//! The command line: the commands of Python's `procrastinate`, and more.
//!
//! | use | for |
//! |---|---|
//! | [`Commands`] | a program that has a command line of its own made with clap |
//! | [`main`] | a program that only runs workers |
//! | [`main_from`] | the same, with other arguments than those of the process |
//! | [`stand_alone`] | a program without tasks, such as `procrastinate`: `cargo install procrastinate --features cli` |
//!
//! The commands run workers, list and change jobs, set up the database and check it. The guide lists all commands,
//! flags and environment variables: [`command_line`](crate::guide::command_line). They have Procrastinate's names.
//!
//! # Example
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use procrastinate::{App, DieselConnector, Error, cli, task};
//!
//! #[task(queue = "mails")]
//! async fn welcome(customer: i64) {
//!     println!("Welcome, customer {customer}!");
//! }
//!
//! # fn connector() -> DieselConnector { unimplemented!() }
//! async fn build() -> Result<App, Error> {
//!     App::builder(connector()).task::<welcome>().build()
//! }
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     // For example: `shop-worker worker --queues mails`, `shop-worker healthchecks`
//!     cli::main(build).await
//! }
//! ```
//!
//! # Output and exit status
//!
//! Results go to standard output, everything else to standard error. The exit status is 0 for success, 1 for a failure,
//! and 2 for invalid usage.

mod commands;
mod program;
mod shell;
mod terminal;

pub use program::mounted::Commands;
pub use program::stand_alone::stand_alone;
pub use program::{main, main_from};
