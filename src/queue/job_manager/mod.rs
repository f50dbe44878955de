//! Operations on jobs and workers: find, count, change and delete.
//!
//! An operation is a value. The function of its name makes it, and its methods set options. It does nothing until it is
//! executed, in one of four ways:
//!
//! - `execute` on any async Diesel connection
//! - `execute_pipelined` on a shared async connection, at the same time as other statements
//! - `execute_blocking` on any blocking Diesel connection
//! - [`App::perform`](crate::App::perform) on a connection from the pool
//!
//! In a transaction, the changes take effect if and only if the transaction is committed.
//!
//! | to | use |
//! |---|---|
//! | cancel or abort a job | [`cancel_job`] |
//! | retry a job | [`retry_job`] |
//! | start a job at another time | [`reschedule_job`] |
//! | finish a job | [`finish_job`] |
//! | find jobs | [`get_job_status`], [`list_jobs`], [`get_stalled_jobs`], [`list_jobs_to_abort`] |
//! | pause queues and tasks | [`pause_queue`], [`pause_task`], [`resume_queue`], [`resume_task`] |
//! | limit queues and tasks | [`limit_queue`], [`limit_task`], [`unlimit_queue`], [`unlimit_task`], [`list_flow_controls`] |
//! | let priorities age | [`age_priorities`], [`stop_ageing`], [`list_priority_ageings`] |
//! | count jobs | [`list_queues`], [`list_tasks`], [`list_locks`] |
//! | delete jobs | [`delete_job`], [`delete_old_jobs`] |
//! | manage schedules | [`create_schedule`], [`change_schedule`], [`remove_schedule`], [`list_schedules`] |
//! | control schedules | [`pause_schedule`], [`resume_schedule`], [`run_schedule_now`] |
//! | check the database | [`check_connection`] |
//! | write a custom worker | [`register_worker`], [`update_heartbeat`], [`fetch_job`], [`unregister_worker`], [`prune_stalled_workers`] |
//!
//! This is the counterpart of Procrastinate's `JobManager`. To defer jobs, use [`JobToDefer`](crate::JobToDefer) and
//! [`batch_defer`](crate::batch_defer()). For other questions, write your own queries on the
//! [models](crate::models::ProcrastinateJob).
//!
//! # Errors
//!
//! Every operation can return [`Error::Invalid`] for an invalid value, before a statement is sent. It can also return
//! [`Error::Database`] or [`Error::SchemaMissing`] if the statement fails. A transaction is then lost. All other errors
//! leave your transaction intact.
//!
//! # Example
//!
//! Withdraws an order, and cancels the job that would send its invoice:
//!
//! ```no_run
//! use diesel::prelude::*;
//! use procrastinate::{JobId, job_manager};
//!
//! # diesel::table! { orders (id) { id -> BigInt, } }
//! # #[derive(Debug)] enum ShopError { Diesel(diesel::result::Error), Queue(procrastinate::Error) }
//! # impl From<diesel::result::Error> for ShopError { fn from(error: diesel::result::Error) -> Self { Self::Diesel(error) } }
//! # impl From<procrastinate::Error> for ShopError { fn from(error: procrastinate::Error) -> Self { Self::Queue(error) } }
//! fn withdraw(order: i64, invoice: JobId, connection: &mut PgConnection) -> Result<bool, ShopError> {
//!     connection.transaction(|connection| {
//!         diesel::delete(orders::table.find(order)).execute(connection)?;
//!         Ok(job_manager::cancel_job(invoice).execute_blocking(connection)?)
//!     })
//! }
//! ```

mod ageing;
mod change;
mod count;
mod delete_old_jobs;
mod limit;
mod list;
pub(crate) mod manager;
mod pause;
mod reschedule;
mod schedules;
mod workers;

use std::future::Future;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::{AsyncConnectionCore, AsyncPgConnection};

use crate::database::connection::Connection;
use crate::error::Error;

pub use crate::database::notification::Notification;
pub use crate::queue::listener::Notifications;
pub use ageing::{AgePriorities, ListPriorityAgeings, StopAgeing, age_priorities, list_priority_ageings, stop_ageing};
pub use change::{CancelJob, FinishJob, RetryJob, cancel_job, finish_job, retry_job};
#[cfg(feature = "cli")]
pub(crate) use count::count_jobs;
pub use count::{JobCounts, ListLocks, ListQueues, ListTasks, list_locks, list_queues, list_tasks};
pub use delete_old_jobs::{DeleteOldJobs, delete_old_jobs};
pub use limit::{
    ListFlowControls, RemoveLimit, SetLimit, limit_queue, limit_task, list_flow_controls, unlimit_queue, unlimit_task,
};
pub use list::{
    CheckConnection, GetJobStatus, GetStalledJobs, ListJobs, ListJobsToAbort, check_connection, get_job_status,
    get_stalled_jobs, list_jobs, list_jobs_to_abort,
};
pub use pause::{Pause, Resume, pause_queue, pause_task, resume_queue, resume_task};
pub use reschedule::{DeleteJob, RescheduleJob, delete_job, reschedule_job};
pub use schedules::{
    ChangeSchedule, CreateSchedule, ListSchedules, ListedSchedule, PauseSchedule, RemoveSchedule, ResumeSchedule,
    RunScheduleNow, change_schedule, create_schedule, list_schedules, pause_schedule, remove_schedule, resume_schedule,
    run_schedule_now,
};
pub use workers::{
    FetchJob, PruneStalledWorkers, RegisterWorker, UnregisterWorker, UpdateHeartbeat, fetch_job, prune_stalled_workers,
    register_worker, unregister_worker, update_heartbeat,
};

/// An operation that can be executed on a connection. Only the operations of this module implement it.
///
/// You do not have to import it, because each operation has these methods itself. Use it in functions that take any
/// operation.
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::Operation;
/// use procrastinate::{App, Error};
///
/// async fn loudly<O: Operation>(app: &App, operation: O) -> Option<O::Output> {
///     app.perform(operation).await.inspect_err(|error| eprintln!("{error}")).ok()
/// }
/// ```
#[must_use = "an operation does nothing until it is executed on a connection"]
pub trait Operation: sealed::Sealed<Answer = Self::Output> + Send + Sized {
    /// The result of the operation.
    type Output: Send;

    /// Executes the operation on an async connection.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn execute<C>(self, connection: &mut C) -> impl Future<Output = Result<Self::Output, Error>> + Send
    where
        C: AsyncConnectionCore<Backend = Pg>;

    /// Executes the operation on a shared connection, at the same time as other statements. See
    /// [`JobToDefer::defer_pipelined`](crate::JobToDefer::defer_pipelined).
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn execute_pipelined(
        self,
        mut connection: &AsyncPgConnection,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send {
        async move { self.execute(&mut connection).await }
    }

    /// Executes the operation on a blocking connection.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn execute_blocking<C>(self, connection: &mut C) -> Result<Self::Output, Error>
    where
        C: LoadConnection<Backend = Pg>;
}

pub(crate) mod sealed {
    use super::{Connection, Error, Future};

    /// Restricts `Operation` to types of this crate, so that it can be extended.
    pub trait Sealed: Sized {
        /// The result of the operation.
        type Answer: Send;

        /// Executes the operation on a connection from the pool.
        fn execute_pooled(
            self,
            connection: &mut Connection,
        ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
    }
}

/// Adds the ways to execute an operation. Its implementation is `perform`, which is generic over the connection.
///
/// The methods are also inherent ones, because trait methods would be ambiguous with Diesel's `execute`.
macro_rules! operation {
    ($operation:ident -> $output:ty) => {
        impl crate::queue::job_manager::sealed::Sealed for $operation {
            type Answer = $output;

            async fn execute_pooled(
                self,
                connection: &mut crate::database::connection::Connection,
            ) -> Result<$output, crate::error::Error> {
                self.perform(connection).await
            }
        }

        impl crate::queue::job_manager::Operation for $operation {
            type Output = $output;

            async fn execute<C>(self, connection: &mut C) -> Result<$output, crate::error::Error>
            where
                C: diesel_async::AsyncConnectionCore<Backend = diesel::pg::Pg>,
            {
                self.perform(&mut crate::database::connection::run::Async(connection)).await
            }

            fn execute_blocking<C>(self, connection: &mut C) -> Result<$output, crate::error::Error>
            where
                C: diesel::connection::LoadConnection<Backend = diesel::pg::Pg>,
            {
                crate::database::connection::run::complete(self.perform(&mut crate::database::connection::run::Blocking(connection)))
            }
        }

        impl $operation {
            /// Executes the operation on an async connection, pooled or not, in a transaction or not.
            ///
            /// # Errors
            ///
            /// Those of the function that makes this operation.
            ///
            /// # Example
            ///
            /// ```no_run
            #[doc = concat!("# use procrastinate::job_manager::", stringify!($operation), ";")]
            #[doc = concat!(
                        "# async fn example(operation: ", stringify!($operation),
                        ", connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {"
                    )]
            /// let result = operation.execute(connection).await?;
            /// # Ok(())
            /// # }
            /// ```
            pub async fn execute<C>(self, connection: &mut C) -> Result<$output, crate::error::Error>
            where
                C: diesel_async::AsyncConnectionCore<Backend = diesel::pg::Pg>,
            {
                crate::queue::job_manager::Operation::execute(self, connection).await
            }

            /// Executes the operation on a shared connection, at the same time as other statements. See
            /// [`JobToDefer::defer_pipelined`](crate::JobToDefer::defer_pipelined).
            ///
            /// # Errors
            ///
            /// Those of the function that makes this operation.
            ///
            /// # Example
            ///
            /// ```no_run
            #[doc = concat!("# use procrastinate::job_manager::", stringify!($operation), ";")]
            #[doc = concat!(
                        "# async fn example(one: ", stringify!($operation), ", other: ", stringify!($operation),
                        ", connection: &diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {"
                    )]
            /// tokio::try_join!(one.execute_pipelined(connection), other.execute_pipelined(connection))?;
            /// # Ok(())
            /// # }
            /// ```
            pub async fn execute_pipelined(
                self,
                connection: &diesel_async::AsyncPgConnection,
            ) -> Result<$output, crate::error::Error> {
                crate::queue::job_manager::Operation::execute_pipelined(self, connection).await
            }

            /// Executes the operation on a blocking connection, such as `PgConnection` or one from an r2d2 pool.
            ///
            /// # Errors
            ///
            /// Those of the function that makes this operation.
            ///
            /// # Example
            ///
            /// ```no_run
            #[doc = concat!("# use procrastinate::job_manager::", stringify!($operation), ";")]
            #[doc = concat!(
                        "# fn example(operation: ", stringify!($operation),
                        ", connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {"
                    )]
            /// let result = operation.execute_blocking(connection)?;
            /// # Ok(())
            /// # }
            /// ```
            pub fn execute_blocking<C>(self, connection: &mut C) -> Result<$output, crate::error::Error>
            where
                C: diesel::connection::LoadConnection<Backend = diesel::pg::Pg>,
            {
                crate::queue::job_manager::Operation::execute_blocking(self, connection)
            }
        }
    };
}
use operation;

/// Adds methods to an operation, each of which sets a filter.
macro_rules! filters {
    ($operation:ident: $($(#[$attribute:meta])* $filter:ident($type:ty),)+) => {
        impl $operation {
            $(
                $(#[$attribute])*
                ///
                /// # Example
                ///
                /// ```
                #[doc = concat!("# use procrastinate::{JobId, JobStatus, job_manager::", stringify!($operation), "};")]
                #[doc = concat!(
                    "# fn example(operation: ", stringify!($operation), ", wanted: ", stringify!($type), ") -> ",
                    stringify!($operation), " {"
                )]
                #[doc = concat!("operation.", stringify!($filter), "(wanted)")]
                /// # }
                /// ```
                pub fn $filter(mut self, $filter: impl Into<$type>) -> Self {
                    self.filter.$filter = Some($filter.into());
                    self
                }
            )+
        }
    };
}
use filters;
