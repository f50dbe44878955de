//! The tasks: their jobs, and how their newest jobs ended.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz};

use crate::database::statements::admin::{CEILING, newest_failed};
use crate::database::statements::statement;

/// How many of the newest jobs that ended are measured.
pub(crate) const MEASURED_RUNS: i64 = 1_000;

/// In how many of the newest events they are searched if there is no index of such events.
const SEARCHED_EVENTS: i64 = 20_000;

/// A job with more events than this is not measured.
pub(crate) const MOST_EVENTS: i64 = 100;

/// The names of tasks, sorted: those of pending, running and failed jobs, and of the newest jobs.
pub(crate) struct NamesOfTasks {
    /// Whether there is an index of the pending jobs by task.
    pub(crate) has_companions: bool,
    pub(crate) limit: i64,
}

statement!(filtered "list the tasks": NamesOfTasks -> String: Text, |statement, out| {
    if statement.has_companions {
        out.push_sql(PENDING_TASKS);
    } else {
        out.push_sql(
            "WITH pending (name) AS MATERIALIZED ( \
                SELECT job.task_name FROM procrastinate_jobs AS job WHERE job.status = 'todo' LIMIT 10001)",
        );
    }
    out.push_sql(
        " SELECT task.name::text FROM ( \
            SELECT pending.name FROM pending \
            UNION SELECT newest.task_name FROM ( \
                SELECT job.task_name FROM procrastinate_jobs AS job ORDER BY job.id DESC LIMIT 5000) AS newest \
            UNION SELECT running.task_name FROM ( \
                SELECT job.task_name FROM procrastinate_jobs AS job WHERE job.status = 'doing' \
                ORDER BY job.lock LIMIT 10001) AS running",
    );
    if statement.has_companions {
        out.push_sql(&format!(
            " UNION SELECT failed.task_name FROM ({}) AS failed \
              UNION SELECT control.name FROM procrastinate_diesel_flow_controls AS control WHERE control.kind = 'task'",
            newest_failed("task_name", true)
        ));
    }
    out.push_sql(") AS task (name) ORDER BY task.name LIMIT ");
    out.push_bind_param::<BigInt, _>(&statement.limit)?;
    Ok(())
});

/// Goes from task to task in the index of pending jobs.
const PENDING_TASKS: &str = "WITH RECURSIVE walked (kind, name) AS ( \
        SELECT kind.number, ( \
            SELECT job.task_name FROM procrastinate_jobs AS job \
            WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = kind.number \
            ORDER BY job.task_name LIMIT 1) \
        FROM (VALUES (0), (1), (2)) AS kind (number) \
      UNION ALL \
        SELECT walked.kind, ( \
            SELECT job.task_name FROM procrastinate_jobs AS job \
            WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = walked.kind \
              AND job.task_name > walked.name \
            ORDER BY job.task_name LIMIT 1) \
        FROM walked WHERE walked.name IS NOT NULL), \
     pending (name) AS MATERIALIZED (SELECT walked.name FROM walked WHERE walked.name IS NOT NULL LIMIT 1500)";

/// A task, and how many jobs it has.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct CountedTask {
    pub(crate) name: String,
    pub(crate) pending: i64,
    pub(crate) running: i64,
    pub(crate) failed: i64,
}

/// How many jobs these tasks have. Pending jobs are counted up to one more than the ceiling.
pub(crate) struct CountsOfTasks {
    pub(crate) names: Vec<String>,
    pub(crate) ceiling: i64,
    pub(crate) has_companions: bool,
}

statement!(
    filtered "count the jobs":
    CountsOfTasks -> CountedTask: (Text, BigInt, BigInt, BigInt),
    |statement, out| {
        // Its numbers make it a statement of its own.
        out.unsafe_to_cache_prepared();
        let most = CEILING + 1;
        out.push_sql(&format!(
            "WITH running AS MATERIALIZED ( \
                SELECT counted.task_name, count(*) AS jobs FROM ( \
                    SELECT job.task_name FROM procrastinate_jobs AS job WHERE job.status = 'doing' \
                    ORDER BY job.lock LIMIT {most}) AS counted GROUP BY counted.task_name), \
             failed AS MATERIALIZED ( \
                SELECT counted.task_name, count(*) AS jobs FROM ({}) AS counted GROUP BY counted.task_name)",
            newest_failed("task_name", statement.has_companions)
        ));
        if !statement.has_companions {
            out.push_sql(&format!(
                ", pending AS MATERIALIZED ( \
                    SELECT counted.task_name, count(*) AS jobs FROM ( \
                        SELECT job.task_name FROM procrastinate_jobs AS job WHERE job.status = 'todo' LIMIT {most}) \
                        AS counted GROUP BY counted.task_name)"
            ));
        }
        out.push_sql(" SELECT task.name, ");
        if statement.has_companions {
            // The limit outside ends the search, too. Each kind has a part of the index.
            let most = statement.ceiling + 1;
            let counted = [0, 1, 2].map(|kind| {
                format!(
                    "(SELECT FROM procrastinate_jobs AS job \
                      WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = {kind} \
                        AND job.task_name = task.name \
                      ORDER BY job.queue_name, job.priority DESC, job.id LIMIT {most})"
                )
            });
            let counted = counted.join(" UNION ALL ");
            out.push_sql(&format!("(SELECT count(*) FROM ({counted} LIMIT {most}) AS counted)"));
        } else {
            out.push_sql("coalesce((SELECT pending.jobs FROM pending WHERE pending.task_name = task.name), 0)");
        }
        out.push_sql(
            ", coalesce((SELECT running.jobs FROM running WHERE running.task_name = task.name), 0), \
             coalesce((SELECT failed.jobs FROM failed WHERE failed.task_name = task.name), 0) FROM unnest(",
        );
        out.push_bind_param::<Array<Text>, _>(&statement.names)?;
        out.push_sql("::text[]) WITH ORDINALITY AS task (name, place) ORDER BY task.place");
        Ok(())
    }
);

/// How the newest jobs of a task ended.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct MeasuredTask {
    pub(crate) name: String,
    pub(crate) runs: i64,
    pub(crate) failed: i64,
    pub(crate) median_seconds: Option<f64>,
    pub(crate) longest_seconds: Option<f64>,
    /// When the first of them ended.
    pub(crate) since: DateTime<Utc>,
}

/// How the newest jobs that ended did so, by task.
pub(crate) struct MeasuredTasks {
    /// Whether there is an index of the events with which jobs end.
    pub(crate) has_companions: bool,
}

statement!(
    filtered "measure the tasks":
    MeasuredTasks -> MeasuredTask: (Text, BigInt, BigInt, Nullable<Double>, Nullable<Double>, Timestamptz),
    |statement, out| {
        out.push_sql("WITH ");
        if statement.has_companions {
            let newest = |kind: &str| {
                format!(
                    "(SELECT event.id, event.job_id, event.type, event.at FROM procrastinate_events AS event \
                      WHERE event.type = '{kind}' AND event.at <= now() \
                      ORDER BY event.at DESC, event.id DESC LIMIT {MEASURED_RUNS})"
                )
            };
            out.push_sql(&format!(
                "newest AS MATERIALIZED ({} UNION ALL {}), ",
                newest("succeeded"),
                newest("failed")
            ));
        } else {
            out.push_sql(&format!(
                "newest AS MATERIALIZED ( \
                    SELECT event.id, event.job_id, event.type, event.at FROM procrastinate_events AS event \
                    ORDER BY event.id DESC LIMIT {SEARCHED_EVENTS}), "
            ));
        }
        out.push_sql(&format!(
            "ended AS MATERIALIZED ( \
                SELECT newest.* FROM newest \
                WHERE newest.type IN ('succeeded', 'failed') AND isfinite(newest.at) AND newest.at <= now() \
                ORDER BY newest.at DESC LIMIT {MEASURED_RUNS}) \
             SELECT job.task_name::text, count(*), count(*) FILTER (WHERE ended.type = 'failed'), \
                percentile_cont(0.5) WITHIN GROUP (ORDER BY run.seconds), max(run.seconds), min(ended.at) \
             FROM ended \
             CROSS JOIN LATERAL ( \
                SELECT job.task_name FROM procrastinate_jobs AS job WHERE job.id = ended.job_id LIMIT 1) AS job \
             CROSS JOIN LATERAL ( \
                SELECT CASE WHEN count(*) <= {MOST_EVENTS} THEN extract(epoch FROM ended.at - max(event.at) \
                    FILTER (WHERE event.type = 'started' AND event.id < ended.id AND isfinite(event.at)))::float8 \
                    END AS seconds \
                FROM (SELECT event.id, event.type, event.at FROM procrastinate_events AS event \
                      WHERE event.job_id = ended.job_id LIMIT {MOST_EVENTS} + 1) AS event) AS run \
             GROUP BY job.task_name"
        ));
        Ok(())
    }
);
