//! Counts of jobs, queues and workers. A count stops at [`CEILING`].

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::database::statements::admin::{CEILING, newest_failed};
use crate::database::statements::statement;

/// The number of jobs with each status, up to the ceiling, and about how many there are altogether.
pub(crate) struct CountByStatus {
    /// Whether there is an index of unsuccessful jobs. Otherwise, those among the newest jobs are counted.
    pub(crate) has_companions: bool,
}

statement!(
    filtered "count the jobs":
    CountByStatus -> (i64, i64, i64, i64, i64, i64): (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt),
    |statement, out| {
        if !statement.has_companions {
            out.push_sql(
                "WITH newest AS MATERIALIZED ( \
                    SELECT job.status FROM procrastinate_jobs AS job ORDER BY job.id DESC LIMIT 20000) ",
            );
        }
        out.push_sql("SELECT ");
        for (status, has_index) in
            [("todo", true), ("doing", true), ("failed", false), ("cancelled", false), ("aborted", false)]
        {
            let table = if has_index || statement.has_companions { "procrastinate_jobs" } else { "newest" };
            out.push_sql(&format!(
                "(SELECT count(*) FROM (SELECT FROM {table} WHERE status = '{status}' LIMIT {}) AS counted), ",
                CEILING + 1
            ));
        }
        // Never analyzed: -1.
        out.push_sql(
            "(SELECT greatest(class.reltuples, 0)::bigint FROM pg_catalog.pg_class AS class \
             WHERE class.oid = 'procrastinate_jobs'::regclass)",
        );
        Ok(())
    }
);

/// A queue that has jobs.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ListedQueue {
    pub(crate) name: String,
    pub(crate) pending: i64,
    /// Pending jobs whose time has not come.
    pub(crate) scheduled: i64,
    pub(crate) running: i64,
    pub(crate) failed: i64,
    /// Since when its first pending jobs could start: the first without a lock, the first with one, and the first that
    /// was scheduled.
    pub(crate) waiting_since: Option<DateTime<Utc>>,
    /// A count of pending jobs that is higher than this is not exact. With many queues it is lower.
    pub(crate) ceiling: i64,
}

/// The queues, by name: those of pending, running and failed jobs, and of the newest ones.
pub(crate) struct ListOfQueues {
    /// Whether there is a function that finds the queues of all pending jobs.
    pub(crate) has_companions: bool,
    pub(crate) limit: i64,
}

statement!(
    filtered "list the queues":
    ListOfQueues -> ListedQueue: (Text, BigInt, BigInt, BigInt, BigInt, Nullable<Timestamptz>, BigInt),
    |statement, out| {
        out.push_sql(RUNNING_BY_QUEUE);
        out.push_sql(&newest_failed("queue_name", statement.has_companions));
        out.push_sql(QUEUES_IN_USE);
        if statement.has_companions {
            out.push_sql(" UNION SELECT unnest(procrastinate_diesel_pending_queues_v1())");
        }
        if statement.has_companions {
            out.push_sql("), ");
            out.push_sql(CEILING_OF_QUEUES);
            out.push_sql(COUNTS_OF_QUEUES);
        } else {
            out.push_sql("), ");
            out.push_sql(NEXT_PENDING);
            out.push_sql(&COUNTS_OF_QUEUES.replace("procrastinate_jobs AS job", "pending AS job"));
        }
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        Ok(())
    }
);

const RUNNING_BY_QUEUE: &str = "WITH running AS MATERIALIZED ( \
        SELECT counted.queue_name, count(*) AS jobs \
        FROM (SELECT job.queue_name FROM procrastinate_jobs AS job WHERE job.status = 'doing' \
              ORDER BY job.lock LIMIT 10001) AS counted \
        GROUP BY counted.queue_name), \
     failed AS MATERIALIZED ( \
        SELECT counted.queue_name, count(*) AS jobs \
        FROM (";

const QUEUES_IN_USE: &str = ") AS counted \
        GROUP BY counted.queue_name), \
     queue (name) AS MATERIALIZED ( \
        SELECT newest.queue_name \
        FROM (SELECT job.queue_name FROM procrastinate_jobs AS job ORDER BY job.id DESC LIMIT 5000) AS newest \
        UNION SELECT running.queue_name FROM running UNION SELECT failed.queue_name FROM failed";

const CEILING_OF_QUEUES: &str = "ceiling AS MATERIALIZED ( \
        SELECT least(10000, greatest(100, 20000 / greatest(count(*), 1))) AS jobs, false AS is_minimum FROM queue) ";

/// No index has the pending jobs of a queue, so the next ones of all queues are counted. If there are more, each count
/// is a minimum.
const NEXT_PENDING: &str = "pending AS MATERIALIZED ( \
        SELECT job.* FROM procrastinate_jobs AS job WHERE job.status = 'todo' \
        ORDER BY job.priority DESC, job.id LIMIT 10001), \
     ceiling AS MATERIALIZED ( \
        SELECT 10000::bigint AS jobs, count(*) > 10000 AS is_minimum FROM pending) ";

/// A queue is compared with `>=` and `<=`, so that only an index that begins with it serves the order.
const COUNTS_OF_QUEUES: &str = "SELECT queue.name::text, least(plain.jobs + scheduled.jobs + locked.jobs, ceiling.jobs + 1), \
        least(future.jobs + locked.future_jobs, ceiling.jobs + 1), \
        coalesce((SELECT running.jobs FROM running WHERE running.queue_name = queue.name), 0), \
        coalesce((SELECT failed.jobs FROM failed WHERE failed.queue_name = queue.name), 0), \
        least( \
            (SELECT max(event.at) FROM procrastinate_events AS event \
             WHERE event.job_id = plain.first_id AND event.type <> 'scheduled' AND isfinite(event.at)), \
            (SELECT greatest(max(event.at), locked.first_scheduled_at) FROM procrastinate_events AS event \
             WHERE event.job_id = locked.first_id AND event.type <> 'scheduled' AND isfinite(event.at)), \
            due.scheduled_at), \
        CASE WHEN ceiling.is_minimum THEN greatest(plain.jobs + scheduled.jobs + locked.jobs - 1, 0) \
            ELSE ceiling.jobs END \
     FROM queue CROSS JOIN ceiling \
     CROSS JOIN LATERAL ( \
        SELECT count(*) AS jobs, min(counted.id) AS first_id \
        FROM (SELECT job.id FROM procrastinate_jobs AS job \
              WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL \
                AND job.queue_name >= queue.name AND job.queue_name <= queue.name \
              ORDER BY job.queue_name, job.priority DESC, job.id LIMIT (SELECT ceiling.jobs + 1 FROM ceiling)) AS counted) AS plain \
     CROSS JOIN LATERAL ( \
        SELECT count(*) AS jobs \
        FROM (SELECT FROM procrastinate_jobs AS job \
              WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL \
                AND job.queue_name >= queue.name AND job.queue_name <= queue.name \
              ORDER BY job.queue_name, job.priority DESC, job.id LIMIT (SELECT ceiling.jobs + 1 FROM ceiling)) AS counted) AS scheduled \
     CROSS JOIN LATERAL ( \
        SELECT count(*) AS jobs \
        FROM (SELECT FROM procrastinate_jobs AS job \
              WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at > now() \
                AND job.queue_name >= queue.name AND job.queue_name <= queue.name \
              ORDER BY job.queue_name, job.scheduled_at LIMIT (SELECT ceiling.jobs + 1 FROM ceiling)) AS counted) AS future \
     LEFT JOIN LATERAL ( \
        SELECT job.scheduled_at FROM procrastinate_jobs AS job \
        WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at <= now() AND isfinite(job.scheduled_at) \
          AND job.queue_name >= queue.name AND job.queue_name <= queue.name \
        ORDER BY job.queue_name, job.scheduled_at LIMIT 1) AS due ON true \
     CROSS JOIN LATERAL ( \
        SELECT count(*) AS jobs, count(*) FILTER (WHERE counted.scheduled_at > now()) AS future_jobs, \
            min(counted.id) FILTER (WHERE (counted.scheduled_at > now()) IS NOT TRUE) AS first_id, \
            (array_agg(counted.scheduled_at ORDER BY counted.id) \
                FILTER (WHERE (counted.scheduled_at > now()) IS NOT TRUE))[1] AS first_scheduled_at \
        FROM (SELECT job.id, job.scheduled_at FROM procrastinate_jobs AS job \
              WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name >= queue.name AND job.queue_name <= queue.name \
              ORDER BY job.queue_name, job.priority DESC, job.id LIMIT (SELECT ceiling.jobs + 1 FROM ceiling)) AS counted) AS locked \
     ORDER BY queue.name LIMIT ";

/// A worker, and how many jobs it runs.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ListedWorker {
    pub(crate) id: i64,
    pub(crate) heartbeat: DateTime<Utc>,
    pub(crate) jobs: i64,
    /// The first of the jobs that it runs.
    pub(crate) job_ids: Vec<i64>,
    pub(crate) queues: Vec<String>,
}

/// The workers, by ID.
pub(crate) struct ListOfWorkers {
    pub(crate) limit: i64,
}

statement!(
    "list the workers":
    ListOfWorkers -> ListedWorker:
    (BigInt, Timestamptz, BigInt, diesel::sql_types::Array<BigInt>, diesel::sql_types::Array<Text>),
    |statement, out| {
        out.push_sql(
            "SELECT worker.id, CASE WHEN isfinite(worker.last_heartbeat) THEN worker.last_heartbeat ELSE to_timestamp(0) END, \
                running.jobs, coalesce(running.ids[:10], '{}'), coalesce(running.queues, '{}') \
             FROM procrastinate_workers AS worker \
             CROSS JOIN LATERAL ( \
                SELECT count(*) AS jobs, array_agg(counted.id ORDER BY counted.id) AS ids, \
                    array_agg(DISTINCT counted.queue_name::text) AS queues \
                FROM (SELECT job.id, job.queue_name FROM procrastinate_jobs AS job \
                      WHERE job.worker_id = worker.id AND job.status = 'doing' LIMIT 1000) AS counted) AS running \
             ORDER BY worker.id DESC LIMIT ",
        );
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        Ok(())
    }
);

/// Whether a worker has sent a heartbeat within this time.
pub(crate) struct IsWorkerAlive {
    pub(crate) within_seconds: i32,
}

statement!("look for a worker": IsWorkerAlive -> bool: Bool, |statement, out| {
    out.push_sql(
        "SELECT EXISTS (SELECT FROM procrastinate_workers \
         WHERE last_heartbeat > now() - make_interval(secs => ",
    );
    out.push_bind_param::<Integer, _>(&statement.within_seconds)?;
    out.push_sql("))");
    Ok(())
});
