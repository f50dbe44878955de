//! Operations for custom workers.

use std::time::Duration;

use super::list::SECONDS_SINCE_HEARTBEAT;
use super::operation;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateJob;
use crate::database::statements::manage;
use crate::database::statements::workers;
use crate::error::Error;
use crate::validation::{check_age, check_filter};

/// Fetches the next job for a registered worker. The job becomes `doing`.
///
/// The operation returns `None` if no job is due. The caller runs the job, then [finishes](super::finish_job) or
/// [retries](super::retry_job) it. [`App::worker`](crate::App::worker) does all of this for you.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::Database`] if the worker is not registered.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{JobStatus, job_manager};
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let worker_id = job_manager::register_worker().execute_blocking(connection)?;
/// while let Some(job) = job_manager::fetch_job(worker_id).queues(["mails"]).execute_blocking(connection)? {
///     println!("running {job}");
///     job_manager::finish_job(&job, JobStatus::Succeeded).execute_blocking(connection)?;
/// }
/// job_manager::unregister_worker(worker_id).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn fetch_job(worker_id: i64) -> FetchJob {
    FetchJob { queues: None, worker_id }
}

/// The operation of [`fetch_job`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{FetchJob, fetch_job};
///
/// let operation: FetchJob = fetch_job(3).queues(["mails"]);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct FetchJob {
    queues: Option<Vec<String>>,
    worker_id: i64,
}

operation!(FetchJob -> Option<ProcrastinateJob>);

impl FetchJob {
    /// Fetches only a job of these queues. Default: all queues. An empty list means no queue.
    ///
    /// # Example
    ///
    /// ```
    /// let operation = procrastinate::job_manager::fetch_job(3).queues(["mails", "invoices"]);
    /// ```
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<Option<ProcrastinateJob>, Error> {
        let Self { queues, worker_id } = self;
        queues.iter().flatten().try_for_each(|queue| check_filter("queue name", Some(queue)))?;
        let rows = run.load(manage::FetchJobQuery { queues, worker_id }).await?;
        Ok(rows.into_iter().next())
    }
}

/// Registers a worker and returns its ID, `procrastinate_workers.id`.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let worker_id = procrastinate::job_manager::register_worker().execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn register_worker() -> RegisterWorker {
    RegisterWorker {}
}

/// The operation of [`register_worker`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{RegisterWorker, register_worker};
///
/// let operation: RegisterWorker = register_worker();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct RegisterWorker {}

operation!(RegisterWorker -> i64);

impl RegisterWorker {
    pub(crate) async fn perform<R: Run>(self, run: &mut R) -> Result<i64, Error> {
        run.load_one(workers::RegisterWorkerQuery).await
    }
}

/// Removes a worker. Jobs that it still holds lose their worker and count as stalled.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager). Removing a worker that is not registered is not an error.
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::unregister_worker(3).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn unregister_worker(worker_id: i64) -> UnregisterWorker {
    UnregisterWorker { worker_id }
}

/// The operation of [`unregister_worker`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{UnregisterWorker, unregister_worker};
///
/// let operation: UnregisterWorker = unregister_worker(3);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct UnregisterWorker {
    worker_id: i64,
}

operation!(UnregisterWorker -> ());

impl UnregisterWorker {
    pub(crate) async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let statement = workers::UnregisterWorkerQuery { worker_id: self.worker_id };
        run.load(statement).await?;
        Ok(())
    }
}

/// Sends a heartbeat for a worker.
///
/// The operation returns whether the worker is registered. If it is not, the worker was pruned as stalled and has lost
/// its jobs.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let is_registered = procrastinate::job_manager::update_heartbeat(3).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn update_heartbeat(worker_id: i64) -> UpdateHeartbeat {
    UpdateHeartbeat { worker_id }
}

/// The operation of [`update_heartbeat`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{UpdateHeartbeat, update_heartbeat};
///
/// let operation: UpdateHeartbeat = update_heartbeat(3);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct UpdateHeartbeat {
    worker_id: i64,
}

operation!(UpdateHeartbeat -> bool);

impl UpdateHeartbeat {
    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        Ok(run.load_one(workers::UpdateHeartbeatQuery { worker_id: self.worker_id }).await? > 0)
    }
}

/// Removes workers that have missed their heartbeats, and returns their IDs.
///
/// Their jobs lose their worker and count as [stalled](super::get_stalled_jobs).
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::Invalid`] for a time over 1,000 years.
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let gone = procrastinate::job_manager::prune_stalled_workers().execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn prune_stalled_workers() -> PruneStalledWorkers {
    PruneStalledWorkers { seconds_since_heartbeat: SECONDS_SINCE_HEARTBEAT }
}

/// The operation of [`prune_stalled_workers`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::job_manager::{PruneStalledWorkers, prune_stalled_workers};
///
/// let operation: PruneStalledWorkers = prune_stalled_workers().seconds_since_heartbeat(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct PruneStalledWorkers {
    seconds_since_heartbeat: Duration,
}

operation!(PruneStalledWorkers -> Vec<i64>);

impl PruneStalledWorkers {
    /// Sets the time without a heartbeat, at most 1,000 years. Default: 30 seconds.
    ///
    /// Use the same value as the workers' `stalled_worker_timeout`.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::time::Duration;
    /// let operation = procrastinate::job_manager::prune_stalled_workers().seconds_since_heartbeat(Duration::from_secs(60));
    /// ```
    pub fn seconds_since_heartbeat(mut self, silence: Duration) -> Self {
        self.seconds_since_heartbeat = silence;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<i64>, Error> {
        check_age("seconds_since_heartbeat", self.seconds_since_heartbeat)?;
        let statement =
            workers::PruneStalledWorkersQuery { seconds_since_heartbeat: self.seconds_since_heartbeat.as_secs_f64() };
        run.load(statement).await
    }
}
