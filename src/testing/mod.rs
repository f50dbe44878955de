//! Tools to test an application that defers jobs, with or without a database. Requires the feature `testing`, which you
//! enable in your `dev-dependencies`.
//!
//! | need | use |
//! |---|---|
//! | run all code in one transaction that is rolled back | `test_pool` for bb8, `deadpool_test_pool` for deadpool, or another pool with one connection |
//! | assert that a job was deferred | [`assert_deferred!`](crate::assert_deferred), [`assert_not_deferred!`](crate::assert_not_deferred), and their `_pipelined` and `_blocking` forms |
//! | look at the pending jobs | [`deferred_jobs`], or a custom query |
//! | run the jobs | [`App::test_worker`](crate::App::test_worker), which makes a [`TestWorker`] |
//! | choose the time | [`TestWorker::at`], [`TestWorker::advance`], and [`at`] for code that defers |
//! | test without a database | [`InMemoryConnector`], if everything goes through the application |
//!
//! The guide explains each of them: [`testing`](crate::guide::testing).
//!
//! # Example
//!
//! ```no_run
//! use std::time::Duration;
//! use procrastinate::{App, DieselConnector, Error, assert_deferred, task, testing};
//!
//! #[task(queue = "mails")]
//! async fn welcome(customer: i64) {
//!     println!("Welcome, {customer}!");
//! }
//!
//! #[task(queue = "mails")]
//! async fn remind(customer: i64) {
//!     println!("We miss you, {customer}!");
//! }
//!
//! /// The code under test.
//! async fn register(app: &App, customer: i64) -> Result<(), Error> {
//!     app.defer(welcome(customer)).await?;
//!     app.defer(remind(customer).schedule_in(Duration::from_secs(30 * 24 * 3_600))).await?;
//!     Ok(())
//! }
//!
//! # async fn example(database_url: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = testing::test_pool(database_url).await?;
//! let app = App::builder(DieselConnector::new(pool.clone())).task::<welcome>().task::<remind>().build()?;
//! register(&app, 7).await?;
//! assert_deferred!(&mut pool.get().await?, welcome(7).queue("mails"));
//!
//! let mut worker = app.test_worker()?;
//! assert_eq!(worker.run_until_empty().await?.expect_success().task_names(), ["welcome"]);
//! worker.advance(Duration::from_secs(31 * 24 * 3_600));
//! assert_eq!(worker.run_until_empty().await?.expect_success().task_names(), ["remind"]);
//! # Ok(())
//! # }
//! ```

mod connections;
mod deferred;
mod expected;
mod in_memory;
#[cfg(any(feature = "bb8", feature = "deadpool"))]
mod pool;
mod ran;
mod savepoint;
mod time;
mod worker;

pub use deferred::{
    deferred_jobs, deferred_jobs_blocking, deferred_jobs_pipelined, find_deferred, find_deferred_blocking,
    find_deferred_pipelined,
};
pub use expected::{NotDeferred, find_in};
pub use in_memory::{ExecutedQuery, InMemoryConnector};
#[cfg(feature = "deadpool")]
pub use pool::deadpool_test_pool;
#[cfg(feature = "bb8")]
pub use pool::test_pool;
pub use ran::{JobOutcome, JobRun, JobRuns};
pub use time::{at, at_blocking};
pub use worker::TestWorker;
