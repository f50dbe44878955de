use std::fmt;

use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateWorker;
use crate::database::models::stored::{StoredArgs, StoredTimeOrNone};
use crate::job::{CallString, JobId, JobStatus};
use procrastinate_schema::schema::procrastinate_jobs;

/// A row of `procrastinate_jobs`.
///
/// `ProcrastinateJob::query()` starts a query. The functions below are parts of one, for `filter` and `order`. Use them
/// in any query that contains the table, with Diesel's `RunQueryDsl` or diesel-async's.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::JobStatus;
/// use procrastinate::models::ProcrastinateJob;
///
/// fn last_failures(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateJob>> {
///     ProcrastinateJob::query()
///         .filter(ProcrastinateJob::of_task("send_invoice"))
///         .filter(ProcrastinateJob::has_status(JobStatus::Failed))
///         .order(ProcrastinateJob::newest_first())
///         .limit(20)
///         .load(connection)
/// }
/// ```
///
/// The number of jobs of each status:
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::JobStatus;
/// use procrastinate::schema::procrastinate_jobs::dsl::{id, procrastinate_jobs, status};
///
/// fn counts(connection: &mut PgConnection) -> QueryResult<Vec<(JobStatus, i64)>> {
///     procrastinate_jobs.group_by(status).select((status, diesel::dsl::count(id))).load(connection)
/// }
/// ```
///
/// On a large table, use [`has_id`](Self::has_id), [`has_status`](Self::has_status) or [`stalled`](Self::stalled), or
/// an order with a limit. These use an index. Combine the other conditions with `has_status`, because few jobs are
/// pending, running or failed.
///
/// A job cannot be inserted, because that would bypass the rules of the queue:
///
/// ```compile_fail,E0277
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinateJob;
/// use procrastinate::schema::procrastinate_jobs;
///
/// fn copy(connection: &mut PgConnection, job: &ProcrastinateJob) -> QueryResult<usize> {
///     diesel::insert_into(procrastinate_jobs::table).values(job).execute(connection)
/// }
/// ```
///
/// A job cannot be saved either, except in tests with the feature `writable-models`. This code compiles only with it:
///
#[cfg_attr(feature = "writable-models", doc = "```no_run")]
#[cfg_attr(not(feature = "writable-models"), doc = "```compile_fail,E0277")]
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinateJob;
///
/// fn save(connection: &mut PgConnection, job: &ProcrastinateJob) -> QueryResult<usize> {
///     diesel::update(job).set(job).execute(connection)
/// }
/// ```
///
/// What Diesel cannot refuse is `diesel::update(procrastinate_jobs::table)` with columns: it is for
/// [`job_manager`](crate::job_manager) to change jobs.
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable, Associations)]
#[diesel(table_name = procrastinate_jobs)]
#[diesel(belongs_to(ProcrastinateWorker, foreign_key = worker_id))]
#[diesel(check_for_backend(Pg))]
#[cfg_attr(feature = "writable-models", derive(AsChangeset), diesel(treat_none_as_null = true))]
#[non_exhaustive]
pub struct ProcrastinateJob {
    /// The job's ID.
    pub id: i64,
    /// The job's queue.
    pub queue_name: String,
    /// The task name under which the job was deferred. It can be an alias.
    pub task_name: String,
    /// The priority. Jobs with a higher one are fetched first.
    pub priority: i32,
    /// The lock. Jobs that share a lock run one at a time.
    pub lock: Option<String>,
    /// The queueing lock. Only one pending job can hold it.
    pub queueing_lock: Option<String>,
    /// The arguments by name, always a JSON object.
    ///
    /// PostgreSQL can store numbers that are out of the range of Rust's, and values that are nested more than 127
    /// levels deep. Each of them is read as a text with its JSON.
    #[diesel(deserialize_as = StoredArgs)]
    pub args: serde_json::Value,
    /// The status of the job.
    pub status: JobStatus,
    /// The earliest start time, if the job was scheduled or retried. `None` also if it is infinite.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// The number of finished attempts.
    pub attempts: i32,
    /// Whether an abort was requested.
    pub abort_requested: bool,
    /// The worker that holds the job, while that worker is registered. Workers of this crate clear it when the job
    /// finishes.
    pub worker_id: Option<i64>,
}

impl From<&ProcrastinateJob> for JobId {
    fn from(job: &ProcrastinateJob) -> Self {
        job.id.into()
    }
}

impl ProcrastinateJob {
    /// Starts a query of all jobs, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateJob;
    ///
    /// let query = ProcrastinateJob::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_jobs::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_jobs::table.select(Self::as_select())
    }

    /// Selects the job with this ID.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobId;
    /// use procrastinate::models::ProcrastinateJob;
    ///
    /// let query = ProcrastinateJob::query().filter(ProcrastinateJob::has_id(JobId::from(7)));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""id" = $1"#));
    /// ```
    #[must_use]
    pub fn has_id(id: JobId) -> dsl::Eq<procrastinate_jobs::id, JobId> {
        procrastinate_jobs::id.eq(id)
    }

    /// Selects the jobs with this status.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobStatus;
    /// use procrastinate::models::ProcrastinateJob;
    ///
    /// let pending = ProcrastinateJob::query().filter(ProcrastinateJob::has_status(JobStatus::Todo)).count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&pending).to_string().contains(r#""status" = $1"#));
    /// ```
    #[must_use]
    pub fn has_status(status: JobStatus) -> dsl::Eq<procrastinate_jobs::status, JobStatus> {
        procrastinate_jobs::status.eq(status)
    }

    /// Selects the jobs of this queue.
    ///
    /// There is no index for it, because each job would have to update it once more when it finishes. It is fast
    /// together with an indexed condition, or with an order and a limit.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().filter(ProcrastinateJob::in_queue("mails"));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""queue_name" = $1"#));
    /// ```
    #[must_use]
    pub fn in_queue(queue: impl Into<String>) -> dsl::Eq<procrastinate_jobs::queue_name, String> {
        procrastinate_jobs::queue_name.eq(queue.into())
    }

    /// Selects the jobs of this task.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().filter(ProcrastinateJob::of_task("send_mail"));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""task_name" = $1"#));
    /// ```
    #[must_use]
    pub fn of_task(task_name: impl Into<String>) -> dsl::Eq<procrastinate_jobs::task_name, String> {
        procrastinate_jobs::task_name.eq(task_name.into())
    }

    /// Selects the jobs with this lock.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().filter(ProcrastinateJob::has_lock("customer-7"));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""lock" = $1"#));
    /// ```
    #[must_use]
    pub fn has_lock(lock: impl Into<String>) -> dsl::Eq<procrastinate_jobs::lock, String> {
        procrastinate_jobs::lock.eq(lock.into())
    }

    /// Selects the jobs with this queueing lock. At most one of them is pending.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().filter(ProcrastinateJob::has_queueing_lock("report"));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""queueing_lock" = $1"#));
    /// ```
    #[must_use]
    pub fn has_queueing_lock(queueing_lock: impl Into<String>) -> dsl::Eq<procrastinate_jobs::queueing_lock, String> {
        procrastinate_jobs::queueing_lock.eq(queueing_lock.into())
    }

    /// Selects the jobs held by this worker, while it is registered.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().filter(ProcrastinateJob::of_worker(7));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""worker_id" = $1"#));
    /// ```
    #[must_use]
    pub fn of_worker(worker_id: i64) -> dsl::Eq<procrastinate_jobs::worker_id, i64> {
        procrastinate_jobs::worker_id.eq(worker_id)
    }

    /// Selects the jobs scheduled for a time before this one. Jobs that were never scheduled are not selected.
    ///
    /// # Example
    ///
    /// Jobs that should have started by now:
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::JobStatus;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let late = ProcrastinateJob::query()
    ///     .filter(ProcrastinateJob::has_status(JobStatus::Todo))
    ///     .filter(ProcrastinateJob::scheduled_before(chrono::Utc::now()));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&late).to_string().contains(r#""scheduled_at" < $2"#));
    /// ```
    #[must_use]
    pub fn scheduled_before(time: DateTime<Utc>) -> dsl::Lt<procrastinate_jobs::scheduled_at, DateTime<Utc>> {
        procrastinate_jobs::scheduled_at.lt(time)
    }

    /// Selects the jobs scheduled for a time after this one.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let to_come = ProcrastinateJob::query().filter(ProcrastinateJob::scheduled_after(chrono::Utc::now()));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&to_come).to_string().contains(r#""scheduled_at" > $1"#));
    /// ```
    #[must_use]
    pub fn scheduled_after(time: DateTime<Utc>) -> dsl::Gt<procrastinate_jobs::scheduled_at, DateTime<Utc>> {
        procrastinate_jobs::scheduled_at.gt(time)
    }

    /// Orders jobs from the first deferred to the last.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().order(ProcrastinateJob::oldest_first());
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""id" ASC"#));
    /// ```
    #[must_use]
    pub fn oldest_first() -> dsl::Asc<procrastinate_jobs::id> {
        procrastinate_jobs::id.asc()
    }

    /// Orders jobs from the last deferred to the first.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let query = ProcrastinateJob::query().order(ProcrastinateJob::newest_first());
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""id" DESC"#));
    /// ```
    #[must_use]
    pub fn newest_first() -> dsl::Desc<procrastinate_jobs::id> {
        procrastinate_jobs::id.desc()
    }
}

impl fmt::Display for ProcrastinateJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = CallString { task_name: &self.task_name, job_id: JobId::from(self.id), args: &self.args };
        call.fmt(f)
    }
}
