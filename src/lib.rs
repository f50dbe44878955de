#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../docs/links.md")]
#![doc = include_str!("../README.md")]

#[cfg(feature = "admin")]
pub mod admin;
mod app;
#[cfg(feature = "cli")]
pub mod cli;
mod database;
mod error;
mod job;
mod periodic;
mod queue;
pub mod retry;
mod schedule;
mod support;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod validation;
mod worker;

/// The guide: one page for each need. Start with [`deferring`](guide::deferring) and [`workers`](guide::workers).
///
/// The pages are the Markdown files in the folder `docs` of the repository. Their code is compiled with the crate's
/// documentation tests.
pub mod guide {
    // A page links to another page by its file name. The definitions that come first lead to the modules here instead,
    // because Markdown takes the first of two definitions with the same label.
    macro_rules! pages {
        ($($(#[$summary:meta])* $page:ident: $text:expr;)+) => {
            $(
                $(#[$summary])*
                ///
                #[doc = include_str!("../docs/links.md")]
                #[doc = $text]
                pub mod $page {}
            )+
        };
    }

    pages! {
        /// Deferring jobs: transactions, options, locks, schedules and batches.
        deferring: include_str!("../docs/deferring.md");
        /// Writing tasks: options, context, shared state, middleware and namespaces.
        tasks: include_str!("../docs/tasks.md");
        /// Retries and errors: retry strategies, time limits and stored errors.
        retries_and_errors: include_str!("../docs/retries_and_errors.md");
        /// Workers: concurrency, cancelling and aborting, shutdown, heartbeats and settings.
        workers: include_str!("../docs/workers.md");
        /// Flow control: pausing and limiting queues and tasks in all workers.
        flow_control: include_str!("../docs/flow_control.md");
        /// Admin pages: jobs, queues and workers in a browser.
        admin_pages: include_str!("../docs/admin_pages.md");
        /// Periodic tasks: cron expressions, time zones and missed ticks.
        periodic_tasks: include_str!("../docs/periodic_tasks.md");
        /// Jobs and models: querying, joining, changing and deleting jobs.
        jobs_and_models: include_str!("../docs/jobs_and_models.md");
        /// Testing: jobs in a rolled-back transaction or in memory.
        testing: include_str!("../docs/testing.md");
        /// Promises: what the queue guarantees, what it does not, and the tests of each promise.
        promises: include_str!("../docs/promises.md");
        /// Security: whom the queue trusts, grants for each role, and where secrets can appear.
        security: include_str!("../docs/security.md");
        /// Monitoring: logs, metrics and health checks.
        monitoring: include_str!("../docs/monitoring.md");
        /// Migrations and upgrading: running them, deploying, and moving from another queue.
        migrations_and_upgrading: include_str!("../docs/migrations_and_upgrading.md");
        /// Connection pools: size, synchronous applications, TLS and PgBouncer.
        pools: include_str!("../docs/pools.md");
        /// Performance: measurements, the cost of each setting, sizing and limits.
        performance: include_str!("../docs/performance.md");
        /// The command line: commands, flags and environment variables.
        command_line: include_str!("../docs/command_line.md");
        /// From Procrastinate: where each thing is, and what is different.
        from_procrastinate: include_str!("../docs/from_procrastinate.md");
    }
}

pub use crate::app::{App, AppBuilder, Blueprint, builtin_tasks};
pub use crate::database::connection::Connector;
pub use crate::database::connection::diesel_connector::DieselConnector;
pub use crate::database::connection::pool;
pub use crate::database::{migrations, models};
pub use crate::error::Error;
pub use crate::job::interruption::{AbortReason, Interrupted, TimedOut};
pub use crate::job::{Job, JobEventType, JobId, JobStatus};
pub use crate::periodic::{PeriodicDeferrer, PeriodicTask};
pub use crate::queue::defer::batch::{batch_defer, batch_defer_blocking};
pub use crate::queue::defer::detailed::{
    batch_defer_detailed, batch_defer_detailed_blocking, batch_defer_detailed_pipelined,
};
pub use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
pub use crate::queue::defer::options::JobOptions;
pub use crate::queue::defer::pipelined::batch_defer_pipelined;
pub use crate::queue::defer::{JobToDefer, configure_task};
pub use crate::queue::job_manager;
pub use crate::queue::job_manager::manager::JobManager;
#[cfg(feature = "metrics")]
pub use crate::queue::metrics::describe_metrics;
pub use crate::schedule::cron::Cron;
pub use crate::schedule::{MissedTicks, Overlap};
pub use crate::task::Task;
pub use crate::task::attributes::{periodic, task};
pub use crate::task::blocking::blocking;
pub use crate::task::context::JobContext;
pub use crate::task::middleware::{Middleware, Next};
pub use crate::task::output::{JobAborted, TaskControl, TaskError, TaskOutput, TaskResult};
pub use crate::task::panicked::TaskPanicked;
pub use crate::task::state::{RequiredState, State};
pub use crate::task::worker_handle::WorkerHandle;
pub use crate::task::wrapped_error::WrappedError;
pub use crate::worker::{DeleteJobs, UnknownTasks, Worker};
pub use procrastinate_schema::{allow_with_procrastinate, schema};

// The crates whose types are in the signatures of this one. An application can use them from here, so that the versions
// agree.
#[cfg(feature = "admin")]
#[doc(no_inline)]
pub use axum;
#[cfg(feature = "bb8")]
#[doc(no_inline)]
pub use bb8;
#[cfg(feature = "cli")]
#[doc(no_inline)]
pub use clap;
#[cfg(feature = "deadpool")]
#[doc(no_inline)]
pub use deadpool;
#[doc(no_inline)]
pub use {chrono, diesel, diesel_async, diesel_migrations, serde, serde_json};

/// Items that the macros' expansions refer to. Not public API: they change without notice.
#[doc(hidden)]
pub mod __private {
    pub use diesel;
    #[cfg(feature = "discovery")]
    pub use inventory;
    pub use serde;

    pub use crate::__discover as discover;
    #[cfg(feature = "discovery")]
    pub use crate::app::discovery::DiscoverableTask;
    pub use crate::task::returned;
}
