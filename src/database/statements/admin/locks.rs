//! The locks that jobs hold or wait for.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};

use crate::database::statements::admin::tasks::MOST_EVENTS;
use crate::database::statements::statement;

/// A count of the pending jobs with one lock is at most this, or one more.
pub(crate) const LOCK_CEILING: i64 = 1_000;

/// How many queues are searched for locks that several jobs wait for.
pub(crate) const SEARCHED_QUEUES: i64 = 20;

/// How many pending jobs with a lock are searched in each of these queues, in the order in which they start. Jobs that
/// cannot start gather there.
pub(crate) const SEARCHED_JOBS: i64 = 500;

/// How many pending jobs are searched if there is no index of those with a lock.
const SEARCHED_PENDING: i64 = 10_000;

/// The locks that running jobs hold, sorted, after this one.
pub(crate) struct HeldLocks {
    pub(crate) after: Option<String>,
    pub(crate) limit: i64,
}

statement!(filtered "list the locks": HeldLocks -> String: Text, |statement, out| {
    out.push_sql(
        "SELECT job.lock FROM procrastinate_jobs AS job WHERE job.status = 'doing' AND job.lock IS NOT NULL",
    );
    if let Some(after) = &statement.after {
        out.push_sql(" AND job.lock > ");
        out.push_bind_param::<Text, _>(after)?;
    }
    out.push_sql(" ORDER BY job.lock LIMIT ");
    out.push_bind_param::<BigInt, _>(&statement.limit)?;
    Ok(())
});

/// The locks that several of the next pending jobs have, those with the most jobs first.
pub(crate) struct ContendedLocks {
    /// Whether there is an index of the pending jobs with a lock.
    pub(crate) has_companions: bool,
    pub(crate) limit: i64,
}

statement!(filtered "search the locks": ContendedLocks -> String: Text, |statement, out| {
    // Its numbers make it a statement of its own.
    out.unsafe_to_cache_prepared();
    if statement.has_companions {
        // No bind in it: the order is that of an index.
        out.push_sql(&format!(
            "WITH queue (name) AS MATERIALIZED ( \
                SELECT found.name FROM unnest(procrastinate_diesel_queues_with_locks_v1(NULL)) AS found (name) \
                LIMIT {SEARCHED_QUEUES}), \
             pending AS MATERIALIZED ( \
                SELECT next.lock FROM queue CROSS JOIN LATERAL ( \
                    SELECT job.lock FROM procrastinate_jobs AS job \
                    WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name = queue.name \
                    ORDER BY job.priority DESC, job.id LIMIT {SEARCHED_JOBS}) AS next)"
        ));
    } else {
        out.push_sql(&format!(
            "WITH pending AS MATERIALIZED ( \
                SELECT job.lock FROM procrastinate_jobs AS job WHERE job.status = 'todo' \
                ORDER BY job.priority DESC, job.id LIMIT {SEARCHED_PENDING})"
        ));
    }
    out.push_sql(
        " SELECT pending.lock FROM pending WHERE pending.lock IS NOT NULL \
         GROUP BY pending.lock HAVING count(*) > 1 ORDER BY count(*) DESC, pending.lock LIMIT ",
    );
    out.push_bind_param::<BigInt, _>(&statement.limit)?;
    Ok(())
});

/// A lock: the job that holds it, since when, and how many jobs wait for it.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ListedLock {
    pub(crate) name: String,
    pub(crate) job: Option<i64>,
    pub(crate) task: Option<String>,
    pub(crate) worker: Option<i64>,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) pending: i64,
    /// The pending job that starts next.
    pub(crate) next_job: Option<i64>,
}

/// These locks.
pub(crate) struct LocksByName {
    pub(crate) names: Vec<String>,
    pub(crate) has_companions: bool,
}

statement!(
    filtered "list the locks":
    LocksByName -> ListedLock:
    (Text, Nullable<BigInt>, Nullable<Text>, Nullable<BigInt>, Nullable<Timestamptz>, BigInt, Nullable<BigInt>),
    |statement, out| {
        let most = LOCK_CEILING + 1;
        if !statement.has_companions {
            out.push_sql(&format!(
                "WITH pending AS MATERIALIZED ( \
                    SELECT next.id, next.lock, next.priority FROM ( \
                        SELECT job.id, job.lock, job.priority FROM procrastinate_jobs AS job WHERE job.status = 'todo' \
                        ORDER BY job.priority DESC, job.id LIMIT {SEARCHED_PENDING}) AS next \
                    WHERE next.lock IS NOT NULL) "
            ));
        }
        let (table, condition) = if statement.has_companions {
            ("procrastinate_jobs", "job.status = 'todo' AND ")
        } else {
            ("pending", "")
        };
        out.push_sql(&format!(
            "SELECT lock.name, holder.id, holder.task_name::text, holder.worker_id, started.at, waiting.jobs, \
                (SELECT job.id FROM {table} AS job WHERE {condition}job.lock = lock.name \
                 ORDER BY job.priority DESC, job.id LIMIT 1) \
             FROM unnest("
        ));
        out.push_bind_param::<Array<Text>, _>(&statement.names)?;
        out.push_sql(&format!(
            "::text[]) WITH ORDINALITY AS lock (name, place) \
             LEFT JOIN LATERAL ( \
                SELECT job.id, job.task_name, job.worker_id FROM procrastinate_jobs AS job \
                WHERE job.status = 'doing' AND job.lock = lock.name LIMIT 1) AS holder ON true \
             LEFT JOIN LATERAL ( \
                SELECT CASE WHEN count(*) <= {MOST_EVENTS} THEN \
                    max(event.at) FILTER (WHERE event.type = 'started' AND isfinite(event.at)) END AS at \
                FROM (SELECT event.type, event.at FROM procrastinate_events AS event \
                      WHERE event.job_id = holder.id LIMIT {MOST_EVENTS} + 1) AS event) AS started ON true \
             CROSS JOIN LATERAL ( \
                SELECT count(*) AS jobs FROM (SELECT FROM {table} AS job \
                    WHERE {condition}job.lock = lock.name ORDER BY job.priority DESC, job.id LIMIT {most}) \
                    AS counted) AS waiting \
             ORDER BY lock.place"
        ));
        Ok(())
    }
);
