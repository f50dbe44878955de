//! Statements that only read jobs.

use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text};

use crate::database::models::ProcrastinateJob;
use crate::database::statements::statement;
use crate::job::{JobId, JobStatus};
use procrastinate_schema::schema::procrastinate_jobs;
use procrastinate_schema::schema::sql_types::ProcrastinateJobStatus;

/// The columns of a job. An infinite date, which Rust cannot hold, becomes NULL.
///
/// The status is a text, as in every statement of the crate. Otherwise a connection would ask the server about the enum
/// before it reads one.
pub(crate) const SELECT_JOBS: &str = "SELECT id, queue_name, task_name, priority, lock, queueing_lock, args, status::text, \
     CASE WHEN isfinite(scheduled_at) THEN scheduled_at END, attempts, abort_requested, worker_id \
     FROM procrastinate_jobs WHERE ";

/// Whether the table of jobs exists.
pub(crate) struct CheckConnectionQuery;

statement!("look for the tables": CheckConnectionQuery -> bool: Bool, |_, out| {
    out.push_sql("SELECT to_regclass('procrastinate_jobs') IS NOT NULL");
    Ok(())
});

/// The status of a job, or no row if there is no such job.
pub(crate) struct GetJobStatusQuery {
    pub(crate) job_id: JobId,
}

statement!("look up the job": GetJobStatusQuery -> JobStatus: ProcrastinateJobStatus, |statement, out| {
    out.push_sql("SELECT status::text FROM procrastinate_jobs WHERE id = ");
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    Ok(())
});

/// Selects jobs by the filters that are set.
///
/// The SQL contains only those filters. A statement for all cases, with `$1 IS NULL OR …`, would read the whole table
/// once it has a generic plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFilter {
    pub(crate) id: Option<JobId>,
    pub(crate) queue: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) status: Option<JobStatus>,
    pub(crate) lock: Option<String>,
    pub(crate) queueing_lock: Option<String>,
    pub(crate) worker_id: Option<i64>,
}

impl JobFilter {
    /// Appends `AND condition` for each filter after a condition that is always there.
    pub(crate) fn write<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if let Some(id) = &self.id {
            out.push_sql(" AND id = ");
            out.push_bind_param::<BigInt, _>(id)?;
        }
        for (condition, value) in [
            (" AND queue_name = ", &self.queue),
            (" AND task_name = ", &self.task),
            (" AND lock = ", &self.lock),
            (" AND queueing_lock = ", &self.queueing_lock),
        ] {
            if let Some(value) = value {
                out.push_sql(condition);
                out.push_bind_param::<Text, _>(value)?;
            }
        }
        if let Some(worker_id) = &self.worker_id {
            out.push_sql(" AND worker_id = ");
            out.push_bind_param::<BigInt, _>(worker_id)?;
        }
        match &self.status {
            None => {}
            // A label that the database does not know raises an error unless it is compared as a text.
            Some(JobStatus::Unknown(label)) => {
                out.push_sql(" AND status::text = ");
                out.push_bind_param::<Text, _>(label)?;
            }
            // A literal, because only then does the planner use an index on jobs of this status.
            Some(status) => {
                out.push_sql(" AND status = '");
                out.push_sql(status.as_str());
                out.push_sql("'");
            }
        }
        Ok(())
    }
}

/// The jobs that pass all filters, sorted by ID.
pub(crate) struct ListJobsQuery {
    pub(crate) filter: JobFilter,
    pub(crate) limit: Option<i64>,
}

statement!(filtered "list the jobs": ListJobsQuery -> ProcrastinateJob: procrastinate_jobs::SqlType, |statement, out| {
    out.push_sql(SELECT_JOBS);
    out.push_sql("true");
    statement.filter.write(out)?;
    out.push_sql(" ORDER BY id");
    if let Some(limit) = &statement.limit {
        out.push_sql(" LIMIT ");
        out.push_bind_param::<BigInt, _>(limit)?;
    }
    Ok(())
});

/// The running jobs whose worker is gone or has missed its heartbeats. The filter has the other conditions.
pub(crate) struct StalledJobs {
    pub(crate) seconds_since_heartbeat: f64,
    pub(crate) filter: JobFilter,
}

statement!(filtered "find stalled jobs": StalledJobs -> ProcrastinateJob: procrastinate_jobs::SqlType, |statement, out| {
    out.push_sql(SELECT_JOBS);
    out.push_sql(
        "status = 'doing' AND (worker_id IS NULL OR worker_id IN \
         (SELECT worker.id FROM procrastinate_workers AS worker WHERE worker.last_heartbeat < now() - make_interval(secs => ",
    );
    out.push_bind_param::<Double, _>(&statement.seconds_since_heartbeat)?;
    out.push_sql(")))");
    statement.filter.write(out)?;
    out.push_sql(" ORDER BY id");
    Ok(())
});

/// The running jobs with an abort request.
pub(crate) struct JobsToAbort(pub(crate) JobFilter);

statement!(filtered "find the jobs to abort": JobsToAbort -> JobId: BigInt, |statement, out| {
    out.push_sql("SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND abort_requested");
    statement.0.write(out)?;
    out.push_sql(" ORDER BY id");
    Ok(())
});

/// The number of jobs for each value of a column, by status.
pub(crate) struct CountJobs {
    pub(crate) column: CountedColumn,
    pub(crate) filter: JobFilter,
    /// Counts only the first [`JOBS_IN_STEP`] jobs with a higher ID than this, whether they pass the filter or not.
    /// `None` counts all jobs that pass, for filters with an index.
    pub(crate) after: Option<i64>,
}

/// How many jobs one statement reads, which takes some tens of milliseconds.
pub(crate) const JOBS_IN_STEP: i64 = 50_000;

/// The column by which [`CountJobs`] groups.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CountedColumn {
    Queue,
    Task,
    Lock,
}

impl CountedColumn {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue_name",
            Self::Task => "task_name",
            Self::Lock => "lock",
        }
    }
}

/// A row of [`CountJobs`].
#[derive(Debug, PartialEq, Eq, diesel::Queryable)]
pub(crate) struct CountedJobs {
    /// The value of the column.
    pub(crate) name: Option<String>,
    /// The number of jobs with this value that were read.
    pub(crate) looked_at: i64,
    /// The highest of their IDs.
    pub(crate) last_id: i64,
    /// The number of them that pass the filter, and of those the number with each status.
    pub(crate) jobs_count: i64,
    pub(crate) todo: i64,
    pub(crate) doing: i64,
    pub(crate) succeeded: i64,
    pub(crate) failed: i64,
    pub(crate) cancelled: i64,
    pub(crate) aborted: i64,
}

statement!(
    filtered "count the jobs": CountJobs -> CountedJobs:
    (Nullable<Text>, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt),
    |statement, out| {
        let column = statement.column.as_str();
        out.push_sql(
            "SELECT name, count(*), max(id), count(*) FILTER (WHERE passes), \
             count(*) FILTER (WHERE passes AND status = 'todo'), count(*) FILTER (WHERE passes AND status = 'doing'), \
             count(*) FILTER (WHERE passes AND status = 'succeeded'), count(*) FILTER (WHERE passes AND status = 'failed'), \
             count(*) FILTER (WHERE passes AND status = 'cancelled'), count(*) FILTER (WHERE passes AND status = 'aborted') \
             FROM (SELECT id, status, ",
        );
        out.push_sql(column);
        out.push_sql(" AS name, true");
        if let Some(after) = &statement.after {
            statement.filter.write(out)?;
            out.push_sql(" AS passes FROM procrastinate_jobs WHERE id > ");
            out.push_bind_param::<BigInt, _>(after)?;
            out.push_sql(" ORDER BY id LIMIT ");
            out.push_bind_param::<BigInt, _>(&JOBS_IN_STEP)?;
        } else {
            out.push_sql(" AS passes FROM procrastinate_jobs WHERE true");
            statement.filter.write(out)?;
        }
        out.push_sql(") AS job GROUP BY name");
        Ok(())
    }
);
