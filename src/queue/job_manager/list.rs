//! Operations that only read jobs.

use std::time::Duration;

use super::{filters, operation};
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateJob;
use crate::database::statements::inspect::{self, JobFilter, JobsToAbort, StalledJobs};
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::validation::{check_age, check_filter};

/// The default time without a heartbeat after which a worker is considered stalled.
pub(super) const SECONDS_SINCE_HEARTBEAT: Duration = Duration::from_secs(30);

/// Checks whether the database has the queue's tables.
///
/// The operation returns `false` if it has not. Then run the migrations, or check `search_path`.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// assert!(app.perform(procrastinate::job_manager::check_connection()).await?, "run the migrations first");
/// # Ok(())
/// # }
/// ```
pub fn check_connection() -> CheckConnection {
    CheckConnection {}
}

/// The operation of [`check_connection`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{CheckConnection, check_connection};
///
/// let operation: CheckConnection = check_connection();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct CheckConnection {}

operation!(CheckConnection -> bool);

impl CheckConnection {
    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let rows = run.load(inspect::CheckConnectionQuery).await?;
        Ok(rows.contains(&true))
    }
}

/// Reads the status of a job. The operation returns `None` if there is no such job.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// use procrastinate::{JobStatus, job_manager};
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let done = job_manager::get_job_status(7).execute_blocking(connection)? == Some(JobStatus::Succeeded);
/// # Ok(())
/// # }
/// ```
pub fn get_job_status(id: impl Into<JobId>) -> GetJobStatus {
    GetJobStatus { job_id: id.into() }
}

/// The operation of [`get_job_status`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{GetJobStatus, get_job_status};
///
/// let operation: GetJobStatus = get_job_status(7);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct GetJobStatus {
    job_id: JobId,
}

operation!(GetJobStatus -> Option<JobStatus>);

impl GetJobStatus {
    async fn perform<R: Run>(self, run: &mut R) -> Result<Option<JobStatus>, Error> {
        let statement = inspect::GetJobStatusQuery { job_id: self.job_id };
        let rows = run.load(statement).await?;
        Ok(rows.into_iter().next())
    }
}

/// Lists the jobs that pass all filters, sorted by ID.
///
/// Without a filter and a [`limit`](ListJobs::limit) it loads all jobs into memory, as Procrastinate does. These can be
/// very many. To use pages, another order or joins, write a query with [`ProcrastinateJob::query`].
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// use procrastinate::{JobStatus, job_manager};
///
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// for job in app.perform(job_manager::list_jobs().queue("mails").status(JobStatus::Failed)).await? {
///     println!("{job} has failed after {} attempts", job.attempts);
/// }
/// # Ok(())
/// # }
/// ```
pub fn list_jobs() -> ListJobs {
    ListJobs { filter: JobFilter::default(), limit: None }
}

/// The operation of [`list_jobs`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ListJobs, list_jobs};
///
/// fn of_customer(customer: i64) -> ListJobs {
///     list_jobs().lock(format!("customer-{customer}"))
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ListJobs {
    filter: JobFilter,
    limit: Option<u32>,
}

operation!(ListJobs -> Vec<ProcrastinateJob>);

filters!(ListJobs:
    /// Lists only the job with this ID.
    id(JobId),
    /// Lists only jobs of this queue.
    queue(String),
    /// Lists only jobs of the task with this name.
    task(String),
    /// Lists only jobs with this status.
    status(JobStatus),
    /// Lists only jobs with this lock.
    lock(String),
    /// Lists only jobs with this queueing lock.
    queueing_lock(String),
    /// Lists only jobs held by this worker, from `procrastinate_workers.id`.
    worker_id(i64),
);

impl ListJobs {
    /// Lists only this many jobs, those with the lowest IDs. Default: no limit.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::list_jobs().queue("mails").limit(1_000);
    /// ```
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<ProcrastinateJob>, Error> {
        check_filters(&self.filter)?;
        let Self { filter, limit } = self;
        run.load(inspect::ListJobsQuery { filter, limit: limit.map(i64::from) }).await
    }
}

/// Lists running jobs whose worker is gone or has missed its heartbeats, sorted by ID.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::{get_stalled_jobs, retry_job};
///
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// for job in app.perform(get_stalled_jobs().queue("mails")).await? {
///     app.perform(retry_job(&job)).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn get_stalled_jobs() -> GetStalledJobs {
    GetStalledJobs { seconds_since_heartbeat: SECONDS_SINCE_HEARTBEAT, filter: JobFilter::default() }
}

/// The operation of [`get_stalled_jobs`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{GetStalledJobs, get_stalled_jobs};
///
/// let operation: GetStalledJobs = get_stalled_jobs().task_name("send_invoice");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct GetStalledJobs {
    seconds_since_heartbeat: Duration,
    filter: JobFilter,
}

operation!(GetStalledJobs -> Vec<ProcrastinateJob>);

filters!(GetStalledJobs:
    /// Lists only jobs of this queue.
    queue(String),
);

impl GetStalledJobs {
    /// Lists only jobs of the task with this name.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::get_stalled_jobs().task_name("send_invoice");
    /// ```
    pub fn task_name(mut self, task_name: impl Into<String>) -> Self {
        self.filter.task = Some(task_name.into());
        self
    }

    /// Sets the time without a heartbeat, at most 1,000 years. Default: 30 seconds.
    ///
    /// Use the same value as the workers' `stalled_worker_timeout`.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::time::Duration;
    /// let operation = procrastinate::job_manager::get_stalled_jobs().seconds_since_heartbeat(Duration::from_secs(60));
    /// ```
    pub fn seconds_since_heartbeat(mut self, silence: Duration) -> Self {
        self.seconds_since_heartbeat = silence;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<ProcrastinateJob>, Error> {
        check_age("seconds_since_heartbeat", self.seconds_since_heartbeat)?;
        check_filters(&self.filter)?;
        let statement =
            StalledJobs { seconds_since_heartbeat: self.seconds_since_heartbeat.as_secs_f64(), filter: self.filter };
        run.load(statement).await
    }
}

/// Lists the IDs of running jobs with an abort request.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let ids = procrastinate::job_manager::list_jobs_to_abort().queue("mails").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn list_jobs_to_abort() -> ListJobsToAbort {
    ListJobsToAbort { filter: JobFilter::default() }
}

/// The operation of [`list_jobs_to_abort`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ListJobsToAbort, list_jobs_to_abort};
///
/// let operation: ListJobsToAbort = list_jobs_to_abort().queue("mails");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ListJobsToAbort {
    filter: JobFilter,
}

operation!(ListJobsToAbort -> Vec<JobId>);

filters!(ListJobsToAbort:
    /// Lists only jobs of this queue.
    queue(String),
);

impl ListJobsToAbort {
    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<JobId>, Error> {
        check_filters(&self.filter)?;
        run.load(JobsToAbort(self.filter)).await
    }
}

/// Checks the values of the filters.
pub(super) fn check_filters(filter: &JobFilter) -> Result<(), Error> {
    check_filter("queue name", filter.queue.as_deref())?;
    check_filter("task name", filter.task.as_deref())?;
    check_filter("status", filter.status.as_ref().map(JobStatus::as_str))?;
    check_filter("lock", filter.lock.as_deref())?;
    check_filter("queueing lock", filter.queueing_lock.as_deref())
}
