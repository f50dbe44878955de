//! Looking at jobs, changing them and clearing them away by hand: what Procrastinate's `JobManager` does.
//!
//! An operation is a value, made by the function of its name, with methods for what is optional. It does nothing until it
//! is executed: with `execute` on any async Diesel connection, with `execute_blocking` on any blocking one, in a
//! transaction or not, or with [`App::execute`](crate::App::execute) on a connection from the pool. In a transaction it is
//! part of it: what it changes is changed if and only if the transaction is committed.
//!
//! | to | there is |
//! |---|---|
//! | call off a job | [`cancel_job`] |
//! | put a job back to wait | [`retry_job`], [`retry_job`] |
//! | start a job at another time | [`reschedule_job`] |
//! | end a job | [`finish_job`], [`finish_job`] |
//! | look | [`get_job_status`], [`list_jobs`], [`get_stalled_jobs`], [`list_jobs_to_abort`], [`check_connection`] |
//! | count | [`list_queues`], [`list_tasks`], [`list_locks`] |
//! | clear away | [`delete_job`], [`delete_old_jobs`] |
//! | be a worker of one's own | [`register_worker`], [`update_heartbeat`], [`fetch_job`], [`unregister_worker`], [`prune_stalled_workers`] |
//!
//! Deferring is elsewhere: [`JobToDefer`](crate::JobToDefer) and [`batch_defer`](crate::batch_defer()). Other questions
//! are queries of the application's own, on the [models](crate::models::ProcrastinateJob).
//!
//! # Errors
//!
//! Every operation may return [`Error::Invalid`] for a value that cannot be, before the database is asked, and
//! [`Error::Database`] or [`Error::SchemaMissing`] when the statement fails, after which a transaction that it was part of
//! is lost. Whatever else an operation may say leaves the caller's transaction intact.
//!
//! # Example
//!
//! An order is withdrawn, and with it the job that was to send its invoice:
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

mod change;
mod count;
mod delete_old_jobs;
mod list;
pub(crate) mod manager;
mod reschedule;
mod workers;

use std::future::Future;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnectionCore;

use crate::database::connection::Connection;
use crate::error::Error;

pub use crate::database::notification::Notification;
pub use crate::queue::listener::Notifications;
pub use change::{CancelJob, FinishJob, RetryJob, cancel_job, finish_job, retry_job};
#[cfg(feature = "cli")]
pub(crate) use count::count_jobs;
pub use count::{JobCounts, ListLocks, ListQueues, ListTasks, list_locks, list_queues, list_tasks};
pub use delete_old_jobs::{DeleteOldJobs, delete_old_jobs};
pub use list::{
    CheckConnection, GetJobStatus, GetStalledJobs, ListJobs, ListJobsToAbort, check_connection, get_job_status,
    get_stalled_jobs, list_jobs, list_jobs_to_abort,
};
pub use reschedule::{DeleteJob, RescheduleJob, delete_job, reschedule_job};
pub use workers::{
    FetchJob, PruneStalledWorkers, RegisterWorker, UnregisterWorker, UpdateHeartbeat, fetch_job, prune_stalled_workers,
    register_worker, unregister_worker, update_heartbeat,
};

/// What can be executed on a connection: every operation of this module, and nothing else.
///
/// There is no need to import it, since each operation has the same two methods of its own. It is for functions that take
/// any operation.
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::Operation;
/// use procrastinate::{App, Error};
///
/// async fn loudly<O: Operation>(app: &App, operation: O) -> Option<O::Output> {
///     app.execute(operation).await.inspect_err(|error| eprintln!("{error}")).ok()
/// }
/// ```
#[must_use = "an operation does nothing until it is executed on a connection"]
pub trait Operation: sealed::Sealed<Answer = Self::Output> + Send + Sized {
    /// What it answers.
    type Output: Send;

    /// Does it on an async connection.
    ///
    /// # Errors
    ///
    /// As the operation says.
    fn execute<C>(self, connection: &mut C) -> impl Future<Output = Result<Self::Output, Error>> + Send
    where
        C: AsyncConnectionCore<Backend = Pg>;

    /// Does it on a blocking connection.
    ///
    /// # Errors
    ///
    /// As the operation says.
    fn execute_blocking<C>(self, connection: &mut C) -> Result<Self::Output, Error>
    where
        C: LoadConnection<Backend = Pg>;
}

pub(crate) mod sealed {
    use super::{Connection, Error, Future};

    /// Keeps `Operation` to the types of this crate, so that it may grow.
    pub trait Sealed: Sized {
        /// What it answers.
        type Answer: Send;

        /// Does it on a connection of the application's, as statements are to run there.
        fn execute_pooled(
            self,
            connection: &mut Connection,
        ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
    }
}

/// Gives an operation its two ways of being executed. Its one body is `perform`, which is generic over the connection.
///
/// The methods are the operation's own ones as well, because those of a trait would be ambiguous beside Diesel's `execute`.
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
            /// Does it on an async connection, bare or pooled, in a transaction or not.
            ///
            /// # Errors
            ///
            /// As the function says that makes this operation.
            ///
            /// # Example
            ///
            /// ```no_run
            #[doc = concat!("# use procrastinate::job_manager::", stringify!($operation), ";")]
            #[doc = concat!(
                        "# async fn example(operation: ", stringify!($operation),
                        ", connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {"
                    )]
            /// let answer = operation.execute(connection).await?;
            /// # Ok(())
            /// # }
            /// ```
            pub async fn execute<C>(self, connection: &mut C) -> Result<$output, crate::error::Error>
            where
                C: diesel_async::AsyncConnectionCore<Backend = diesel::pg::Pg>,
            {
                crate::queue::job_manager::Operation::execute(self, connection).await
            }

            /// Does it on a blocking connection: `PgConnection`, one from an r2d2 pool, in a transaction or not.
            ///
            /// # Errors
            ///
            /// As the function says that makes this operation.
            ///
            /// # Example
            ///
            /// ```no_run
            #[doc = concat!("# use procrastinate::job_manager::", stringify!($operation), ";")]
            #[doc = concat!(
                        "# fn example(operation: ", stringify!($operation),
                        ", connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {"
                    )]
            /// let answer = operation.execute_blocking(connection)?;
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

/// Gives an operation methods that set a filter each.
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
