//! Insertable rows of the queue's tables, for the tests of applications.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde_json::json;

use crate::job::{JobEventType, JobId, JobStatus};
use procrastinate_schema::schema::{
    procrastinate_events, procrastinate_jobs, procrastinate_periodic_defers, procrastinate_workers,
};

/// A job to insert with any status, for tests. Requires the feature `writable-models`.
///
/// Triggers write its first events as for any job. If it is pending, they also notify workers. Defer a job instead if
/// you need no special status. An inserted job can be changed and saved, because
/// [`ProcrastinateJob`](crate::models::ProcrastinateJob) is a changeset with this feature.
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
    /// The priority. Jobs with a higher one are fetched first.
    pub priority: i32,
    /// The lock. Jobs that share a lock run one at a time.
    pub lock: Option<String>,
    /// The queueing lock. Only one pending job can hold it.
    pub queueing_lock: Option<String>,
    /// The arguments by name, a JSON object.
    pub args: serde_json::Value,
    /// The status of the job.
    pub status: JobStatus,
    /// The earliest start time, if the job is scheduled.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// The number of finished attempts.
    pub attempts: i32,
    /// Whether an abort was requested. Must be false for a pending job.
    pub abort_requested: bool,
    /// The worker that holds the job.
    pub worker_id: Option<i64>,
}

impl NewProcrastinateJob {
    /// Makes a pending job of this task in the queue `default`, with priority 0 and no arguments.
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

/// An event to insert, for example with another time than a trigger would write. For tests. Requires the feature
/// `writable-models`.
///
/// # Example
///
/// A job that finished a week ago, to test its deletion:
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
    /// The type of the event.
    #[diesel(column_name = type_)]
    pub event_type: Option<JobEventType>,
    /// The time of the event. `None` means now.
    pub at: Option<DateTime<Utc>>,
}

/// A deferred tick of a periodic task to insert, for tests. Requires the feature `writable-models`.
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
    /// The job of the tick.
    pub job_id: Option<JobId>,
    /// The name that tells several schedules of one task apart.
    pub periodic_id: String,
}

/// A worker to insert, for example one that has missed its heartbeats. For tests. Requires the feature
/// `writable-models`.
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
    /// The time of its last heartbeat.
    pub last_heartbeat: DateTime<Utc>,
}
