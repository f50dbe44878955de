//! The queue's tables as Diesel models, for reading: the four of Procrastinate, and the errors, which are this crate's.
//!
//! An application queries them as it queries its own tables, joins included (see
//! [`allow_with_procrastinate!`](crate::allow_with_procrastinate)). Nothing on the models writes: they derive neither
//! `Insertable` nor `AsChangeset`, but for tests, with the feature `writable-models`. Diesel itself cannot forbid `diesel::update(procrastinate_jobs::table)`; do not
//! write to these tables by hand. Jobs come in by deferring, and change by the functions of this crate.

mod conditions;
mod event;
mod job;
mod job_error;
mod periodic_defer;
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

/// Lets tables of the application appear in one query with the queue's.
///
/// Diesel's own `allow_tables_to_appear_in_same_query!` does not compile when one of the tables comes from another
/// crate. This takes the application's tables, by their names or paths (`schema::orders`), and pairs each of them with
/// those of the queue. For a join without an explicit `on` there is Diesel's `joinable!`, which does work across crates.
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
/// let waiting = orders::table
///     .inner_join(procrastinate_jobs::table)
///     .filter(ProcrastinateJob::in_queue("mails"))
///     .select((orders::customer, ProcrastinateJob::as_select()));
/// assert!(diesel::debug_query::<diesel::pg::Pg, _>(&waiting).to_string().contains("INNER JOIN"));
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
