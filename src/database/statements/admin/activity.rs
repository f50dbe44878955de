//! What jobs did in the last hour or day, from samples of their events, and which job has waited longest.
//!
//! The IDs of events grow with time. So a search by halves finds the first event of the period, and the IDs from there
//! are divided into pieces of equal length. Of each piece the first few events are read. If there are few events, that
//! is all of them.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz};

use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::tasks::MOST_EVENTS;
use crate::database::statements::statement;

/// Into how many pieces the events are divided.
const PIECES: i64 = 500;

/// How many events of each piece are read.
const EVENTS_OF_PIECE: i64 = 10;

/// For how many starts the events of their jobs are read, to find out how long the jobs have waited.
const MEASURED_STARTS: i64 = 300;

/// How many events next to each other may have a date in the future before a search by halves passes them by.
const NEIGHBOURS: i64 = 20;

/// What jobs did in a part of the period. Parts are counted from 0 for the newest.
#[derive(Debug, Clone, PartialEq, diesel::Queryable)]
pub(crate) struct ActivityRow {
    pub(crate) part: i32,
    pub(crate) succeeded: f64,
    pub(crate) failed: f64,
    /// Whether all events were read.
    pub(crate) is_exact: bool,
    /// How long jobs have waited, from the time when they could start: the median, and what 95 % did not exceed.
    pub(crate) median_wait: Option<f64>,
    pub(crate) high_wait: Option<f64>,
}

/// What jobs did in the parts of the last period. A part without events has no row.
pub(crate) struct Activity {
    pub(crate) parts: i32,
    pub(crate) part_seconds: i32,
}

statement!(
    filtered "count what jobs did":
    Activity -> ActivityRow: (Integer, Double, Double, Bool, Nullable<Double>, Nullable<Double>),
    |statement, out| {
        // Its numbers make it a statement of its own.
        out.unsafe_to_cache_prepared();
        let since = format!("now() - make_interval(secs => {} * {})", statement.part_seconds, statement.parts);
        out.push_sql(&format!(
            "WITH RECURSIVE ends AS MATERIALIZED ( \
                SELECT (SELECT event.id FROM procrastinate_events AS event ORDER BY event.id LIMIT 1) AS first, \
                    (SELECT event.id FROM procrastinate_events AS event ORDER BY event.id DESC LIMIT 1) AS last), \
             search (low, high) AS ( \
                SELECT ends.first, ends.last FROM ends WHERE ends.last IS NOT NULL \
              UNION ALL \
                SELECT CASE WHEN probe.is_before THEN middle.id ELSE search.low END, \
                    CASE WHEN probe.is_before THEN search.high ELSE middle.id END \
                FROM search \
                CROSS JOIN LATERAL (SELECT search.low + (search.high - search.low) / 2 AS id) AS middle \
                CROSS JOIN LATERAL (SELECT coalesce(( \
                    SELECT near.at < {since} \
                    FROM (SELECT event.type, event.at FROM procrastinate_events AS event \
                          WHERE event.id >= middle.id ORDER BY event.id LIMIT {NEIGHBOURS}) AS near \
                    WHERE near.type <> 'scheduled' AND isfinite(near.at) LIMIT 1), false) AS is_before OFFSET 0) AS probe \
                WHERE search.high - search.low > 1), \
             span AS MATERIALIZED ( \
                SELECT found.first, ends.last, greatest(1, ceil((ends.last - found.first + 1) / {PIECES}.0))::bigint AS width \
                FROM ends CROSS JOIN (SELECT max(search.low) AS first FROM search) AS found), "
        ));
        out.push_sql(&format!(
            "sampled AS MATERIALIZED ( \
                SELECT event.id, event.job_id, event.type, event.at, \
                    CASE WHEN event.found < {EVENTS_OF_PIECE} THEN 1 \
                        ELSE span.width::float8 / (event.last - piece.first + 1) END AS weight, \
                    floor(extract(epoch FROM now() - event.at) / {seconds})::integer AS part \
                FROM span \
                CROSS JOIN LATERAL ( \
                    SELECT span.first + number * span.width AS first FROM generate_series(0, {PIECES} - 1) AS number \
                    WHERE span.first + number * span.width <= span.last) AS piece \
                CROSS JOIN LATERAL ( \
                    SELECT near.*, count(*) OVER () AS found, max(near.id) OVER () AS last \
                    FROM (SELECT event.id, event.job_id, event.type, event.at FROM procrastinate_events AS event \
                          WHERE event.id >= piece.first AND event.id < piece.first + span.width \
                          ORDER BY event.id LIMIT {EVENTS_OF_PIECE}) AS near) AS event \
                WHERE event.type IN ('started', 'succeeded', 'failed') AND event.at <= now() AND event.at > {since}), ",
            seconds = statement.part_seconds,
        ));
        let waited = waited();
        out.push_sql(&format!(
            "started AS MATERIALIZED ( \
                SELECT numbered.* FROM ( \
                    SELECT sampled.*, row_number() OVER (ORDER BY sampled.id) AS number \
                    FROM sampled WHERE sampled.type = 'started') AS numbered \
                WHERE numbered.number % (SELECT ceil(count(*) / {MEASURED_STARTS}.0)::bigint \
                    FROM sampled WHERE sampled.type = 'started') = 0), \
             {waited}, waits AS ( \
                SELECT waited.part, percentile_cont(0.5) WITHIN GROUP (ORDER BY waited.seconds) AS median, \
                    percentile_cont(0.95) WITHIN GROUP (ORDER BY waited.seconds) AS high \
                FROM waited GROUP BY waited.part), \
             counts AS ( \
                SELECT sampled.part, coalesce(sum(sampled.weight) FILTER (WHERE sampled.type = 'succeeded'), 0) AS succeeded, \
                    coalesce(sum(sampled.weight) FILTER (WHERE sampled.type = 'failed'), 0) AS failed, \
                    bool_and(sampled.weight = 1) AS is_exact \
                FROM sampled GROUP BY sampled.part) \
             SELECT counts.part, counts.succeeded, counts.failed, counts.is_exact, waits.median, waits.high \
             FROM counts LEFT JOIN waits ON waits.part = counts.part ORDER BY counts.part"
        ));
        Ok(())
    }
);

/// How long the jobs of the sampled starts have waited: since the last event before their start, or since the time for
/// which they were scheduled. A job that was started before its time is left out.
fn waited() -> String {
    format!(
        "waited AS MATERIALIZED ( \
        SELECT started.part, extract(epoch FROM started.at - history.ready_at)::float8 AS seconds \
        FROM started CROSS JOIN LATERAL ( \
            SELECT CASE WHEN max(event.found) <= {MOST_EVENTS} AND bool_and(event.at <= started.at) THEN max(event.at) END AS ready_at \
            FROM (SELECT event.id, event.at, count(*) OVER () AS found, \
                      max(event.id) FILTER (WHERE event.type = 'started' AND event.id < started.id) OVER () AS former_start \
                  FROM (SELECT event.id, event.type, event.at FROM procrastinate_events AS event \
                        WHERE event.job_id = started.job_id LIMIT {MOST_EVENTS} + 1) AS event) AS event \
            WHERE event.id < started.id AND event.id > coalesce(event.former_start, event.id - 1)) AS history)"
    )
}

/// How many jobs failed in the parts of the last period: at most one more than the ceiling altogether, the newest.
/// There must be an index of the events with which jobs end.
pub(crate) struct Failures {
    pub(crate) parts: i32,
    pub(crate) part_seconds: i32,
}

statement!(filtered "count the failures": Failures -> (i32, i64): (Integer, BigInt), |statement, out| {
    // Its numbers make it a statement of its own.
    out.unsafe_to_cache_prepared();
    out.push_sql(&format!(
        "SELECT floor(extract(epoch FROM now() - newest.at) / {seconds})::integer, count(*) \
         FROM (SELECT event.at FROM procrastinate_events AS event \
               WHERE event.type = 'failed' AND event.at <= now() \
                 AND event.at > now() - make_interval(secs => {seconds} * {parts}) \
               ORDER BY event.at DESC LIMIT {most}) AS newest \
         GROUP BY 1 ORDER BY 1",
        seconds = statement.part_seconds,
        parts = statement.parts,
        most = CEILING + 1
    ));
    Ok(())
});

/// A pending job that could start.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct WaitingJob {
    pub(crate) id: i64,
    pub(crate) queue: String,
    pub(crate) task: String,
    pub(crate) since: DateTime<Utc>,
}

/// The job that has waited longest, of the first jobs of each priority, the first scheduled one that is due, and the
/// first ones with a lock of each queue and priority.
pub(crate) struct OldestWaiting {
    /// Whether there are indexes for that. Otherwise, it is the first of the thousand pending jobs with the lowest IDs.
    pub(crate) has_companions: bool,
}

statement!(
    filtered "look for the oldest pending job":
    OldestWaiting -> WaitingJob: (BigInt, Text, Text, Timestamptz),
    |statement, out| {
        out.push_sql(if statement.has_companions { FIRST_JOBS } else { FIRST_JOBS_BY_ID });
        out.push_sql(&format!(
            " SELECT waiting.id, waiting.queue_name::text, waiting.task_name::text, waiting.since FROM ( \
                SELECT job.id, job.queue_name, job.task_name, greatest(job.scheduled_at, last.at) AS since \
                FROM first CROSS JOIN LATERAL ( \
                    SELECT job.* FROM procrastinate_jobs AS job WHERE job.id = first.id LIMIT 1) AS job \
                CROSS JOIN LATERAL ( \
                    SELECT max(event.at) FILTER (WHERE event.type <> 'scheduled') AS at \
                    FROM (SELECT event.type, event.at FROM procrastinate_events AS event \
                          WHERE event.job_id = job.id LIMIT {MOST_EVENTS}) AS event) AS last) AS waiting \
             WHERE isfinite(waiting.since) AND waiting.since <= now() ORDER BY waiting.since, waiting.id LIMIT 1"
        ));
        Ok(())
    }
);

const FIRST_JOBS_BY_ID: &str = "WITH first AS MATERIALIZED ( \
        SELECT job.id FROM procrastinate_jobs AS job WHERE job.status = 'todo' ORDER BY job.id LIMIT 1000)";

/// Each step finds the next priority, or queue and priority, in an index. Then their first jobs are read. A queue or
/// priority is compared with `>=` and `<=`, so that only an index that begins with it serves the order.
const FIRST_JOBS: &str = "WITH RECURSIVE unlocked (priority, id) AS ( \
        (SELECT job.priority, job.id FROM procrastinate_jobs AS job \
         WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL \
         ORDER BY job.priority DESC, job.id LIMIT 1) \
      UNION ALL \
        SELECT next.priority, next.id FROM unlocked CROSS JOIN LATERAL ( \
            SELECT job.priority, job.id FROM procrastinate_jobs AS job \
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL \
              AND job.priority < unlocked.priority \
            ORDER BY job.priority DESC, job.id LIMIT 1) AS next), \
     locked (queue_name, priority, id) AS ( \
        (SELECT job.queue_name, job.priority, job.id FROM procrastinate_jobs AS job \
         WHERE job.status = 'todo' AND job.lock IS NOT NULL \
         ORDER BY job.queue_name, job.priority DESC, job.id LIMIT 1) \
      UNION ALL \
        SELECT next.queue_name, next.priority, next.id FROM locked CROSS JOIN LATERAL ( \
            SELECT step.* FROM ( \
                (SELECT 1 AS place, job.queue_name, job.priority, job.id FROM procrastinate_jobs AS job \
                 WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name = locked.queue_name \
                   AND job.priority < locked.priority \
                 ORDER BY job.priority DESC, job.id LIMIT 1) \
              UNION ALL \
                (SELECT 2, job.queue_name, job.priority, job.id FROM procrastinate_jobs AS job \
                 WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name > locked.queue_name \
                 ORDER BY job.queue_name, job.priority DESC, job.id LIMIT 1)) AS step \
            ORDER BY step.place LIMIT 1) AS next), \
     first AS MATERIALIZED ( \
        (SELECT job.id FROM (SELECT unlocked.priority FROM unlocked LIMIT 100) AS place \
         CROSS JOIN LATERAL ( \
            SELECT job.id FROM procrastinate_jobs AS job \
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL \
              AND job.priority >= place.priority AND job.priority <= place.priority \
            ORDER BY job.priority DESC, job.id LIMIT 20) AS job \
         LIMIT 300) \
      UNION ALL \
        (SELECT job.id FROM (SELECT locked.queue_name, locked.priority FROM locked LIMIT 200) AS place \
         CROSS JOIN LATERAL ( \
            SELECT job.id FROM procrastinate_jobs AS job \
            WHERE job.status = 'todo' AND job.lock IS NOT NULL \
              AND job.queue_name >= place.queue_name AND job.queue_name <= place.queue_name \
              AND job.priority >= place.priority AND job.priority <= place.priority \
            ORDER BY job.queue_name, job.priority DESC, job.id LIMIT 5) AS job \
         LIMIT 300) \
      UNION ALL \
        (SELECT job.id FROM procrastinate_jobs AS job \
         WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL \
           AND job.scheduled_at AT TIME ZONE 'UTC' <= now() AT TIME ZONE 'UTC' \
         ORDER BY job.scheduled_at AT TIME ZONE 'UTC' LIMIT 1))";
