//! Statements that defer jobs.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz};

use crate::database::statements::statement;
use crate::job::JobId;

/// A valid job to insert, with the columns of its row.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) queue: String,
    pub(crate) task_name: String,
    pub(crate) priority: i32,
    pub(crate) lock: Option<String>,
    pub(crate) queueing_lock: Option<String>,
    pub(crate) args: serde_json::Value,
    pub(crate) scheduled_at: Option<DateTime<Utc>>,
}

/// Inserts a job that has no queueing lock.
pub(crate) struct InsertJob(pub(crate) NewJob);

statement!("defer the job": InsertJob -> JobId: BigInt, |statement, out| {
    insert_values(&statement.0, out)?;
    out.push_sql(" RETURNING id");
    Ok(())
});

/// Inserts a job unless another pending job holds its queueing lock. It returns no row then.
///
/// It violates no constraint, so your transaction stays intact. The predicate is a literal, because with a bound value
/// a generic plan does not recognise the index.
pub(crate) struct InsertJobUnlessEnqueued(pub(crate) NewJob);

statement!("defer the job": InsertJobUnlessEnqueued -> JobId: BigInt, |statement, out| {
    insert_values(&statement.0, out)?;
    out.push_sql(" ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING RETURNING id");
    Ok(())
});

/// Finds the pending jobs that hold these queueing locks. It returns each lock with the job's ID.
pub(crate) struct HoldersOfQueueingLocks {
    pub(crate) queueing_locks: Vec<String>,
}

statement!("defer the job": HoldersOfQueueingLocks -> (String, JobId): (Text, BigInt), |statement, out| {
    out.push_sql("SELECT queueing_lock, id FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY(");
    out.push_bind_param::<Array<Text>, _>(&statement.queueing_locks)?;
    out.push_sql(")");
    Ok(())
});

fn insert_values<'b>(job: &'b NewJob, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at) \
         VALUES (",
    );
    push_columns(job, out)?;
    out.push_sql(")");
    Ok(())
}

/// Writes the columns of a row, separated by commas.
fn push_columns<'b>(job: &'b NewJob, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_bind_param::<Text, _>(&job.queue)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, _>(&job.task_name)?;
    out.push_sql(", ");
    out.push_bind_param::<Integer, _>(&job.priority)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, _>(&job.lock)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Text>, _>(&job.queueing_lock)?;
    out.push_sql(", ");
    out.push_bind_param::<Jsonb, _>(&job.args)?;
    out.push_sql(", ");
    out.push_bind_param::<Nullable<Timestamptz>, _>(&job.scheduled_at)?;
    Ok(())
}

/// Inserts a job without a notification. It returns the job's ID, or NULL if its queueing lock is taken.
pub(crate) struct StoreJob(pub(crate) NewJob);

statement!("defer the job": StoreJob -> Option<JobId>: Nullable<BigInt>, |statement, out| {
    out.push_sql("SELECT procrastinate_diesel_store_job_v1(");
    push_columns(&statement.0, out)?;
    out.push_sql(")");
    Ok(())
});

/// Notifies listeners of a committed job, and returns one row.
///
/// It must not be part of another transaction, whose commit might be confirmed before it is durable.
pub(crate) struct AnnounceJob {
    pub(crate) job_id: JobId,
    pub(crate) queue: String,
}

statement!("notify the workers": AnnounceJob -> bool: Bool, |statement, out| {
    out.push_sql(
        "SELECT true FROM set_config('synchronous_commit', 'off', true), procrastinate_diesel_notify_jobs_v1(ARRAY[",
    );
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql("]::bigint[], ARRAY[");
    out.push_bind_param::<Text, _>(&statement.queue)?;
    out.push_sql("]::varchar[])");
    Ok(())
});

/// Inserts any number of jobs, all or none. It returns their IDs in the order of the input, or one row with the
/// queueing lock that is taken.
#[derive(Debug, Default)]
pub(crate) struct InsertJobs {
    pub(crate) queues: Vec<String>,
    pub(crate) task_names: Vec<String>,
    pub(crate) priorities: Vec<i32>,
    pub(crate) locks: Vec<Option<String>>,
    pub(crate) queueing_locks: Vec<Option<String>>,
    pub(crate) args: Vec<serde_json::Value>,
    pub(crate) scheduled_at: Vec<Option<DateTime<Utc>>>,
}

impl FromIterator<NewJob> for InsertJobs {
    fn from_iter<I: IntoIterator<Item = NewJob>>(jobs: I) -> Self {
        let mut statement = Self::default();
        for job in jobs {
            statement.queues.push(job.queue);
            statement.task_names.push(job.task_name);
            statement.priorities.push(job.priority);
            statement.locks.push(job.lock);
            statement.queueing_locks.push(job.queueing_lock);
            statement.args.push(job.args);
            statement.scheduled_at.push(job.scheduled_at);
        }
        statement
    }
}

/// A row of [`InsertJobs`]: an ID, or the queueing lock that prevented the insertion.
pub(crate) type InsertedOrTaken = (Option<JobId>, Option<String>);

statement!(
    "defer the jobs": InsertJobs -> InsertedOrTaken: (Nullable<BigInt>, Nullable<Text>),
    select "job_id, taken_queueing_lock" from "procrastinate_diesel_defer_jobs_v1"(
        queues: Array<Text> as "varchar[]", task_names: Array<Text> as "varchar[]", priorities: Array<Integer>,
        locks: Array<Nullable<Text>>, queueing_locks: Array<Nullable<Text>>, args: Array<Jsonb>,
        scheduled_at: Array<Nullable<Timestamptz>>)
);
