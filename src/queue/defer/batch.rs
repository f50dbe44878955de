//! Deferring many jobs in one statement.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnectionCore;

use crate::database::connection::run::{Async, Blocking, Run, complete};
use crate::database::statements::defer::{InsertJobs, NewJob};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::JobToDefer;
use crate::queue::metrics::JobsToCount;

/// Defers any number of jobs in one statement on an async connection, all or none.
///
/// It returns their IDs in the order of the input. The jobs may be of different tasks.
///
/// # Errors
///
/// As [`JobToDefer::defer`]. If one job cannot be deferred, none is. [`Error::AlreadyEnqueued`] is also returned if a
/// queueing lock occurs twice among the jobs. Your transaction stays intact except after [`Error::Database`].
///
/// # Example
///
/// ```no_run
/// # use procrastinate::task;
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// let ids = procrastinate::batch_defer((1..=1_000).map(welcome), connection).await?;
/// assert_eq!(ids.len(), 1_000);
/// # Ok(())
/// # }
/// ```
pub async fn batch_defer<C>(jobs: impl IntoIterator<Item = JobToDefer>, connection: &mut C) -> Result<Vec<JobId>, Error>
where
    C: AsyncConnectionCore<Backend = Pg>,
{
    batch_defer_or_fail(new_jobs(jobs)?, &mut Async(connection)).await
}

/// Defers any number of jobs, as [`batch_defer`] does, on a blocking connection.
///
/// # Errors
///
/// As [`batch_defer`].
///
/// # Example
///
/// ```no_run
/// # use procrastinate::task;
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let ids = procrastinate::batch_defer_blocking([welcome(1), welcome(2)], connection)?;
/// # Ok(())
/// # }
/// ```
pub fn batch_defer_blocking<C>(
    jobs: impl IntoIterator<Item = JobToDefer>,
    connection: &mut C,
) -> Result<Vec<JobId>, Error>
where
    C: LoadConnection<Backend = Pg>,
{
    complete(batch_defer_or_fail(new_jobs(jobs)?, &mut Blocking(connection)))
}

/// Checks all jobs and converts them into rows.
pub(crate) fn new_jobs(jobs: impl IntoIterator<Item = JobToDefer>) -> Result<Vec<NewJob>, Error> {
    jobs.into_iter().map(JobToDefer::into_new_job).collect()
}

/// The common implementation of the functions that defer a batch.
pub(crate) async fn batch_defer_or_fail<R: Run>(jobs: Vec<NewJob>, run: &mut R) -> Result<Vec<JobId>, Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let locked: Vec<(String, String)> =
        jobs.iter().filter_map(|job| Some((job.queueing_lock.clone()?, job.task_name.clone()))).collect();
    let on_their_way = JobsToCount::new(jobs.iter().map(|job| (job.task_name.as_str(), job.queue.as_str())));
    let rows = run.load(jobs.into_iter().collect::<InsertJobs>()).await?;
    if let Some(queueing_lock) = rows.iter().find_map(|(_, taken)| taken.clone()) {
        let task_name =
            locked.into_iter().find(|(lock, _)| *lock == queueing_lock).map_or_else(String::new, |(_, task)| task);
        return Err(Error::AlreadyEnqueued { task_name, queueing_lock });
    }
    on_their_way.deferred();
    let ids: Vec<JobId> = rows.into_iter().filter_map(|(id, _)| id).collect();
    tracing::info!(action = "jobs_deferred", count = ids.len(), "deferred {} jobs", ids.len());
    Ok(ids)
}
