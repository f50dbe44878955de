//! The integration tests: one binary, one private PostgreSQL server, a database for each test.
#![allow(missing_docs, unreachable_pub, reason = "nothing here is a public surface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it skips"
)]

mod architecture;
#[cfg(feature = "cli")]
mod cli;
#[cfg(all(feature = "bb8", feature = "testing"))]
mod company;
mod conformance;
mod contract;
mod deferring;
mod growth;
mod job_manager;
mod large_table;
#[cfg(feature = "metrics")]
mod metrics;
mod migrations;
mod models;
mod naming;
mod newcomer;
mod peer;
mod periodic;
mod plans;
mod pooler;
#[cfg(all(feature = "bb8", feature = "deadpool"))]
mod pools;
mod prose;
mod random_model;
mod schemas;
mod story;
mod support;
#[cfg(all(feature = "bb8", feature = "testing"))]
mod testing;
mod worker;
#[cfg(feature = "writable-models")]
mod writable_models;
