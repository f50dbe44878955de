#![doc = include_str!("../README.md")]

mod app;
#[cfg(feature = "cli")]
pub mod cli;
mod database;
mod error;
mod job;
mod periodic;
mod queue;
pub mod retry;
#[path = "../schema.rs"]
#[allow(missing_docs, reason = "generated; the columns are described at the models and in the database")]
pub mod schema;
mod support;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod validation;
mod worker;

/// For those who know Procrastinate.
#[doc = include_str!("../PROCRASTINATE.md")]
pub mod from_procrastinate {}

/// Pools: how large, and behind PgBouncer.
#[doc = include_str!("../POOLS.md")]
pub mod pools {}

/// Performance: figures, what each setting costs, sizing, and the limit of one PostgreSQL.
#[doc = include_str!("../PERFORMANCE.md")]
pub mod performance {}

/// The command line: every flag and variable of Procrastinate's, and what there is beyond.
#[doc = include_str!("../COMMAND_LINE.md")]
pub mod command_line {}

pub use crate::app::{App, AppBuilder, Blueprint, builtin_tasks};
pub use crate::database::connection::Connector;
pub use crate::database::connection::diesel_connector::DieselConnector;
pub use crate::database::connection::pool;
pub use crate::database::{migrations, models};
pub use crate::error::Error;
pub use crate::job::interruption::{AbortReason, Interrupted, TimedOut};
pub use crate::job::{Job, JobEventType, JobId, JobStatus};
pub use crate::periodic::cron::Cron;
pub use crate::periodic::{MissedTicks, PeriodicDeferrer, PeriodicTask};
pub use crate::queue::defer::batch::{batch_defer, batch_defer_blocking};
pub use crate::queue::defer::options::JobOptions;
pub use crate::queue::defer::{JobToDefer, configure_task};
pub use crate::queue::job_manager;
pub use crate::queue::job_manager::manager::JobManager;
#[cfg(feature = "metrics")]
pub use crate::queue::metrics::describe_metrics;
pub use crate::task::Task;
pub use crate::task::blocking::blocking;
pub use crate::task::context::JobContext;
pub use crate::task::middleware::{Middleware, Next};
pub use crate::task::output::{JobAborted, TaskControl, TaskError, TaskOutput, TaskResult};
pub use crate::task::worker_handle::WorkerHandle;
pub use crate::worker::{DeleteJobs, Worker};
pub use procrastinate_macros::{periodic, task};

/// What the macros write refers to. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use diesel;
    #[cfg(feature = "discovery")]
    pub use inventory;
    pub use serde;

    pub use crate::__discover as discover;
    #[cfg(feature = "discovery")]
    pub use crate::app::discovery::DiscoverableTask;
}
