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

#[cfg(feature = "admin")]
mod admin;
mod app;
mod architecture;
mod bad_input;
mod cases;
#[cfg(feature = "cli")]
mod cli;
mod conformance;
mod contract;
mod database;
mod defer;
mod end_to_end;
mod job_manager;
#[cfg(feature = "metrics")]
mod metrics;
mod migrations;
mod periodic;
mod promises;
mod prose;
mod public_api;
mod python;
mod random_model;
mod readme;
mod security;
mod support;
#[cfg(all(feature = "bb8", feature = "testing"))]
mod testing;
mod worker;
