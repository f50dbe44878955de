//! Conditions on jobs that use other tables. Each is a Diesel expression for queries on jobs.

use chrono::{DateTime, Utc};
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{Bool, Timestamptz};

use crate::database::models::ProcrastinateJob;
use procrastinate_schema::schema::procrastinate_jobs;

/// Declares a condition: a bound time, once or several times, between pieces of SQL.
///
/// Statuses in it are literals, because PostgreSQL does not use an index on one status for a bound status.
macro_rules! condition {
    ($(#[$attribute:meta])* $name:ident: $sql:literal $(, time, $more_sql:literal)+) => {
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
                out.push_sql($sql);
                $(
                    out.push_bind_param::<Timestamptz, _>(&self.0)?;
                    out.push_sql($more_sql);
                )+
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
    /// See [`ProcrastinateJob::stalled`].
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
    /// See [`ProcrastinateJob::finished_before`].
    JobsFinishedBefore:
    r#"("procrastinate_jobs"."status" IN ('succeeded', 'failed', 'cancelled', 'aborted') AND EXISTS (
        SELECT FROM procrastinate_events AS event WHERE event.job_id = "procrastinate_jobs"."id") AND NOT EXISTS (
        SELECT FROM procrastinate_events AS event
        WHERE event.job_id = "procrastinate_jobs"."id" AND (event.at IS NULL OR event.at >= "#, time, ")))"
}

condition! {
    /// The condition for jobs that were deferred before a time.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateJob::deferred_before`].
    JobsDeferredBefore:
    r#"EXISTS (
        SELECT FROM procrastinate_events AS event
        WHERE event.job_id = "procrastinate_jobs"."id" AND event.type = 'deferred' AND event.at < "#, time, ")"
}

// PostgreSQL cannot turn this subquery into a join, for which it might read all events.
condition! {
    /// The condition for jobs that have been pending since a time.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateJob::pending_since`].
    JobsPendingSince:
    r#"("procrastinate_jobs"."status" = 'todo'
        AND ("procrastinate_jobs"."scheduled_at" IS NULL OR "procrastinate_jobs"."scheduled_at" <= "#, time, r#")
        AND coalesce((
        SELECT max(event.at) FROM procrastinate_events AS event
        WHERE event.job_id = "procrastinate_jobs"."id" AND event.type IN ('deferred', 'deferred_for_retry', 'retried')
        ) <= "#, time, ", false))"
}

impl ProcrastinateJob {
    /// Selects the running jobs whose worker is gone, or has sent no heartbeat since this time.
    ///
    /// By default, a worker sends a heartbeat every 10 seconds, and is considered stalled after 30 seconds without one.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let limit = chrono::Utc::now() - chrono::TimeDelta::seconds(30);
    /// let stalled = ProcrastinateJob::query().filter(ProcrastinateJob::stalled(limit));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&stalled).to_string().contains("last_heartbeat < $1"));
    /// ```
    #[must_use]
    pub fn stalled(not_heard_of_since: DateTime<Utc>) -> StalledJobs {
        StalledJobs(not_heard_of_since)
    }

    /// Selects the finished jobs whose newest event is older than this time.
    ///
    /// [`delete_old_jobs`](crate::job_manager::delete_old_jobs) uses the same rule. Add a condition on the status to
    /// select only some outcomes. The condition reads the events of each finished job that passes the other filters. On
    /// a large table, combine it with other filters, or with an order and a limit.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::JobStatus;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let yesterday = chrono::Utc::now() - chrono::TimeDelta::days(1);
    /// let old_failures = ProcrastinateJob::query()
    ///     .filter(ProcrastinateJob::has_status(JobStatus::Failed))
    ///     .filter(ProcrastinateJob::finished_before(yesterday));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&old_failures).to_string().contains("event.at >= $2"));
    /// ```
    #[must_use]
    pub fn finished_before(time: DateTime<Utc>) -> JobsFinishedBefore {
        JobsFinishedBefore(time)
    }

    /// Selects the jobs deferred before this time. A job has no column for it. It is the time of its event `deferred`,
    /// so the condition reads the events of each job that passes the other filters.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let yesterday = chrono::Utc::now() - chrono::TimeDelta::days(1);
    /// let older = ProcrastinateJob::query().filter(ProcrastinateJob::deferred_before(yesterday));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&older).to_string().contains("event.at < $1"));
    /// ```
    #[must_use]
    pub fn deferred_before(time: DateTime<Utc>) -> JobsDeferredBefore {
        JobsDeferredBefore(time)
    }

    /// Selects the pending jobs that could have started at this time, and have not started since: jobs that were
    /// deferred, retried and scheduled for this time or earlier.
    ///
    /// Use it for an alarm. The condition uses an index on pending jobs, and reads the events of each. Count the jobs,
    /// rather than to order by ID with a limit. PostgreSQL may walk through all finished jobs for the order.
    ///
    /// # Example
    ///
    /// The number of jobs that should have started a quarter of an hour ago:
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let limit = chrono::Utc::now() - chrono::TimeDelta::minutes(15);
    /// let late = ProcrastinateJob::query().filter(ProcrastinateJob::pending_since(limit)).count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&late).to_string().contains("<= $2, false"));
    /// ```
    #[must_use]
    pub fn pending_since(time: DateTime<Utc>) -> JobsPendingSince {
        JobsPendingSince(time)
    }
}
