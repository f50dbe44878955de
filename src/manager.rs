//! What a worker asks of the database, each with a connection of its own choosing.

use std::cmp::Reverse;
use std::time::Duration;

use diesel_async::AsyncPgConnection;

use crate::error::Error;
use crate::job::JobId;
use crate::queries::lifecycle::{
    FetchedJob, FinishAndFetchJobs, FinishedOrFetched, JobsOfWorker, PruneStalledWorkers, RegisterWorker,
    UnregisterWorker, UpdateHeartbeat,
};
use crate::queries::{Async, Run};

/// Enters a worker, and returns its id.
pub(crate) async fn register_worker(connection: &mut AsyncPgConnection) -> Result<i64, Error> {
    const ACTION: &str = "register the worker";
    let ids = Async(connection).load(RegisterWorker).await.map_err(|source| Error::database(ACTION, source))?;
    ids.first().copied().ok_or(Error::Database { action: ACTION, source: diesel::result::Error::NotFound })
}

/// Removes a worker. Jobs that it still has lose their worker, and count as stalled.
pub(crate) async fn unregister_worker(connection: &mut AsyncPgConnection, worker_id: i64) -> Result<(), Error> {
    let statement = UnregisterWorker { worker_id };
    Async(connection).load(statement).await.map_err(|source| Error::database("unregister the worker", source))?;
    Ok(())
}

/// Removes the workers that have not been heard of for so long, and returns their ids.
pub(crate) async fn prune_stalled_workers(
    connection: &mut AsyncPgConnection,
    stalled_worker_timeout: Duration,
) -> Result<Vec<i64>, Error> {
    let statement = PruneStalledWorkers { seconds_since_heartbeat: stalled_worker_timeout.as_secs_f64() };
    Async(connection).load(statement).await.map_err(|source| Error::database("remove stalled workers", source))
}

/// What the database answered to a worker's heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// The worker is registered, and by the database's account is doing these jobs.
    Alive(Vec<JobId>),
    /// The worker is not registered any more: somebody took it for dead.
    Gone,
}

/// Says that the worker is alive.
pub(crate) async fn update_heartbeat(connection: &mut AsyncPgConnection, worker_id: i64) -> Result<Heartbeat, Error> {
    let statement = UpdateHeartbeat { worker_id };
    let rows =
        Async(connection).load(statement).await.map_err(|source| Error::database("update the heartbeat", source))?;
    Ok(if rows.is_empty() { Heartbeat::Gone } else { Heartbeat::Alive(rows.into_iter().flatten().collect()) })
}

/// Those of the jobs that the worker is doing, in the order in which they are to be started.
pub(crate) async fn jobs_of_worker(
    connection: &mut AsyncPgConnection,
    worker_id: i64,
    job_ids: Vec<JobId>,
) -> Result<Vec<FetchedJob>, Error> {
    let statement = JobsOfWorker { worker_id, job_ids };
    let rows = Async(connection)
        .load(statement)
        .await
        .map_err(|source| Error::database("look up the worker's jobs", source))?;
    Ok(FinishedAndFetched::from(rows).fetched)
}

/// The answer to [`finish_and_fetch`].
#[derive(Debug, Default)]
pub(crate) struct FinishedAndFetched {
    /// Finished jobs that were not the worker's any more.
    pub(crate) lost: Vec<JobId>,
    /// Jobs that the worker has taken, in the order in which they are to be started.
    pub(crate) fetched: Vec<FetchedJob>,
}

/// Ends the jobs that a worker has finished and takes new ones, in one transaction and one round trip.
pub(crate) async fn finish_and_fetch(
    connection: &mut AsyncPgConnection,
    statement: FinishAndFetchJobs,
) -> Result<FinishedAndFetched, Error> {
    let rows = Async(connection)
        .load(statement)
        .await
        .map_err(|source| Error::database("finish jobs and fetch new ones", source))?;
    Ok(FinishedAndFetched::from(rows))
}

impl From<Vec<FinishedOrFetched>> for FinishedAndFetched {
    fn from(rows: Vec<FinishedOrFetched>) -> Self {
        let mut answer = Self::default();
        for row in rows {
            match row {
                FinishedOrFetched::Lost(id) => answer.lost.push(id),
                FinishedOrFetched::Fetched(job) => answer.fetched.push(*job),
            }
        }
        // Higher priority first, then lower id: the order of fetching, which PostgreSQL does not promise for `RETURNING`.
        answer.fetched.sort_by_key(|fetched| (Reverse(fetched.job.priority), fetched.job.id));
        answer
    }
}
