//! Statements that explain why a job is not running.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz};

use crate::database::models::{ProcrastinateEvent, ProcrastinateJob, ProcrastinateWorker};
use crate::database::statements::inspect::SELECT_JOBS;
use crate::database::statements::statement;
use crate::job::JobId;
use procrastinate_schema::schema::{procrastinate_events, procrastinate_jobs, procrastinate_workers};

/// The time by the database's clock, which decides what is due and who is alive.
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the pages need it"))]
pub(crate) struct CurrentTime;

statement!("ask for the server's time": CurrentTime -> DateTime<Utc>: Timestamptz, |_, out| {
    out.push_sql("SELECT now()");
    Ok(())
});

/// The job that holds up another one with the same lock: the running one, or else the one that comes first.
pub(crate) struct HolderOfLock {
    pub(crate) job_id: JobId,
    pub(crate) lock: String,
    pub(crate) priority: i32,
}

statement!("find the holder of the lock": HolderOfLock -> ProcrastinateJob: procrastinate_jobs::SqlType, |statement, out| {
    // If any pending job comes before this one, the first of all does.
    out.push_sql(SELECT_JOBS);
    out.push_sql("id = (SELECT job.id FROM ((SELECT id, status, priority FROM procrastinate_jobs WHERE status = 'doing' AND lock = ");
    out.push_bind_param::<Text, _>(&statement.lock)?;
    out.push_sql(
        " LIMIT 1) UNION ALL (SELECT id, status, priority FROM procrastinate_jobs WHERE status = 'todo' AND lock = ",
    );
    out.push_bind_param::<Text, _>(&statement.lock)?;
    out.push_sql(" ORDER BY priority DESC, id LIMIT 1)) AS job WHERE job.id <> ");
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql(" AND (job.status = 'doing' OR ");
    write_goes_before(&statement.job_id, &statement.priority, out)?;
    out.push_sql(") ORDER BY job.status = 'doing' DESC LIMIT 1)");
    Ok(())
});

/// Whether a job comes before the one with this ID and priority, if both are due.
fn write_goes_before<'b>(job_id: &'b JobId, priority: &'b i32, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql("(job.priority > ");
    out.push_bind_param::<Integer, _>(priority)?;
    out.push_sql(" OR job.priority = ");
    out.push_bind_param::<Integer, _>(priority)?;
    out.push_sql(" AND job.id < ");
    out.push_bind_param::<BigInt, _>(job_id)?;
    out.push_sql(")");
    Ok(())
}

/// How many jobs or events are searched at most to explain a job.
pub(crate) const MOST_SEARCHED: i64 = 10_000;

/// Counts the due jobs of a queue that come before a job. They are searched among the first [`MOST_SEARCHED`] of each
/// kind of pending jobs.
pub(crate) struct JobsAhead {
    pub(crate) job_id: JobId,
    pub(crate) queue: String,
    pub(crate) priority: i32,
}

/// The kinds of pending jobs. Each has an index by queue in this order.
const KINDS_OF_JOBS: [&str; 3] = [
    "lock IS NULL AND scheduled_at IS NULL ORDER BY priority DESC, id",
    "lock IS NOT NULL ORDER BY priority DESC, id",
    "lock IS NULL AND scheduled_at <= now() ORDER BY scheduled_at",
];

statement!("count the jobs ahead": JobsAhead -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT count(*) FROM (");
    for (place, kind) in KINDS_OF_JOBS.into_iter().enumerate() {
        out.push_sql(if place == 0 { "" } else { " UNION ALL " });
        out.push_sql("(SELECT id, priority, scheduled_at FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = ");
        out.push_bind_param::<Text, _>(&statement.queue)?;
        out.push_sql(" AND ");
        out.push_sql(kind);
        out.push_sql(" LIMIT ");
        out.push_bind_param::<BigInt, _>(&MOST_SEARCHED)?;
        out.push_sql(")");
    }
    out.push_sql(") AS job WHERE (job.scheduled_at IS NULL OR job.scheduled_at <= now()) AND ");
    write_goes_before(&statement.job_id, &statement.priority, out)
});

/// The last time a job of the queue was started, of those that run and according to the newest events.
pub(crate) struct LastStart {
    pub(crate) queue: String,
}

statement!("find the last start": LastStart -> Option<DateTime<Utc>>: Nullable<Timestamptz>, |statement, out| {
    // A join could read all jobs.
    out.push_sql(
        "SELECT max(event.at) FILTER (WHERE isfinite(event.at)) FROM ( \
            (SELECT started.at FROM (SELECT id, queue_name FROM procrastinate_jobs WHERE status = 'doing' \
                ORDER BY lock LIMIT 1000) AS job \
             CROSS JOIN LATERAL (SELECT type, at FROM procrastinate_events WHERE job_id = job.id LIMIT 100) AS started \
             WHERE started.type = 'started' AND job.queue_name = ",
    );
    out.push_bind_param::<Text, _>(&statement.queue)?;
    out.push_sql(
        ") UNION ALL (SELECT newest.at FROM (SELECT job_id, type, at FROM procrastinate_events ORDER BY id DESC LIMIT ",
    );
    out.push_bind_param::<BigInt, _>(&MOST_SEARCHED)?;
    out.push_sql(
        ") AS newest WHERE newest.type = 'started' \
             AND (SELECT job.queue_name FROM procrastinate_jobs AS job WHERE job.id = newest.job_id) = ",
    );
    out.push_bind_param::<Text, _>(&statement.queue)?;
    out.push_sql(")) AS event");
    Ok(())
});

/// Counts the running jobs of a queue or task.
pub(crate) struct RunningJobs {
    /// `queue` or `task`.
    pub(crate) kind: String,
    pub(crate) name: String,
}

statement!("count the running jobs": RunningJobs -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT count(*) FROM procrastinate_jobs AS job WHERE ");
    write_is_running(&statement.kind, &statement.name, out)
});

/// How many jobs of a queue or task have started within the period of its limit, and when the first of these starts
/// does not count any more.
pub(crate) struct RecentStarts {
    /// `queue` or `task`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) period_seconds: f64,
}

statement!(
    "count the starts": RecentStarts -> (i64, Option<DateTime<Utc>>): (BigInt, Nullable<Timestamptz>),
    |statement, out| {
        out.push_sql("SELECT coalesce(sum(start.starts), 0)::bigint, min(start.at) + make_interval(secs => ");
        out.push_bind_param::<Double, _>(&statement.period_seconds)?;
        out.push_sql(
            ") FROM procrastinate_diesel_limit_states AS state \
             CROSS JOIN LATERAL procrastinate_diesel_recent_starts_v1(state.started_at, state.counted_starts, ",
        );
        out.push_bind_param::<Double, _>(&statement.period_seconds)?;
        out.push_sql(", clock_timestamp()) AS start WHERE state.kind = ");
        out.push_bind_param::<Text, _>(&statement.kind)?;
        out.push_sql(" AND state.name = ");
        out.push_bind_param::<Text, _>(&statement.name)
    }
);

/// Whether a job runs and is one of a queue or task. The appended text leaves no index but those of running jobs. One
/// on the names of queues would lead to finished jobs.
fn write_is_running<'b>(kind: &'b String, name: &'b String, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql("job.status = 'doing' AND CASE ");
    out.push_bind_param::<Text, _>(kind)?;
    out.push_sql(" WHEN 'queue' THEN job.queue_name ELSE job.task_name END || '' = ");
    out.push_bind_param::<Text, _>(name)
}

/// The key of a job for the limit of a queue or task, and how many of its running jobs have the same key. There is no
/// row if the job has no key or is gone.
///
/// It reads what decides, the jobs and their options, and not the tables from which fetches start jobs by keys. Those
/// lag behind, and a role that only reads jobs has no rights there.
pub(crate) struct RunningJobsOfKey {
    pub(crate) job_id: JobId,
    /// `queue` or `task`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Where the key is in the arguments. With an empty path, it is the one that was given with the job.
    pub(crate) path: Vec<Option<String>>,
}

statement!(filtered "count the running jobs of the key": RunningJobsOfKey -> (String, i64): (Text, BigInt), |statement, out| {
    out.push_sql("SELECT its.key, (SELECT count(*) FROM procrastinate_jobs AS job WHERE ");
    write_is_running(&statement.kind, &statement.name, out)?;
    if statement.kind == "task" {
        // A job has one key, and that of its queue comes first.
        out.push_sql(
            " AND NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.kind = 'queue' \
             AND control.name = job.queue_name AND control.key_path IS NOT NULL)",
        );
    }
    out.push_sql(" AND ");
    write_key(&statement.path, out)?;
    // Without OFFSET, the key of the job is looked up again for each running job.
    out.push_sql(" = its.key) FROM (SELECT ");
    write_key(&statement.path, out)?;
    out.push_sql(" AS key FROM procrastinate_jobs AS job WHERE job.id = ");
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql(" OFFSET 0) AS its WHERE its.key <> ''");
    Ok(())
});

/// The key of a job, or NULL. The subquery is not a join, so that it always uses the primary key.
fn write_key<'b>(path: &'b Vec<Option<String>>, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    if path.is_empty() {
        out.push_sql(
            "(SELECT options.limit_key FROM procrastinate_diesel_job_options AS options WHERE options.job_id = job.id)",
        );
        return Ok(());
    }
    out.push_sql("(job.args #>> ");
    out.push_bind_param::<Array<Nullable<Text>>, _>(path)?;
    out.push_sql(")");
    Ok(())
}

/// Whether the table of options that few jobs have exists.
pub(crate) struct JobOptionsExist;

statement!("look for options of jobs": JobOptionsExist -> bool: Bool, |_, out| {
    out.push_sql("SELECT to_regclass('procrastinate_diesel_job_options') IS NOT NULL");
    Ok(())
});

/// How many events of a job are read to explain it.
pub(crate) const MOST_EXPLAINED: i64 = 100;

/// The newest events of a job, newest first.
pub(crate) struct NewestEventsOfJob {
    pub(crate) job_id: JobId,
}

statement!("look up the job's events": NewestEventsOfJob -> ProcrastinateEvent: procrastinate_events::SqlType, |statement, out| {
    // The sum keeps the planner from reading all events in the order of their IDs.
    out.push_sql("SELECT id, job_id, type::text, at FROM procrastinate_events WHERE job_id = ");
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql(" ORDER BY id + 0 DESC LIMIT ");
    out.push_bind_param::<BigInt, _>(&MOST_EXPLAINED)?;
    Ok(())
});

/// The registered workers.
pub(crate) struct RegisteredWorkers;

statement!("list the workers": RegisteredWorkers -> ProcrastinateWorker: procrastinate_workers::SqlType, |_, out| {
    out.push_sql("SELECT id, last_heartbeat FROM procrastinate_workers ORDER BY id");
    Ok(())
});
