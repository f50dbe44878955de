//! What a worker asks of the database beyond what the job manager offers to all, each with a connection of its own choosing.

use std::cmp::Reverse;

use crate::database::connection::run::{Run, no_row};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs, FinishedOrFetched, JobsOfWorker};
use crate::database::statements::rescue::{JobsWithoutWorker, RescueJobs};
use crate::database::statements::workers::{RegisterWorkerAgain, UpdateHeartbeatQuery};
use crate::error::Error;
use crate::job::{Job, JobId, JobStatus};
use crate::queue::metrics::FetchTimer;

/// Enters a worker anew that was removed while it was running these jobs. Answers with its id, and those of the jobs that
/// nobody has taken since: they are its own again.
pub(crate) async fn register_worker_again(
    connection: &mut impl Run,
    held: impl IntoIterator<Item = (JobId, i32)>,
) -> Result<(i64, Vec<JobId>), Error> {
    let (job_ids, attempts) = held.into_iter().unzip();
    let statement = RegisterWorkerAgain { job_ids, attempts };
    let rows = connection.load(statement).await?;
    let (worker_id, _) = rows.first().ok_or_else(no_row::<RegisterWorkerAgain>)?;
    Ok((*worker_id, rows.iter().filter_map(|(_, job_id)| *job_id).collect()))
}

/// What the database answered to a worker's heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// The worker is registered, and by the database's account is doing these jobs, some of which may be to be aborted.
    Alive(Vec<(JobId, bool)>),
    /// The worker is not registered any more: somebody took it for dead.
    Gone,
}

/// Says that the worker is alive.
pub(crate) async fn update_heartbeat(connection: &mut impl Run, worker_id: i64) -> Result<Heartbeat, Error> {
    let statement = UpdateHeartbeatQuery { worker_id };
    let rows = connection.load(statement).await?;
    if rows.is_empty() {
        return Ok(Heartbeat::Gone);
    }
    Ok(Heartbeat::Alive(rows.into_iter().filter_map(|(id, abort_requested)| Some((id?, abort_requested?))).collect()))
}

/// Those of the jobs that the worker is doing, in the order in which they are to be started.
pub(crate) async fn jobs_of_worker(
    connection: &mut impl Run,
    worker_id: i64,
    job_ids: Vec<JobId>,
) -> Result<Vec<FetchedJob>, Error> {
    let statement = JobsOfWorker { worker_id, job_ids };
    let rows = connection.load(statement).await?;
    Ok(FinishedAndFetched::from(rows).fetched)
}

/// Jobs of these tasks that are marked as running while their worker is gone.
pub(crate) async fn jobs_without_worker(connection: &mut impl Run, task_names: Vec<String>) -> Result<Vec<Job>, Error> {
    let rows = connection.load(JobsWithoutWorker { task_names }).await?;
    Ok(FinishedAndFetched::from(rows).fetched.into_iter().map(|fetched| fetched.job).collect())
}

/// Ends the attempts of jobs whose worker died. Answers with what became of each that nobody else has taken.
pub(crate) async fn rescue_jobs(
    connection: &mut impl Run,
    statement: RescueJobs,
) -> Result<Vec<(JobId, JobStatus)>, Error> {
    connection.load(statement).await
}

/// The answer to [`finish_and_fetch`].
#[derive(Debug, Default)]
pub(crate) struct FinishedAndFetched {
    /// Finished jobs that were not the worker's any more.
    pub(crate) lost: Vec<JobId>,
    /// Jobs that could not wait for another attempt, and failed.
    pub(crate) not_retried: Vec<JobId>,
    /// Jobs whose outcome the database refused to store, and why.
    pub(crate) refused: Vec<(JobId, String)>,
    /// Why the database refused to hand out jobs.
    pub(crate) fetch_problem: Option<String>,
    /// Jobs that the worker has taken, in the order in which they are to be started.
    pub(crate) fetched: Vec<FetchedJob>,
}

/// Ends the jobs that a worker has finished and takes new ones, in one transaction and one round trip.
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
        let mut answer = Self::default();
        for row in rows {
            match row {
                FinishedOrFetched::Lost(id) => answer.lost.push(id),
                FinishedOrFetched::NotRetried(id) => answer.not_retried.push(id),
                FinishedOrFetched::Refused(Some(id), problem) => answer.refused.push((id, problem)),
                FinishedOrFetched::Refused(None, problem) => answer.fetch_problem = Some(problem),
                FinishedOrFetched::Fetched(job) => answer.fetched.push(*job),
            }
        }
        // Higher priority first, then lower id: the order of fetching, which PostgreSQL does not promise for `RETURNING`.
        answer.fetched.sort_by_key(|fetched| (Reverse(fetched.job.priority), fetched.job.id));
        answer
    }
}
