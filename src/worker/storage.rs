//! The operations that only a worker needs, besides those of the job manager. The caller chooses the connection.

use std::cmp::Reverse;

use crate::database::connection::run::{Run, no_row};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs, FinishedOrFetched, JobsOfWorker};
use crate::database::statements::rescue::{JobsWithoutWorker, RescueJobs};
use crate::database::statements::workers::{RegisterWorkerAgain, UpdateHeartbeatQuery};
use crate::error::Error;
use crate::job::{Job, JobId, JobStatus};
use crate::queue::metrics::FetchTimer;

/// Registers a worker again that was pruned while it held these jobs. Returns its new ID and the jobs that no other
/// worker has taken since, which it holds again.
pub(crate) async fn reregister_worker(
    connection: &mut impl Run,
    held: impl IntoIterator<Item = (JobId, i32)>,
) -> Result<(i64, Vec<JobId>), Error> {
    let (job_ids, attempts) = held.into_iter().unzip();
    let statement = RegisterWorkerAgain { job_ids, attempts };
    let rows = connection.load(statement).await?;
    let (worker_id, _) = rows.first().ok_or_else(no_row::<RegisterWorkerAgain>)?;
    Ok((*worker_id, rows.iter().filter_map(|(_, job_id)| *job_id).collect()))
}

/// The result of a heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// The worker is registered. These are its jobs, and whether an abort of each is requested.
    Alive(Vec<(JobId, bool)>),
    /// The worker is not registered any more, because another worker considered it stalled.
    Gone,
}

/// Sends a heartbeat.
pub(crate) async fn update_heartbeat(connection: &mut impl Run, worker_id: i64) -> Result<Heartbeat, Error> {
    let statement = UpdateHeartbeatQuery { worker_id };
    let rows = connection.load(statement).await?;
    if rows.is_empty() {
        return Ok(Heartbeat::Gone);
    }
    Ok(Heartbeat::Alive(rows.into_iter().filter_map(|(id, abort_requested)| Some((id?, abort_requested?))).collect()))
}

/// Returns those of the jobs that the worker holds, in the order in which they should start.
pub(crate) async fn jobs_of_worker(
    connection: &mut impl Run,
    worker_id: i64,
    job_ids: Vec<JobId>,
) -> Result<Vec<FetchedJob>, Error> {
    let statement = JobsOfWorker { worker_id, job_ids };
    let rows = connection.load(statement).await?;
    Ok(FinishedAndFetched::from(rows).fetched)
}

/// Returns jobs of these tasks that have the status `doing` and no worker.
pub(crate) async fn jobs_without_worker(connection: &mut impl Run, task_names: Vec<String>) -> Result<Vec<Job>, Error> {
    let rows = connection.load(JobsWithoutWorker { task_names }).await?;
    Ok(FinishedAndFetched::from(rows).fetched.into_iter().map(|fetched| fetched.job).collect())
}

/// Ends the attempts of jobs whose worker died. Returns the new status of each job that no other worker has taken.
pub(crate) async fn rescue_jobs(
    connection: &mut impl Run,
    statement: RescueJobs,
) -> Result<Vec<(JobId, JobStatus)>, Error> {
    connection.load(statement).await
}

/// The result of [`finish_and_fetch`].
#[derive(Debug, Default)]
pub(crate) struct FinishedAndFetched {
    /// Finished jobs that the worker no longer holds.
    pub(crate) lost: Vec<JobId>,
    /// Jobs that could not be retried, and failed.
    pub(crate) not_retried: Vec<JobId>,
    /// Jobs whose outcome the database refused to store, and why.
    pub(crate) refused: Vec<(JobId, String)>,
    /// Why the database refused to fetch jobs.
    pub(crate) fetch_problem: Option<String>,
    /// Jobs that the worker has fetched, in the order in which they should start.
    pub(crate) fetched: Vec<FetchedJob>,
}

/// Stores the outcomes of finished jobs and fetches new ones, in one transaction and one round trip.
pub(crate) async fn finish_and_fetch(
    connection: &mut impl Run,
    statement: FinishAndFetchJobs,
) -> Result<FinishedAndFetched, Error> {
    let fetch = FetchTimer::start();
    let rows = connection.load(statement).await?;
    fetch.end();
    Ok(FinishedAndFetched::from(rows))
}

impl From<Vec<FinishedOrFetched>> for FinishedAndFetched {
    fn from(rows: Vec<FinishedOrFetched>) -> Self {
        let mut result = Self::default();
        for row in rows {
            match row {
                FinishedOrFetched::Lost(id) => result.lost.push(id),
                FinishedOrFetched::NotRetried(id) => result.not_retried.push(id),
                FinishedOrFetched::Refused(Some(id), problem) => result.refused.push((id, problem)),
                FinishedOrFetched::Refused(None, problem) => result.fetch_problem = Some(problem),
                FinishedOrFetched::Fetched(job) => result.fetched.push(*job),
            }
        }
        // Higher priority first, then lower ID. This is the order of fetching, which PostgreSQL does not guarantee for
        // `RETURNING`.
        result.fetched.sort_by_key(|fetched| (Reverse(fetched.job.priority), fetched.job.id));
        result
    }
}
