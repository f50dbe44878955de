//! The command line: what Python's `procrastinate` and `manage.py procrastinate` do, and some more.
//!
//! | for | there is |
//! |---|---|
//! | a program that has a command line of its own | [`Commands`], to be mounted in it |
//! | a program that is a worker and nothing else | [`main`] |
//! | a database, without any program | the program `procrastinate`: `cargo install procrastinate --features cli` |
//!
//! Every flag and every environment variable of Procrastinate's is there, under its name: see
//! [`command_line`](crate::guide::command_line). Whatever is set by a flag wins over the environment, that over the application's
//! [`worker_defaults`](crate::AppBuilder::worker_defaults), and those over the defaults that the documentation says. An
//! environment variable that is empty counts as not set.
//!
//! What was asked for goes to standard output, everything else to standard error. The exit status is 0, or 1 when
//! something failed, or 2 when it was asked for in a way that cannot be understood.

mod commands;
mod program;
mod shell;
mod terminal;

pub use program::mounted::Commands;
pub use program::stand_alone::stand_alone;
pub use program::{main, main_from};
