use std::fmt;

use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::{JobsFinishedBefore, ProcrastinateWorker, StalledJobs};
use crate::job::{CallString, JobId, JobStatus};
use crate::schema::procrastinate_jobs;

/// A row of `procrastinate_jobs`.
///
/// `ProcrastinateJob::query()` starts a query; the functions below are fragments of one, to be used with `filter` and
/// `order` in any query in which the table appears, and loaded with Diesel's `RunQueryDsl` or diesel-async's.
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
/// How many jobs there are of each status:
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
/// On a large table the conditions by number and by status, and those for jobs that are stalled, go along an index,
/// and so does either order with a limit; the others do so beside [`has_status`](Self::has_status), since few jobs wait, run
/// or have failed.
///
/// A job cannot be inserted, since that would go past the rules of the queue:
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
/// Neither can one be saved, except with the feature `writable-models`, which is for tests. This compiles with it, and not
/// without it:
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
    /// Its number.
    pub id: i64,
    /// The queue it was deferred to.
    pub queue_name: String,
    /// The name under which a worker finds its task.
    pub task_name: String,
    /// Higher ones go first.
    pub priority: i32,
    /// Of the jobs with one lock one runs at a time.
    pub lock: Option<String>,
    /// Of the jobs with one queueing lock one waits at a time.
    pub queueing_lock: Option<String>,
    /// The arguments by name: always a JSON object.
    pub args: serde_json::Value,
    /// Where it stands.
    pub status: JobStatus,
    /// It is not started before this time.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How many attempts have ended.
    pub attempts: i32,
    /// Whether somebody has asked to abort it.
    pub abort_requested: bool,
    /// The worker that took it, while that worker is registered. When the job ends, this crate's workers let go of it.
    pub worker_id: Option<i64>,
}

impl From<&ProcrastinateJob> for JobId {
    fn from(job: &ProcrastinateJob) -> Self {
        job.id.into()
    }
}

impl ProcrastinateJob {
    /// A query of all jobs, with this model as its selection. It pins PostgreSQL as the backend, which the function of
    /// the same name in Diesel's `HasQuery` leaves open, so that it can be counted too.
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

    /// The job of this number.
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

    /// The jobs in this state.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobStatus;
    /// use procrastinate::models::ProcrastinateJob;
    ///
    /// let waiting = ProcrastinateJob::query().filter(ProcrastinateJob::has_status(JobStatus::Todo)).count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&waiting).to_string().contains(r#""status" = $1"#));
    /// ```
    #[must_use]
    pub fn has_status(status: JobStatus) -> dsl::Eq<procrastinate_jobs::status, JobStatus> {
        procrastinate_jobs::status.eq(status)
    }

    /// The jobs of this queue.
    ///
    /// There is no index for it, which every job would have to be entered in once more when it ends: beside a condition that
    /// has one, or in order with a limit, it is fast.
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

    /// The jobs of this task.
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

    /// The jobs with this lock.
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

    /// The jobs with this queueing lock: at most one of them is waiting.
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

    /// The jobs that this worker has taken, as long as it is registered.
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

    /// The jobs that are scheduled for a time before this one. Those that are not scheduled are not among them.
    ///
    /// # Example
    ///
    /// What should have been started by now:
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

    /// The jobs that are scheduled for a time after this one.
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

    /// The jobs that are marked as running while their worker is gone, or has not been heard of since this time. A worker
    /// says every ten seconds that it is alive, and counts as dead after thirty, unless set otherwise.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let limit = chrono::Utc::now() - chrono::TimeDelta::seconds(30);
    /// let stalled = ProcrastinateJob::query().filter(ProcrastinateJob::stalled(limit));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&stalled).to_string().contains("last_heartbeat < $1"));
    /// ```
    #[must_use]
    pub fn stalled(not_heard_of_since: DateTime<Utc>) -> StalledJobs {
        StalledJobs(not_heard_of_since)
    }

    /// The jobs that have ended and to which nothing has happened since this time: what
    /// [`delete_old_jobs`](crate::job_manager::delete_old_jobs) goes by. With a status beside it, those that ended so.
    ///
    /// It looks up the events of each job that has ended and passes the other filters, so on a large table give it some,
    /// or an order and a limit.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::JobStatus;
    /// # use procrastinate::models::ProcrastinateJob;
    /// let yesterday = chrono::Utc::now() - chrono::TimeDelta::days(1);
    /// let old_failures = ProcrastinateJob::query()
    ///     .filter(ProcrastinateJob::has_status(JobStatus::Failed))
    ///     .filter(ProcrastinateJob::finished_before(yesterday));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&old_failures).to_string().contains("event.at >= $2"));
    /// ```
    #[must_use]
    pub fn finished_before(time: DateTime<Utc>) -> JobsFinishedBefore {
        JobsFinishedBefore(time)
    }

    /// The order in which the job that was deferred first comes first.
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

    /// The order in which the job that was deferred last comes first.
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
