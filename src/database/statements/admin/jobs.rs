//! Lists of jobs, by ID.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::database::models::stored::StoredTimeOrNone;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::tasks::MOST_EVENTS;
use crate::database::statements::statement;
use crate::job::JobStatus;

/// How many jobs one page passes by in its search for those that match.
const WINDOW: i64 = 20_000;

/// The same in a search for a text, or by the end of jobs, which takes longer.
const SLOW_WINDOW: i64 = 5_000;

/// The numbers of jobs that a visitor can choose from. The time limit of a statement is a guard for the last one.
pub(crate) const WINDOWS: [i64; 3] = [SLOW_WINDOW, WINDOW, 100_000];

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
    /// The lowest and the highest ID.
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<i64>,
    /// When it ended: from this time on, and before that one.
    pub(crate) ended_since: Option<DateTime<Utc>>,
    pub(crate) ended_before: Option<DateTime<Utc>>,
    /// How many jobs one page passes by, if the visitor has chosen it.
    pub(crate) chosen_window: Option<i64>,
    /// Whether there are the tables and indexes of this crate.
    pub(crate) has_companions: bool,
    /// Whether so few jobs are pending that all of them can be read for one page. No index has them by ID.
    pub(crate) are_pending_few: bool,
    /// The same for the pending jobs with the lock of the filter. An index has them.
    pub(crate) are_few_of_lock: bool,
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

/// Jobs in the index of unsuccessful jobs, which has the order of status and ID. As ranges, the conditions do not suit
/// the primary key, which the planner prefers if it takes such jobs for frequent.
macro_rules! unsuccessful {
    ($status:literal) => {
        concat!(
            "procrastinate_jobs WHERE status IN ('failed', 'cancelled', 'aborted') AND status >= '",
            $status,
            "' AND status <= '",
            $status,
            "'"
        )
    };
}

impl PageFilter {
    /// Whether jobs must be passed by to find those that match.
    pub(crate) fn is_selective(&self) -> bool {
        let by_status = Self {
            status: self.status.clone(),
            first: self.first,
            last: self.last,
            chosen_window: self.chosen_window,
            has_companions: self.has_companions,
            are_pending_few: self.are_pending_few,
            ..Self::default()
        };
        *self != by_status || (self.status.is_some() && self.source().is_none())
    }

    /// How many jobs one page passes by.
    pub(crate) fn window(&self) -> i64 {
        let reads_more = self.text.is_some() || self.ended_since.is_some() || self.ended_before.is_some();
        self.chosen_window.unwrap_or(if reads_more { SLOW_WINDOW } else { WINDOW })
    }

    /// The jobs of the status, if they can be read by ID without the other jobs.
    fn source(&self) -> Option<&'static str> {
        // The status is a literal, so that a partial index serves it.
        match &self.status {
            // They are few.
            Some(JobStatus::Doing) => {
                Some("(SELECT * FROM procrastinate_jobs WHERE status = 'doing' OFFSET 0) AS running WHERE true")
            }
            Some(JobStatus::Todo) if self.are_pending_few => {
                Some("(SELECT * FROM procrastinate_jobs WHERE status = 'todo' OFFSET 0) AS pending WHERE true")
            }
            Some(JobStatus::Failed) if self.has_companions => Some(unsuccessful!("failed")),
            Some(JobStatus::Cancelled) if self.has_companions => Some(unsuccessful!("cancelled")),
            Some(JobStatus::Aborted) if self.has_companions => Some(unsuccessful!("aborted")),
            _ => None,
        }
    }

    /// The status, if the index of unsuccessful jobs has its jobs.
    fn unsuccessful(&self) -> Option<&str> {
        let is_in_index = matches!(self.status, Some(JobStatus::Failed | JobStatus::Cancelled | JobStatus::Aborted));
        self.status.as_ref().filter(|_| is_in_index && self.has_companions).map(JobStatus::as_str)
    }

    /// The jobs among which to search: those of one status, if they can be read by ID.
    fn write_window<'b>(&'b self, cursor: &Cursor, limit: i64, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // Its numbers make it a statement of its own.
        out.unsafe_to_cache_prepared();
        out.push_sql("(SELECT * FROM ");
        match (&self.status, &self.lock) {
            (Some(JobStatus::Todo), Some(lock)) if self.are_few_of_lock => {
                out.push_sql("(SELECT * FROM procrastinate_jobs WHERE status = 'todo' AND lock = ");
                out.push_bind_param::<Text, _>(lock)?;
                out.push_sql(" ORDER BY priority DESC, id OFFSET 0) AS pending WHERE true");
            }
            _ => out.push_sql(self.source().unwrap_or("procrastinate_jobs WHERE true")),
        }
        // The numbers are no binds, because a statement may have one plan for all values.
        let bound = |operator: &str, id: i64| match self.unsuccessful() {
            Some(status) => format!(" AND (status, id) {operator} ('{status}'::procrastinate_job_status, {id})"),
            None => format!(" AND id {operator} {id}"),
        };
        if let Some(first) = self.first {
            out.push_sql(&bound(">=", first));
        }
        if let Some(last) = self.last {
            out.push_sql(&bound("<=", last));
        }
        let (cursor, direction) = match cursor {
            Cursor::Newest => (String::new(), " DESC"),
            Cursor::Before(id) => (bound("<", *id), " DESC"),
            Cursor::After(id) => (bound(">", *id), ""),
        };
        out.push_sql(&cursor);
        out.push_sql(" ORDER BY ");
        if self.unsuccessful().is_some() {
            out.push_sql(&format!("status{direction}, "));
        }
        out.push_sql(&format!("id{direction} LIMIT "));
        out.push_sql(&format!("{limit}) AS job"));
        Ok(())
    }

    fn write_conditions<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" WHERE true");
        if let Some(status) = self.status.as_ref().filter(|_| self.source().is_none()) {
            out.push_sql(&format!(" AND job.status = '{}'", status.as_str()));
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
        self.write_end(out)?;
        self.write_text(out)
    }

    /// A job with very many events has no end here.
    fn write_end<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if self.ended_since.is_none() && self.ended_before.is_none() {
            return Ok(());
        }
        out.push_sql(&format!(
            " AND job.status NOT IN ('todo', 'doing') AND EXISTS (SELECT FROM ( \
                SELECT max(event.at) FILTER (WHERE event.type IN ('succeeded', 'failed', 'cancelled', 'aborted')) AS at \
                FROM (SELECT event.type, event.at FROM procrastinate_events AS event \
                      WHERE event.job_id = job.id LIMIT {MOST_EVENTS}) AS event) AS ended WHERE true"
        ));
        for (condition, time) in [(" AND ended.at >= ", &self.ended_since), (" AND ended.at < ", &self.ended_before)] {
            if let Some(time) = time {
                out.push_sql(condition);
                out.push_bind_param::<Timestamptz, _>(time)?;
            }
        }
        out.push_sql(")");
        Ok(())
    }

    fn write_text<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Some(text) = &self.text else { return Ok(()) };
        out.push_sql(if self.skips_arguments { " AND (false" } else { " AND (true" });
        out.push_sql(" AND strpos(lower(job.args::text), lower(");
        out.push_bind_param::<Text, _>(text)?;
        out.push_sql(")) > 0");
        if self.has_companions {
            out.push_sql(
                " OR EXISTS (SELECT FROM procrastinate_diesel_job_errors AS failure \
                 WHERE failure.job_id = job.id AND strpos(lower(failure.error), lower(",
            );
            out.push_bind_param::<Text, _>(text)?;
            out.push_sql(")) > 0)");
        }
        out.push_sql(")");
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
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub(crate) scheduled_at: Option<DateTime<Utc>>,
    pub(crate) attempts: i32,
    pub(crate) is_abort_requested: bool,
    /// The time of its last event.
    #[diesel(deserialize_as = StoredTimeOrNone)]
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
             left(job.args::text, 200), job.status::text, job.scheduled_at, job.attempts, job.abort_requested, \
             (SELECT max(event.at) FROM procrastinate_events AS event \
              WHERE event.job_id = job.id AND event.type <> 'scheduled' AND isfinite(event.at)) \
             FROM (SELECT job.* FROM ",
        );
        let limit = if statement.filter.is_selective() { statement.filter.window() } else { statement.limit };
        statement.filter.write_window(&statement.cursor, limit, out)?;
        statement.filter.write_conditions(out)?;
        let order = if matches!(statement.cursor, Cursor::After(_)) { "" } else { " DESC" };
        out.push_sql(&format!(
            " ORDER BY job.id{order} LIMIT {}) AS job ORDER BY job.id{order}",
            statement.limit
        ));
        Ok(())
    }
);

/// How many jobs match, of the first hundred thousand with their status, and up to one more than the ceiling. And
/// whether there are more with that status, which were not searched.
pub(crate) struct CountMatching(pub(crate) PageFilter);

impl PageFilter {
    /// The jobs that are searched to count those that match.
    fn write_counted<'b>(&'b self, limit: i64, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if self.status == Some(JobStatus::Todo) {
            // In the order of any index of pending jobs.
            out.push_sql(&format!("(SELECT * FROM procrastinate_jobs WHERE status = 'todo' LIMIT {limit}) AS job"));
            return Ok(());
        }
        self.write_window(&Cursor::Newest, limit, out)
    }
}

statement!(filtered "count the jobs": CountMatching -> (i64, bool): (BigInt, Bool), |statement, out| {
    // Its numbers make it a statement of its own.
    out.unsafe_to_cache_prepared();
    out.push_sql("SELECT (SELECT count(*) FROM (SELECT FROM ");
    statement.0.write_counted(MOST_COUNTED, out)?;
    statement.0.write_conditions(out)?;
    out.push_sql(&format!(" LIMIT {}) AS matching), EXISTS (SELECT FROM ", CEILING + 1));
    statement.0.write_counted(MOST_COUNTED + 1, out)?;
    out.push_sql(&format!(" OFFSET {MOST_COUNTED})"));
    Ok(())
});

/// The job that was deferred last. No row if there are no jobs.
pub(crate) struct NewestJob;

statement!("look for the newest job": NewestJob -> i64: BigInt, |_, out| {
    out.push_sql("SELECT id FROM procrastinate_jobs ORDER BY id DESC LIMIT 1");
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
        statement.filter.write_window(&statement.cursor, window, out)
    }
);

/// The first of the jobs that were deferred from this time on, or the ID behind the last job. The IDs of jobs grow with
/// time, so a search by halves finds it. No row if there are no jobs.
pub(crate) struct FirstJobSince(pub(crate) DateTime<Utc>);

statement!("look for jobs by their age": FirstJobSince -> i64: BigInt, |statement, out| {
    out.push_sql(
        "WITH RECURSIVE search (low, high) AS ( \
            (SELECT (SELECT job.id - 1 FROM procrastinate_jobs AS job ORDER BY job.id LIMIT 1), job.id + 1 \
             FROM procrastinate_jobs AS job ORDER BY job.id DESC LIMIT 1) \
          UNION ALL \
            SELECT CASE WHEN probe.is_before THEN middle.id ELSE search.low END, \
                CASE WHEN probe.is_before THEN search.high ELSE middle.id END \
            FROM search \
            CROSS JOIN LATERAL (SELECT search.low + (search.high - search.low) / 2 AS id) AS middle \
            CROSS JOIN LATERAL (SELECT coalesce((SELECT created.at < ",
    );
    out.push_bind_param::<Timestamptz, _>(&statement.0)?;
    out.push_sql(&format!(
        " FROM (SELECT job.id FROM procrastinate_jobs AS job WHERE job.id >= middle.id ORDER BY job.id LIMIT 20) AS near \
              CROSS JOIN LATERAL ( \
                SELECT min(event.at) FILTER (WHERE event.type = 'deferred' AND isfinite(event.at)) AS at \
                FROM (SELECT event.type, event.at FROM procrastinate_events AS event \
                      WHERE event.job_id = near.id LIMIT {MOST_EVENTS}) AS event) AS created \
              WHERE created.at IS NOT NULL LIMIT 1), false) AS is_before OFFSET 0) AS probe \
            WHERE search.high - search.low > 1) \
         SELECT min(search.high) FROM search HAVING count(*) > 0"
    ));
    Ok(())
});
