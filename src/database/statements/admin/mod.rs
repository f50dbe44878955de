//! Statements of the admin pages. Each reads a bounded number of rows, however large the tables are. They rely on the
//! settings of the transaction in which pages read.

pub(crate) mod activity;
pub(crate) mod controls;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod locks;
pub(crate) mod overview;
pub(crate) mod schedules;
pub(crate) mod tasks;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Bool, Timestamptz};

use crate::database::statements::statement;

/// A count that is higher than this is not exact.
pub(crate) const CEILING: i64 = 10_000;

/// How many failed jobs are counted by queue or task. They are scattered in the table.
pub(crate) const FAILED_CEILING: i64 = 3_000;

/// A query of a column of the newest failed jobs: up to one more than the ceiling, or without the indexes of this crate
/// those among the newest jobs.
///
/// As ranges, the conditions suit only the index of unsuccessful jobs. The planner would prefer the primary key if it
/// took failed jobs for frequent.
pub(crate) fn newest_failed(column: &str, has_companions: bool) -> String {
    if has_companions {
        let most = FAILED_CEILING + 1;
        format!(
            "SELECT job.{column} FROM procrastinate_jobs AS job \
             WHERE job.status IN ('failed', 'cancelled', 'aborted') AND job.status >= 'failed' AND job.status <= 'failed' \
             ORDER BY job.status DESC, job.id DESC LIMIT {most}"
        )
    } else {
        format!(
            "SELECT newest.{column} FROM (SELECT job.{column}, job.status FROM procrastinate_jobs AS job \
             ORDER BY job.id DESC LIMIT 20000) AS newest WHERE newest.status = 'failed'"
        )
    }
}

/// The time by the database's clock, and whether it has this crate's tables. A database of Python's alone has not.
pub(crate) struct PageTime;

statement!("ask for the server's time": PageTime -> (DateTime<Utc>, bool): (Timestamptz, Bool), |_, out| {
    out.push_sql("SELECT now(), to_regclass('procrastinate_diesel_job_options') IS NOT NULL");
    Ok(())
});
