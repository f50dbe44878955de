//! The tables, enums and job IDs of [`procrastinate`](https://docs.rs/procrastinate), a PostgreSQL task queue for
//! applications built on Diesel.
//!
//! `procrastinate` contains everything in this crate, under the same names. Use this crate in a crate that only declares
//! your tables. It depends on Diesel and serde alone, so that crate does not wait until the whole queue is compiled:
//!
//! ```
//! diesel::table! {
//!     orders (id) { id -> BigInt, job_id -> Nullable<BigInt>, }
//! }
//! diesel::joinable!(orders -> procrastinate_jobs (job_id));
//! procrastinate_schema::allow_with_procrastinate!(orders);
//!
//! use procrastinate_schema::schema::procrastinate_jobs;
//! ```
//!
//! A version of this crate belongs to the version of `procrastinate` with the same number.

mod job_id;
mod labels;
#[allow(missing_docs, reason = "generated; the columns are described at the models and in the database")]
pub mod schema;

pub use job_id::JobId;
pub use labels::{JobEventType, JobStatus};

/// Allows your tables to appear in one query with the queue's tables.
///
/// Call it in the crate that declares the tables. Pass your tables by their names or paths, such as `schema::orders`. Diesel's own
/// `allow_tables_to_appear_in_same_query!` does not compile when one of the tables is in another crate. Diesel's
/// `joinable!` does work across crates. Use it for joins without an explicit `on`.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate_schema::schema::procrastinate_jobs;
///
/// diesel::table! {
///     orders (id) { id -> BigInt, customer -> Text, job_id -> Nullable<BigInt>, }
/// }
/// diesel::joinable!(orders -> procrastinate_jobs (job_id));
/// procrastinate_schema::allow_with_procrastinate!(orders);
///
/// let pending = orders::table
///     .inner_join(procrastinate_jobs::table)
///     .filter(procrastinate_jobs::queue_name.eq("mails"))
///     .select((orders::customer, procrastinate_jobs::status));
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
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_job_options);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_flow_controls);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_priority_ageings);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_unique_keys);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_schedules);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_actions);
            $crate::allow_with_procrastinate!(@pair $($table)::+, procrastinate_diesel_action_jobs);
        )+
    };
    (@pair $($table:ident)::+, $queue_table:ident) => {
        impl $crate::__private::diesel::query_source::TableNotEqual<$($table)::+::table>
            for $crate::schema::$queue_table::table {}
        impl $crate::__private::diesel::query_source::TableNotEqual<$crate::schema::$queue_table::table>
            for $($table)::+::table {}
    };
}

/// Items that the macro's expansion refers to. Not public API: they change without notice.
#[doc(hidden)]
pub mod __private {
    pub use diesel;
}
