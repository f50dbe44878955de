//! The queue's tables as Diesel models, for reading.
//!
//! | model | table | holds |
//! |---|---|---|
//! | [`ProcrastinateJob`] | `procrastinate_jobs` | one row per job, until it is deleted |
//! | [`ProcrastinateEvent`] | `procrastinate_events` | what happened to each job, and when |
//! | [`ProcrastinateWorker`] | `procrastinate_workers` | running workers and their heartbeats |
//! | [`ProcrastinatePeriodicDefer`] | `procrastinate_periodic_defers` | the latest tick of each schedule |
//! | [`ProcrastinateJobError`] | `procrastinate_diesel_job_errors` | the errors of failed attempts |
//!
//! Query them like your own tables, joins included (see
//! [`allow_with_procrastinate!`](crate::allow_with_procrastinate)). The models implement neither `Insertable` nor
//! `AsChangeset`, except in tests with the feature `writable-models`.
//!
//! Diesel cannot prevent `diesel::update` on these tables. Do not write to them. Defer jobs, and change them with the
//! [job manager](crate::job_manager).
//!
//! # Example
//!
//! ```
//! use diesel::prelude::*;
//! use procrastinate::models::ProcrastinateWorker;
//!
//! fn workers(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateWorker>> {
//!     ProcrastinateWorker::query().load(connection)
//! }
//! ```

mod conditions;
mod event;
mod job;
mod job_error;
mod periodic_defer;
pub(crate) mod stored;
mod worker;
#[cfg(feature = "writable-models")]
mod writable;

pub use conditions::{JobsFinishedBefore, StalledJobs};
pub use event::ProcrastinateEvent;
pub use job::ProcrastinateJob;
pub use job_error::ProcrastinateJobError;
pub use periodic_defer::ProcrastinatePeriodicDefer;
pub use worker::ProcrastinateWorker;
#[cfg(feature = "writable-models")]
pub use writable::{NewProcrastinateEvent, NewProcrastinateJob, NewProcrastinatePeriodicDefer, NewProcrastinateWorker};

/// Allows your tables to appear in one query with the queue's tables.
///
/// Pass your tables by their names or paths, such as `schema::orders`. Diesel's own
/// `allow_tables_to_appear_in_same_query!` does not compile when one of the tables is in another crate. Diesel's
/// `joinable!` does work across crates. Use it for joins without an explicit `on`.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinateJob;
/// use procrastinate::schema::procrastinate_jobs;
///
/// diesel::table! {
///     orders (id) { id -> BigInt, customer -> Text, job_id -> Nullable<BigInt>, }
/// }
/// diesel::joinable!(orders -> procrastinate_jobs (job_id));
/// procrastinate::allow_with_procrastinate!(orders);
///
/// let pending = orders::table
///     .inner_join(procrastinate_jobs::table)
///     .filter(ProcrastinateJob::in_queue("mails"))
///     .select((orders::customer, ProcrastinateJob::as_select()));
/// assert!(diesel::debug_query::<diesel::pg::Pg, _>(&pending).to_string().contains("INNER JOIN"));
/// ```
#[macro_export]
macro_rules! allow_with_procrastinate {
    ($($($table:ident)::+),+ $(,)?) => {
        $(
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_jobs);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_events);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_periodic_defers);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_workers);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_job_errors);
        )+
    };
    (@pair $($table:ident)::+, $queue_table:ident) => {
        impl $crate::__private::diesel::query_source::TableNotEqual<$($table)::+::table>
            for $crate::schema::$queue_table::table {}
        impl $crate::__private::diesel::query_source::TableNotEqual<$crate::schema::$queue_table::table>
            for $($table)::+::table {}
    };
}
