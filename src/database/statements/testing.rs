//! Statements for tests.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};

use crate::database::statements::finish_and_fetch::{FinishedOrFetched, FinishedOrFetchedColumns, SELECT_FETCHED};
use crate::database::statements::statement;

/// Takes the next job for a worker, as if it were a certain time: what a worker's own fetching does by the clock of the
/// database, which in a transaction stands still. The answer: one row, or none.
///
/// The rules of the contract's function: a job waits for its time, for the job of its lock that runs, and for those of its
/// lock that come before it; the highest priority goes first, then the lowest number.
pub(crate) struct FetchJobAt {
    pub(crate) worker_id: i64,
    /// `None`: all queues.
    pub(crate) queues: Option<Vec<String>>,
    pub(crate) now: DateTime<Utc>,
}

statement!("fetch a job": FetchJobAt -> FinishedOrFetched: FinishedOrFetchedColumns, |statement, out| {
    out.push_sql("WITH fetched AS (UPDATE procrastinate_jobs SET status = 'doing', worker_id = ");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(
        " WHERE id = (SELECT job.id FROM procrastinate_jobs AS job, (SELECT ",
    );
    out.push_bind_param::<Nullable<Array<Text>>, _>(&statement.queues)?;
    out.push_sql("::varchar[] AS queues, ");
    out.push_bind_param::<Timestamptz, _>(&statement.now)?;
    out.push_sql(
        " AS time) AS wanted \
         WHERE job.status = 'todo' \
           AND (wanted.queues IS NULL OR job.queue_name = ANY (wanted.queues)) \
           AND (job.scheduled_at IS NULL OR job.scheduled_at <= wanted.time) \
           AND (job.lock IS NULL OR NOT EXISTS ( \
                SELECT FROM procrastinate_jobs AS other \
                WHERE other.lock = job.lock \
                  AND (other.status = 'doing' \
                       OR other.status = 'todo' \
                          AND (other.priority > job.priority OR (other.priority = job.priority AND other.id < job.id))))) \
         ORDER BY job.priority DESC, job.id LIMIT 1 FOR UPDATE OF job SKIP LOCKED) \
         RETURNING *) ",
    );
    out.push_sql(SELECT_FETCHED);
    out.push_sql("fetched");
    Ok(())
});
