//! SQL that inserts rows.

use crate::tasks::TEXT;

/// Returns SQL that inserts pending jobs with their events, without triggers. `queue` is an SQL expression of the
/// number `n`.
pub(crate) fn jobs_to_do(jobs: u32, task: &str, queue: &str) -> String {
    format!(
        r#"WITH inserted AS (
               INSERT INTO procrastinate_jobs (queue_name, task_name, args)
               SELECT {queue}, '{task}', jsonb_build_object('a', n, 'b', '{TEXT}') FROM generate_series(1, {jobs}) AS n
               RETURNING id)
           INSERT INTO procrastinate_events (job_id, type) SELECT id, 'deferred' FROM inserted"#
    )
}
