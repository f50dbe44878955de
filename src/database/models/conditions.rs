//! Conditions on jobs that use other tables. Each is a Diesel expression for queries on jobs.

use chrono::{DateTime, Utc};
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{Bool, Timestamptz};

use procrastinate_schema::schema::procrastinate_jobs;

/// Declares a condition: a bound time between two pieces of SQL.
///
/// Statuses in it are literals, because PostgreSQL does not use an index on one status for a bound status.
macro_rules! condition {
    ($(#[$attribute:meta])* $name:ident: $before:literal, time, $after:literal) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(pub(super) DateTime<Utc>);

        impl Expression for $name {
            type SqlType = Bool;
        }

        impl<QS> AppearsOnTable<QS> for $name where procrastinate_jobs::id: AppearsOnTable<QS> {}

        impl<QS> SelectableExpression<QS> for $name where procrastinate_jobs::id: SelectableExpression<QS> {}

        impl ValidGrouping<()> for $name {
            type IsAggregate = is_aggregate::No;
        }

        impl QueryId for $name {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl QueryFragment<Pg> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                out.push_sql($before);
                out.push_bind_param::<Timestamptz, _>(&self.0)?;
                out.push_sql($after);
                Ok(())
            }
        }
    };
}

condition! {
    /// The condition for stalled jobs.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateJob::stalled`](crate::models::ProcrastinateJob::stalled).
    StalledJobs:
    r#"("procrastinate_jobs"."status" = 'doing' AND ("procrastinate_jobs"."worker_id" IS NULL OR EXISTS (
        SELECT FROM procrastinate_workers AS worker
        WHERE worker.id = "procrastinate_jobs"."worker_id" AND worker.last_heartbeat < "#, time, ")))"
}

condition! {
    /// The condition for jobs that finished before a time.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateJob::finished_before`](crate::models::ProcrastinateJob::finished_before).
    JobsFinishedBefore:
    r#"("procrastinate_jobs"."status" IN ('succeeded', 'failed', 'cancelled', 'aborted') AND EXISTS (
        SELECT FROM procrastinate_events AS event WHERE event.job_id = "procrastinate_jobs"."id") AND NOT EXISTS (
        SELECT FROM procrastinate_events AS event
        WHERE event.job_id = "procrastinate_jobs"."id" AND (event.at IS NULL OR event.at >= "#, time, ")))"
}
