//! Lists of jobs, by ID.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::database::statements::admin::CEILING;
use crate::database::statements::statement;
use crate::job::JobStatus;

/// How many jobs one page passes by in its search for those that match.
const WINDOW: i64 = 20_000;

/// The same in a search for a text, which takes longer.
const TEXT_WINDOW: i64 = 5_000;

/// How many jobs are searched to count those that match.
const MOST_COUNTED: i64 = 100_000;

/// Which jobs a page lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageFilter {
    pub(crate) status: Option<JobStatus>,
    pub(crate) queue: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) lock: Option<String>,
    pub(crate) queueing_lock: Option<String>,
    pub(crate) worker: Option<i64>,
    pub(crate) priority: Option<i32>,
    /// Only jobs with or without a time.
    pub(crate) is_scheduled: Option<bool>,
    /// In the arguments, or in an error.
    pub(crate) text: Option<String>,
    /// Whether arguments are not searched, because some are hidden.
    pub(crate) skips_arguments: bool,
    /// Whether there is a table of errors.
    pub(crate) has_errors: bool,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// At the newest job.
    Newest,
    /// With the jobs before this one, newest first.
    Before(i64),
    /// With the jobs after this one, oldest first.
    After(i64),
}

impl PageFilter {
    /// Whether jobs must be passed by to find those that match.
    pub(crate) fn is_selective(&self) -> bool {
        let by_status = Self { status: self.status.clone(), has_errors: self.has_errors, ..Self::default() };
        *self != by_status || self.status == Some(JobStatus::Succeeded)
    }

    /// How many jobs one page passes by.
    pub(crate) fn window(&self) -> i64 {
        if self.text.is_some() { TEXT_WINDOW } else { WINDOW }
    }

    /// The jobs among which to search: those of one status, if an index has them in the order of their IDs.
    fn write_window(&self, cursor: &Cursor, limit: i64, out: &mut AstPass<'_, '_, Pg>) {
        // Its numbers make it a statement of its own.
        out.unsafe_to_cache_prepared();
        // The status is a literal, so that a partial index serves it.
        let source = match &self.status {
            Some(JobStatus::Todo) => "procrastinate_jobs WHERE status = 'todo'",
            Some(JobStatus::Failed) => "procrastinate_jobs WHERE status = 'failed'",
            Some(JobStatus::Cancelled) => "procrastinate_jobs WHERE status = 'cancelled'",
            Some(JobStatus::Aborted) => "procrastinate_jobs WHERE status = 'aborted'",
            // They are few, and no index has them in this order.
            Some(JobStatus::Doing) => {
                "(SELECT * FROM procrastinate_jobs WHERE status = 'doing' OFFSET 0) AS running WHERE true"
            }
            _ => "procrastinate_jobs WHERE true",
        };
        out.push_sql("(SELECT * FROM ");
        out.push_sql(source);
        // The numbers are no binds, because a statement may have one plan for all values.
        match cursor {
            Cursor::Newest => out.push_sql(" ORDER BY id DESC LIMIT "),
            Cursor::Before(id) => out.push_sql(&format!(" AND id < {id} ORDER BY id DESC LIMIT ")),
            Cursor::After(id) => out.push_sql(&format!(" AND id > {id} ORDER BY id LIMIT ")),
        }
        out.push_sql(&format!("{limit}) AS job"));
    }

    fn write_conditions<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" WHERE true");
        if self.status == Some(JobStatus::Succeeded) {
            out.push_sql(" AND job.status = 'succeeded'");
        }
        for (condition, value) in [
            (" AND job.queue_name = ", &self.queue),
            (" AND job.task_name = ", &self.task),
            (" AND job.lock = ", &self.lock),
            (" AND job.queueing_lock = ", &self.queueing_lock),
        ] {
            if let Some(value) = value {
                out.push_sql(condition);
                out.push_bind_param::<Text, _>(value)?;
            }
        }
        if let Some(worker) = &self.worker {
            out.push_sql(" AND job.worker_id = ");
            out.push_bind_param::<BigInt, _>(worker)?;
        }
        if let Some(priority) = &self.priority {
            out.push_sql(" AND job.priority = ");
            out.push_bind_param::<Integer, _>(priority)?;
        }
        match self.is_scheduled {
            Some(true) => out.push_sql(" AND job.scheduled_at IS NOT NULL"),
            Some(false) => out.push_sql(" AND job.scheduled_at IS NULL"),
            None => {}
        }
        if let Some(text) = &self.text {
            out.push_sql(if self.skips_arguments { " AND (false" } else { " AND (true" });
            out.push_sql(" AND strpos(lower(job.args::text), lower(");
            out.push_bind_param::<Text, _>(text)?;
            out.push_sql(")) > 0");
            if !self.has_errors {
                out.push_sql(")");
                return Ok(());
            }
            out.push_sql(
                " OR EXISTS (SELECT FROM procrastinate_diesel_job_errors AS failure \
                 WHERE failure.job_id = job.id AND strpos(lower(failure.error), lower(",
            );
            out.push_bind_param::<Text, _>(text)?;
            out.push_sql(")) > 0))");
        }
        Ok(())
    }
}

/// A job in a list. Long arguments are cut.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ListedJob {
    pub(crate) id: i64,
    pub(crate) queue: String,
    pub(crate) task: String,
    pub(crate) priority: i32,
    pub(crate) lock: Option<String>,
    pub(crate) arguments: String,
    pub(crate) status: String,
    pub(crate) scheduled_at: Option<DateTime<Utc>>,
    pub(crate) attempts: i32,
    pub(crate) is_abort_requested: bool,
    /// The time of its last event.
    pub(crate) changed_at: Option<DateTime<Utc>>,
}

/// The jobs of one page, and one more if there are more.
pub(crate) struct ListOfJobs {
    pub(crate) filter: PageFilter,
    pub(crate) cursor: Cursor,
    pub(crate) limit: i64,
}

statement!(
    filtered "list the jobs":
    ListOfJobs -> ListedJob: (BigInt, Text, Text, Integer, Nullable<Text>, Text, Text, Nullable<Timestamptz>, Integer, Bool, Nullable<Timestamptz>),
    |statement, out| {
        out.push_sql(
            "SELECT job.id, job.queue_name::text, job.task_name::text, job.priority, job.lock, \
             left(job.args::text, 200), job.status::text, \
             CASE WHEN isfinite(job.scheduled_at) THEN job.scheduled_at END, job.attempts, job.abort_requested, \
             (SELECT max(event.at) FROM procrastinate_events AS event \
              WHERE event.job_id = job.id AND event.type <> 'scheduled' AND isfinite(event.at)) \
             FROM (SELECT job.* FROM ",
        );
        let limit = if statement.filter.is_selective() { statement.filter.window() } else { statement.limit };
        statement.filter.write_window(&statement.cursor, limit, &mut out.reborrow());
        statement.filter.write_conditions(out)?;
        let order = if matches!(statement.cursor, Cursor::After(_)) { "" } else { " DESC" };
        out.push_sql(&format!(
            " ORDER BY job.id{order} LIMIT {}) AS job ORDER BY job.id{order}",
            statement.limit
        ));
        Ok(())
    }
);

/// How many jobs match, of the first hundred thousand with their status, and up to one more than the ceiling.
pub(crate) struct CountMatching(pub(crate) PageFilter);

statement!(filtered "count the jobs": CountMatching -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT count(*) FROM (SELECT FROM ");
    statement.0.write_window(&Cursor::Newest, MOST_COUNTED, &mut out.reborrow());
    statement.0.write_conditions(out)?;
    out.push_sql(&format!(" LIMIT {}) AS matching", CEILING + 1));
    Ok(())
});

/// How far a page with a filter has searched: the last job that it has passed by, if there may be more behind it.
pub(crate) struct EndOfWindow {
    pub(crate) filter: PageFilter,
    pub(crate) cursor: Cursor,
}

statement!(
    filtered "search the jobs":
    EndOfWindow -> Option<i64>: Nullable<BigInt>,
    |statement, out| {
        let last = if matches!(statement.cursor, Cursor::After(_)) { "max" } else { "min" };
        let window = statement.filter.window();
        out.push_sql(&format!("SELECT CASE WHEN count(*) >= {window} THEN {last}(job.id) END FROM "));
        statement.filter.write_window(&statement.cursor, window, out);
        Ok(())
    }
);
