//! Statements that defer jobs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Double, Integer, Jsonb, Nullable, Text, Timestamptz};

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
    out.push_sql(
        " ON CONFLICT (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL DO NOTHING RETURNING id",
    );
    Ok(())
});

/// Finds the pending jobs that hold these queueing locks, after cancelling those that had to start before now and were
/// never started. It returns each lock with the job's ID.
pub(crate) struct LivingHolders {
    pub(crate) queueing_locks: Vec<String>,
}

statement!(
    "defer the job": LivingHolders -> (String, JobId): (Text, BigInt),
    select "queueing_lock, job_id" from "procrastinate_diesel_living_holders_v1"(queueing_locks: Array<Text>)
);

fn insert_values<'b>(job: &'b NewJob, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at) \
         VALUES (",
    );
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
    out.push_sql(")");
    Ok(())
}

/// Inserts any number of jobs, all or none. It returns their IDs in the order of the input, or one row with the
/// queueing lock that is taken.
#[derive(Debug, Default, Clone)]
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

impl InsertJobs {
    /// The jobs in their order.
    pub(crate) fn into_jobs(self) -> impl Iterator<Item = NewJob> {
        let names = self.queues.into_iter().zip(self.task_names).zip(self.priorities);
        let locks = self.locks.into_iter().zip(self.queueing_locks);
        names.zip(locks).zip(self.args).zip(self.scheduled_at).map(
            |(((((queue, task_name), priority), (lock, queueing_lock)), args), scheduled_at)| NewJob {
                queue,
                task_name,
                priority,
                lock,
                queueing_lock,
                args,
                scheduled_at,
            },
        )
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

/// Inserts jobs of several callers, each unless another pending job holds its queueing lock. It returns a row for each
/// job, in the order of the input: its ID, or NULL if its queueing lock is taken.
///
/// It fails if it has to wait long for a lock of another transaction.
pub(crate) struct InsertEachJob {
    pub(crate) jobs: Arc<InsertJobs>,
}

statement!(
    "defer the job": InsertEachJob -> Option<JobId>: Nullable<BigInt>,
    select "job_id" from "procrastinate_diesel_defer_each_job_v1"(
        jobs.queues: Array<Text> as "varchar[]", jobs.task_names: Array<Text> as "varchar[]",
        jobs.priorities: Array<Integer>, jobs.locks: Array<Nullable<Text>>, jobs.queueing_locks: Array<Nullable<Text>>,
        jobs.args: Array<Jsonb>, jobs.scheduled_at: Array<Nullable<Timestamptz>>)
);

/// Defers any number of jobs as if one after the other, all or none. For each there is a label in `if_enqueued`, which
/// says what happens if a pending job holds its queueing lock: `fail`, `keep`, `replace` or `replace_except_schedule`.
pub(crate) struct DeferOrReplaceJobs {
    pub(crate) jobs: InsertJobs,
    pub(crate) if_enqueued: Vec<&'static str>,
}

/// Options of a job that few jobs have, and that are not columns of its row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ExtraOptions {
    pub(crate) start_before: Option<DateTime<Utc>>,
    pub(crate) limit_key: Option<String>,
    pub(crate) unique: Option<UniqueKey>,
}

/// A key that refuses further jobs, and for how long after the end of the job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UniqueKey {
    pub(crate) key: String,
    pub(crate) period_seconds: f64,
}

impl ExtraOptions {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Defers jobs like [`DeferOrReplaceJobs`], with options that few jobs have.
#[derive(Debug, Default)]
pub(crate) struct DeferWithOptions {
    pub(crate) jobs: InsertJobs,
    pub(crate) if_enqueued: Vec<&'static str>,
    pub(crate) start_before: Vec<Option<DateTime<Utc>>>,
    pub(crate) limit_keys: Vec<Option<String>>,
}

statement!(
    "defer the job": DeferWithOptions -> EffectOrTaken: (Nullable<BigInt>, Nullable<Text>, Nullable<Text>),
    select "job_id, effect, taken_queueing_lock" from "procrastinate_diesel_defer_with_options_v1"(
        jobs.queues: Array<Text> as "varchar[]", jobs.task_names: Array<Text> as "varchar[]",
        jobs.priorities: Array<Integer>, jobs.locks: Array<Nullable<Text>>, jobs.queueing_locks: Array<Nullable<Text>>,
        jobs.args: Array<Jsonb>, jobs.scheduled_at: Array<Nullable<Timestamptz>>, if_enqueued: Array<Text>,
        start_before: Array<Nullable<Timestamptz>>, limit_keys: Array<Nullable<Text>>)
);

/// A row of [`DeferOrReplaceJobs`]: an ID and the effect `new`, `replaced` or `kept`. Or else, in the only row, the
/// queueing lock at which a job failed.
pub(crate) type EffectOrTaken = (Option<JobId>, Option<String>, Option<String>);

statement!(
    "defer the job": DeferOrReplaceJobs -> EffectOrTaken: (Nullable<BigInt>, Nullable<Text>, Nullable<Text>),
    select "job_id, effect, taken_queueing_lock" from "procrastinate_diesel_defer_or_replace_jobs_v1"(
        jobs.queues: Array<Text> as "varchar[]", jobs.task_names: Array<Text> as "varchar[]",
        jobs.priorities: Array<Integer>, jobs.locks: Array<Nullable<Text>>, jobs.queueing_locks: Array<Nullable<Text>>,
        jobs.args: Array<Jsonb>, jobs.scheduled_at: Array<Nullable<Timestamptz>>, if_enqueued: Array<Text>)
);

/// Defers jobs like [`DeferWithOptions`], with unique keys.
pub(crate) struct DeferUniqueJobs {
    pub(crate) jobs: DeferWithOptions,
    pub(crate) unique_keys: Vec<Option<String>>,
    /// For how many seconds each job holds its key after its end.
    pub(crate) unique_seconds: Vec<f64>,
}

/// A row of [`DeferUniqueJobs`]: like [`EffectOrTaken`], with the unique key at which a job failed, and then the ID of
/// the job that holds it.
pub(crate) type UniqueOrTaken = (Option<JobId>, Option<String>, Option<String>, Option<String>);

statement!(
    "defer the job":
    DeferUniqueJobs -> UniqueOrTaken: (Nullable<BigInt>, Nullable<Text>, Nullable<Text>, Nullable<Text>),
    select "job_id, effect, taken_queueing_lock, taken_unique_key" from "procrastinate_diesel_defer_unique_jobs_v1"(
        jobs.jobs.queues: Array<Text> as "varchar[]", jobs.jobs.task_names: Array<Text> as "varchar[]",
        jobs.jobs.priorities: Array<Integer>, jobs.jobs.locks: Array<Nullable<Text>>,
        jobs.jobs.queueing_locks: Array<Nullable<Text>>, jobs.jobs.args: Array<Jsonb>,
        jobs.jobs.scheduled_at: Array<Nullable<Timestamptz>>, jobs.if_enqueued: Array<Text>,
        jobs.start_before: Array<Nullable<Timestamptz>>, jobs.limit_keys: Array<Nullable<Text>>,
        unique_keys: Array<Nullable<Text>>, unique_seconds: Array<Double>)
);
