//! Operations that only a worker needs. The others are in the job manager. The caller chooses the connection.

use std::cmp::Reverse;
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error::DatabaseError};

use crate::database::connection::run::Run;
use crate::database::statements::finish_and_fetch::{
    FetchedJob, FinishAndFetchJobs, FinishedOrFetched, JobsOfWorker, MissingPart,
};
use crate::database::statements::rescue::{JobsWithoutWorker, RescueJobs, RescuedJob};
use crate::database::statements::workers::{DrawWorkerId, HeldJob, HeldJobs, ReregisterWorker, UpdateHeartbeatQuery};
use crate::error::Error;
use crate::job::{Job, JobId};
use crate::queue::metrics::FetchTimer;

/// How many jobs are unlinked from a worker in one step, before it is removed.
pub(crate) const UNLINK_SIZE: i32 = 1_000;

/// Draws an ID under which a worker can re-register.
pub(crate) async fn draw_worker_id(connection: &mut impl Run) -> Result<i64, Error> {
    connection.load_one(DrawWorkerId).await
}

/// Registers a worker under a new ID. Statements under the former one can then no longer do anything, even if they
/// arrive late. Returns all jobs that the worker holds. If it was pruned, these are the jobs of `held` that no other
/// worker has taken since. Repeating the call does no harm.
pub(crate) async fn reregister_worker(
    connection: &mut impl Run,
    former_id: i64,
    new_id: i64,
    held: impl IntoIterator<Item = (JobId, i32)>,
) -> Result<Vec<(JobId, i32)>, Error> {
    let (job_ids, attempts) = held.into_iter().unzip();
    connection.load(ReregisterWorker { former_id, new_id, job_ids, attempts }).await
}

/// Sends a heartbeat. Returns how many workers are registered, or `None` if this one is not, because another worker
/// considered it stalled.
pub(crate) async fn update_heartbeat(connection: &mut impl Run, worker_id: i64) -> Result<Option<u32>, Error> {
    let workers = connection.load_one(UpdateHeartbeatQuery { worker_id }).await?;
    Ok(u32::try_from(workers).ok().filter(|workers| *workers > 0))
}

/// Returns the jobs that the worker holds, as the database knows them.
pub(crate) async fn held_jobs(connection: &mut impl Run, worker_id: i64) -> Result<Vec<HeldJob>, Error> {
    connection.load(HeldJobs { worker_id }).await
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

/// Returns jobs of these tasks that have the status `doing` and no worker, in the order of their IDs, after this ID. It
/// returns an empty list only if there are none.
pub(crate) async fn jobs_without_worker(
    connection: &mut impl Run,
    task_names: Vec<String>,
    after: JobId,
) -> Result<Vec<Job>, Error> {
    let rows = connection.load(JobsWithoutWorker { task_names, after }).await?;
    Ok(FinishedAndFetched::from(rows).fetched.into_iter().map(|fetched| fetched.job).collect())
}

/// Ends the attempts of jobs whose worker died. Returns the new status of each job that no other worker has taken, or
/// why the database refused to change it.
pub(crate) async fn rescue_jobs(connection: &mut impl Run, statement: RescueJobs) -> Result<Vec<RescuedJob>, Error> {
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
    /// Jobs whose outcome is stored without a part that the database refused, and why.
    pub(crate) incomplete: Vec<(JobId, MissingPart, String)>,
    /// Why the database refused to fetch jobs.
    pub(crate) fetch_problem: Option<String>,
    /// When there may be room for jobs that a limit keeps from being fetched.
    pub(crate) wait: Option<Duration>,
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
                FinishedOrFetched::Incomplete(id, missing, problem) => result.incomplete.push((id, missing, problem)),
                FinishedOrFetched::Refused(Some(id), problem) => result.refused.push((id, problem)),
                FinishedOrFetched::Refused(None, problem) => result.fetch_problem = Some(problem),
                FinishedOrFetched::Wait(wait) => result.wait = Some(wait),
                FinishedOrFetched::Fetched(job) => result.fetched.push(*job),
            }
        }
        // Higher priority first, then lower ID. This is the order of fetching, which PostgreSQL does not guarantee for
        // `RETURNING`.
        result.fetched.sort_by_key(|fetched| (Reverse(fetched.job.priority), fetched.job.id));
        result
    }
}

/// Whether the error is the foreign key that rejects a job for a worker without a row. The application can have foreign
/// keys of its own, which mean something else.
pub(crate) fn is_missing_worker(error: &Error) -> bool {
    matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::ForeignKeyViolation, information))
        if information.constraint_name() == Some("procrastinate_jobs_worker_id_fkey"))
}
