//! Forms to insert rows of the queue's tables with, for an application's tests.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde_json::json;

use crate::job::{JobEventType, JobId, JobStatus};
use crate::schema::{procrastinate_events, procrastinate_jobs, procrastinate_periodic_defers, procrastinate_workers};

/// A job to insert in whatever state, for tests. With the feature `writable-models`.
///
/// Triggers write its first events as they do for any job, and announce it if it waits. Where there is no need for a state of
/// its own, a test does better to defer the job. What was inserted can be changed and saved:
/// [`ProcrastinateJob`](crate::models::ProcrastinateJob) is a changeset then.
///
/// # Example
///
/// ```no_run
/// use diesel::prelude::*;
/// use procrastinate::schema::procrastinate_jobs;
/// use procrastinate::JobStatus;
/// use procrastinate::models::{NewProcrastinateJob, ProcrastinateJob};
///
/// fn failed_twice(connection: &mut PgConnection) -> QueryResult<ProcrastinateJob> {
///     let job = NewProcrastinateJob {
///         status: JobStatus::Failed,
///         attempts: 2,
///         args: serde_json::json!({ "order": 7 }),
///         ..NewProcrastinateJob::of_task("send_invoice")
///     };
///     let inserted = diesel::insert_into(procrastinate_jobs::table).values(&job);
///     inserted.returning(ProcrastinateJob::as_returning()).get_result(connection)
/// }
///
/// fn rename(connection: &mut PgConnection, mut job: ProcrastinateJob) -> QueryResult<ProcrastinateJob> {
///     job.task_name = "send_bill".to_owned();
///     job.save_changes(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Insertable)]
#[diesel(table_name = procrastinate_jobs)]
pub struct NewProcrastinateJob {
    /// The queue.
    pub queue_name: String,
    /// The name of the task.
    pub task_name: String,
    /// Higher ones go first.
    pub priority: i32,
    /// Of the jobs with one lock one runs at a time.
    pub lock: Option<String>,
    /// Of the jobs with one queueing lock one waits at a time.
    pub queueing_lock: Option<String>,
    /// The arguments by name: a JSON object.
    pub args: serde_json::Value,
    /// Where it stands.
    pub status: JobStatus,
    /// It is not started before this time.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How many attempts have ended.
    pub attempts: i32,
    /// Whether somebody has asked to abort it; not of a job that waits.
    pub abort_requested: bool,
    /// The worker that took it.
    pub worker_id: Option<i64>,
}

impl NewProcrastinateJob {
    /// A job of this task that waits in the queue `default`, with priority 0, no arguments and nothing else.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::JobStatus;
    /// use procrastinate::models::NewProcrastinateJob;
    ///
    /// let job = NewProcrastinateJob::of_task("send_invoice");
    /// assert_eq!((job.queue_name.as_str(), job.status), ("default", JobStatus::Todo));
    /// ```
    #[must_use]
    pub fn of_task(task_name: impl Into<String>) -> Self {
        Self {
            queue_name: "default".to_owned(),
            task_name: task_name.into(),
            priority: 0,
            lock: None,
            queueing_lock: None,
            args: json!({}),
            status: JobStatus::Todo,
            scheduled_at: None,
            attempts: 0,
            abort_requested: false,
            worker_id: None,
        }
    }
}

/// An event to insert, for tests: of another time than that at which a trigger would have written it, say. With the feature
/// `writable-models`.
///
/// # Example
///
/// A job that ended a week ago, to see it cleared away:
///
/// ```no_run
/// use diesel::prelude::*;
/// use procrastinate::schema::procrastinate_events;
/// use procrastinate::{JobEventType, JobId};
/// use procrastinate::models::NewProcrastinateEvent;
///
/// fn succeeded_a_week_ago(connection: &mut PgConnection, job_id: JobId) -> QueryResult<usize> {
///     let event = NewProcrastinateEvent {
///         job_id,
///         event_type: Some(JobEventType::Succeeded),
///         at: Some(chrono::Utc::now() - chrono::TimeDelta::days(7)),
///     };
///     diesel::insert_into(procrastinate_events::table).values(&event).execute(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = procrastinate_events)]
pub struct NewProcrastinateEvent {
    /// The job.
    pub job_id: JobId,
    /// What happened.
    #[diesel(column_name = type_)]
    pub event_type: Option<JobEventType>,
    /// When; now, if it is `None`.
    pub at: Option<DateTime<Utc>>,
}

/// A tick of a periodic task to insert as one that was deferred, for tests. With the feature `writable-models`.
///
/// # Example
///
/// ```no_run
/// use diesel::prelude::*;
/// use procrastinate::models::NewProcrastinatePeriodicDefer;
/// use procrastinate::schema::procrastinate_periodic_defers;
///
/// fn deferred_at_eight(connection: &mut PgConnection) -> QueryResult<usize> {
///     let tick = NewProcrastinatePeriodicDefer {
///         task_name: "report".to_owned(),
///         defer_timestamp: Some(1_582_963_200),
///         ..NewProcrastinatePeriodicDefer::default()
///     };
///     diesel::insert_into(procrastinate_periodic_defers::table).values(&tick).execute(connection)
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Insertable)]
#[diesel(table_name = procrastinate_periodic_defers)]
pub struct NewProcrastinatePeriodicDefer {
    /// The task.
    pub task_name: String,
    /// The tick, in Unix seconds.
    pub defer_timestamp: Option<i64>,
    /// The job it became.
    pub job_id: Option<JobId>,
    /// Tells several schedules of one task apart.
    pub periodic_id: String,
}

/// A worker to insert, for tests: one that has not been heard of for a while, say. With the feature `writable-models`.
///
/// # Example
///
/// ```no_run
/// use diesel::prelude::*;
/// use procrastinate::schema::procrastinate_workers;
/// use procrastinate::models::{NewProcrastinateWorker, ProcrastinateWorker};
///
/// fn dead_worker(connection: &mut PgConnection) -> QueryResult<ProcrastinateWorker> {
///     let worker = NewProcrastinateWorker { last_heartbeat: chrono::Utc::now() - chrono::TimeDelta::hours(1) };
///     let inserted = diesel::insert_into(procrastinate_workers::table).values(&worker);
///     inserted.returning(ProcrastinateWorker::as_returning()).get_result(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = procrastinate_workers)]
pub struct NewProcrastinateWorker {
    /// When it last said that it is alive.
    pub last_heartbeat: DateTime<Utc>,
}
