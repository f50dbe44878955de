//! Statements for the command line.

use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Double, Nullable, Text};

use crate::database::models::{ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError};
use crate::database::statements::inspect::{JobFilter, SELECT_JOBS};
use crate::database::statements::manage::RetryJobQuery;
use crate::database::statements::statement;
use crate::job::JobId;
use procrastinate_schema::schema::{procrastinate_diesel_job_errors, procrastinate_events, procrastinate_jobs};

/// The database that the connection leads to: the server's version, the database, the current schema and the role.
pub(crate) struct ServerInfo;

statement!(
    "ask for the server's version": ServerInfo -> (String, String, Option<String>, String): (Text, Text, Nullable<Text>, Text),
    |_, out| {
        out.push_sql(
            "SELECT current_setting('server_version'), current_database()::text, current_schema()::text, \
             current_user::text",
        );
        Ok(())
    }
);

/// Selects jobs: those that pass the filter and, if requested, only stalled ones. A worker is considered stalled after
/// 30 seconds without a heartbeat.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobSelection {
    pub(crate) filter: JobFilter,
    pub(crate) are_stalled: bool,
}

impl JobSelection {
    pub(crate) fn write<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("true");
        if self.are_stalled {
            out.push_sql(
                " AND status = 'doing' AND (worker_id IS NULL OR worker_id IN (SELECT worker.id FROM \
                 procrastinate_workers AS worker WHERE worker.last_heartbeat < now() - interval '30 seconds'))",
            );
        }
        self.filter.write(out)
    }
}

/// One page of the selected jobs, sorted by ID, before or after a job.
pub(crate) struct PageOfJobs {
    pub(crate) meant: JobSelection,
    pub(crate) newest_first: bool,
    pub(crate) beyond: Option<JobId>,
    pub(crate) limit: i64,
}

statement!(filtered "list the jobs": PageOfJobs -> ProcrastinateJob: procrastinate_jobs::SqlType, |statement, out| {
    out.push_sql(SELECT_JOBS);
    statement.meant.write(out)?;
    if let Some(beyond) = &statement.beyond {
        out.push_sql(if statement.newest_first { " AND id < " } else { " AND id > " });
        out.push_bind_param::<BigInt, _>(beyond)?;
    }
    out.push_sql(if statement.newest_first { " ORDER BY id DESC LIMIT " } else { " ORDER BY id LIMIT " });
    out.push_bind_param::<BigInt, _>(&statement.limit)?;
    Ok(())
});

/// Counts the selected jobs.
pub(crate) struct CountOfJobs(pub(crate) JobSelection);

statement!(filtered "count the jobs": CountOfJobs -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT count(*) FROM procrastinate_jobs WHERE ");
    statement.0.write(out)
});

/// Counts the jobs that `clean` would delete with these values, up to 10,000.
pub(crate) struct CountOfOldJobs {
    /// The labels of the statuses.
    pub(crate) statuses: Vec<String>,
    pub(crate) older_than_seconds: f64,
    pub(crate) queue: Option<String>,
}

statement!("count the jobs": CountOfOldJobs -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT count(*) FROM (SELECT FROM procrastinate_jobs AS job WHERE job.status = ANY (");
    out.push_bind_param::<Array<Text>, _>(&statement.statuses)?;
    out.push_sql("::text[]::procrastinate_job_status[]) AND coalesce(job.queue_name = ");
    out.push_bind_param::<Nullable<Text>, _>(&statement.queue)?;
    out.push_sql(
        ", true) AND (SELECT bool_and(event.at IS NOT NULL AND event.at < now() - make_interval(secs => ",
    );
    out.push_bind_param::<Double, _>(&statement.older_than_seconds)?;
    out.push_sql(")) FROM procrastinate_events AS event WHERE event.job_id = job.id) LIMIT 10000) AS old");
    Ok(())
});

/// Whether the migrations of this crate created the tables, rather than Python's Procrastinate.
pub(crate) struct AreTablesOurs;

statement!("find out who created the tables": AreTablesOurs -> bool: Bool, |_, out| {
    out.push_sql(
        "SELECT coalesce(obj_description(to_regclass('procrastinate_jobs'), 'pg_class') \
         LIKE '%Created by the migrations of the procrastinate crate.%', false)",
    );
    Ok(())
});

/// The names of queues and tasks in the newest jobs: whether it is a queue, and the name.
pub(crate) struct NamesInUse;

statement!("look up names": NamesInUse -> (bool, String): (Bool, Text), |_, out| {
    out.push_sql(
        "WITH newest AS (SELECT queue_name, task_name FROM procrastinate_jobs ORDER BY id DESC LIMIT 5000) \
         SELECT true, queue_name::text FROM newest UNION SELECT false, task_name::text FROM newest ORDER BY 1, 2",
    );
    Ok(())
});

/// The events of a job, oldest first.
pub(crate) struct EventsOfJob {
    pub(crate) job_id: JobId,
}

statement!("look up the job's events": EventsOfJob -> ProcrastinateEvent: procrastinate_events::SqlType, |statement, out| {
    // The sum keeps the planner from reading all events in the order of their IDs.
    out.push_sql("SELECT id, job_id, type::text, at FROM procrastinate_events WHERE job_id = ");
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql(" ORDER BY id + 0");
    Ok(())
});

/// The errors of a job's attempts, oldest first.
pub(crate) struct ErrorsOfJob {
    pub(crate) job_id: JobId,
}

statement!("look up the job's errors": ErrorsOfJob -> ProcrastinateJobError: procrastinate_diesel_job_errors::SqlType, |statement, out| {
    out.push_sql(
        "SELECT job_id, attempt, error, worker_id, worker_name, duration_seconds, at \
         FROM procrastinate_diesel_job_errors WHERE job_id = ",
    );
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql(" ORDER BY attempt");
    Ok(())
});

/// Retries a job with the function of the contract, which raises an error if it cannot. It also works on a database
/// with only Procrastinate's migrations.
pub(crate) struct RetryJobByContract(pub(crate) RetryJobQuery);

statement!("retry the job": RetryJobByContract -> String: Text, |statement, out| {
    out.push_sql("SELECT procrastinate_retry_job_v2(");
    statement.0.write_args(out)?;
    out.push_sql("::varchar)::text");
    Ok(())
});
