//! A single job, with what belongs to it.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz};

use crate::database::models::stored::StoredTimeOrNone;
use crate::database::statements::statement;

/// How many characters of the arguments, or of an error, a page shows.
pub(crate) const MOST_CHARACTERS: i32 = 20_000;

/// A job with its arguments, cut if they are long.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ShownJob {
    pub(crate) id: i64,
    pub(crate) queue: String,
    pub(crate) task: String,
    pub(crate) priority: i32,
    pub(crate) lock: Option<String>,
    pub(crate) queueing_lock: Option<String>,
    pub(crate) arguments: String,
    pub(crate) characters: i32,
    pub(crate) status: String,
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub(crate) scheduled_at: Option<DateTime<Utc>>,
    pub(crate) attempts: i32,
    pub(crate) is_abort_requested: bool,
    pub(crate) worker: Option<i64>,
}

/// The job with this ID, if there is one.
pub(crate) struct JobOfPage {
    pub(crate) id: i64,
}

statement!(
    "look up the job":
    JobOfPage -> ShownJob: (BigInt, Text, Text, Integer, Nullable<Text>, Nullable<Text>, Text, Integer, Text, Nullable<Timestamptz>, Integer, Bool, Nullable<BigInt>),
    |statement, out| {
        // The server writes the arguments, so that large numbers are exact.
        out.push_sql(&format!(
            "SELECT job.id, job.queue_name::text, job.task_name::text, job.priority, job.lock, job.queueing_lock, \
                left(pretty.arguments, {MOST_CHARACTERS}), length(pretty.arguments), job.status::text, \
                job.scheduled_at, job.attempts, job.abort_requested, job.worker_id \
             FROM procrastinate_jobs AS job CROSS JOIN LATERAL (SELECT jsonb_pretty(job.args)) AS pretty (arguments) \
             WHERE job.id = "
        ));
        out.push_bind_param::<BigInt, _>(&statement.id)?;
        Ok(())
    }
);

/// The newest events of a job, newest first.
pub(crate) struct EventsOfPage {
    pub(crate) id: i64,
    pub(crate) limit: i64,
}

statement!(
    "look up the job's events":
    EventsOfPage -> (String, StoredTimeOrNone): (Text, Nullable<Timestamptz>),
    |statement, out| {
        // The sum keeps the planner from reading all events from the back.
        out.push_sql(
            "SELECT event.type::text, event.at FROM procrastinate_events AS event WHERE event.job_id = ",
        );
        out.push_bind_param::<BigInt, _>(&statement.id)?;
        out.push_sql(" ORDER BY event.id + 0 DESC LIMIT ");
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        Ok(())
    }
);

/// The error of an attempt.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ShownError {
    pub(crate) attempt: i32,
    pub(crate) error: String,
    pub(crate) characters: i32,
    pub(crate) worker_name: Option<String>,
    pub(crate) duration_seconds: Option<f64>,
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub(crate) at: Option<DateTime<Utc>>,
}

/// The errors of the last attempts of a job, newest first.
pub(crate) struct ErrorsOfPage {
    pub(crate) id: i64,
    pub(crate) limit: i64,
}

statement!(
    "look up the job's errors":
    ErrorsOfPage -> ShownError: (Integer, Text, Integer, Nullable<Text>, Nullable<Double>, Nullable<Timestamptz>),
    |statement, out| {
        out.push_sql(&format!(
            "SELECT failure.attempt, left(failure.error, {MOST_CHARACTERS}), length(failure.error), \
                failure.worker_name, failure.duration_seconds, failure.at \
             FROM procrastinate_diesel_job_errors AS failure WHERE failure.job_id = "
        ));
        out.push_bind_param::<BigInt, _>(&statement.id)?;
        out.push_sql(" ORDER BY failure.attempt DESC LIMIT ");
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        Ok(())
    }
);

/// The unfinished jobs with a lock, in the order in which they start.
pub(crate) struct JobsOfLock {
    pub(crate) lock: String,
    pub(crate) limit: i64,
}

statement!(
    "look up the jobs of the lock":
    JobsOfLock -> (i64, String, String): (BigInt, Text, Text),
    |statement, out| {
        out.push_sql(
            "(SELECT job.id, job.task_name::text, job.status::text FROM procrastinate_jobs AS job \
              WHERE job.status = 'doing' AND job.lock = ",
        );
        out.push_bind_param::<Text, _>(&statement.lock)?;
        out.push_sql(
            " LIMIT 1) UNION ALL (SELECT job.id, job.task_name::text, job.status::text \
             FROM procrastinate_jobs AS job WHERE job.status = 'todo' AND job.lock = ",
        );
        out.push_bind_param::<Text, _>(&statement.lock)?;
        out.push_sql(" ORDER BY job.priority DESC, job.id LIMIT ");
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        out.push_sql(")");
        Ok(())
    }
);
