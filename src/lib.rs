#![doc = include_str!("../README.md")]

mod answer;
mod app;
mod app_builder;
mod app_connector;
mod backoff;
mod batch;
mod blocking;
mod blueprint;
pub mod builtin_tasks;
mod checks;
#[cfg(feature = "cli")]
pub mod cli;
mod clock;
mod connector;
mod cron;
mod defer_in_company;
mod discovery;
mod error;
#[cfg(feature = "testing")]
mod in_memory;
mod interruption;
mod job;
mod job_context;
pub mod job_manager;
mod job_options;
mod job_to_defer;
mod manager;
mod metrics;
mod middleware;
mod migrations;
mod models;
mod notifications;
mod panics;
mod periodic;
mod periodic_job;
mod pooled_connection;
mod queries;
mod retry;
mod run;
#[path = "../schema.rs"]
#[allow(missing_docs, reason = "generated; the columns are described at the models and in the database")]
pub mod schema;
mod state;
mod task;
mod task_name;
mod task_table;
#[cfg(feature = "testing")]
pub mod testing;
mod worker;
mod worker_handle;

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

pub use crate::answer::{JobAborted, TaskAnswer, TaskError, TaskOutput, TaskResult};
pub use crate::app::App;
pub use crate::app_builder::AppBuilder;
pub use crate::app_connector::Connector;
pub use crate::batch::{batch_defer, batch_defer_blocking};
pub use crate::blocking::blocking;
pub use crate::blueprint::Blueprint;
pub use crate::connector::{AsyncPool, DieselConnector, PoolError};
pub use crate::cron::Cron;
pub use crate::error::Error;
pub use crate::interruption::{AbortReason, Interrupted, TimedOut};
pub use crate::job::{Job, JobEventType, JobId, JobStatus};
pub use crate::job_context::JobContext;
pub use crate::job_manager::JobManager;
pub use crate::job_options::JobOptions;
pub use crate::job_to_defer::{JobToDefer, configure_task};
#[cfg(feature = "metrics")]
pub use crate::metrics::describe_metrics;
pub use crate::middleware::{Middleware, Next};
pub use crate::migrations::{
    CombinedMigrations, MIGRATIONS, MigrationStatus, SQL_MIGRATIONS, SqlMigration, check_contract, migration_status,
    run_pending_migrations, run_pre_migrations, write_migrations,
};
pub use crate::models::{
    JobsFinishedBefore, ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinatePeriodicDefer,
    ProcrastinateWorker, StalledJobs,
};
#[cfg(feature = "writable-models")]
pub use crate::models::{
    NewProcrastinateEvent, NewProcrastinateJob, NewProcrastinatePeriodicDefer, NewProcrastinateWorker,
};
pub use crate::notifications::{Notification, Notifications};
pub use crate::periodic::{MissedTicks, PeriodicDeferrer, PeriodicTask};
pub use crate::pooled_connection::PooledConnection;
pub use crate::retry::{AttemptError, BaseRetryStrategy, Retry, RetryDecision, RetryStrategy, StalledJobPolicy};
pub use crate::task::Task;
pub use crate::worker::{DeleteJobs, Worker};
pub use crate::worker_handle::WorkerHandle;
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
    pub use crate::discovery::DiscoverableTask;
}
