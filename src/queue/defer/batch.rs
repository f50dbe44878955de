//! Deferring many jobs in one statement.

use std::collections::HashMap;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnectionCore;

use crate::database::connection::run::{Async, Blocking, Run, complete};
use crate::database::statements::defer::{HoldersOfQueueingLocks, InsertJobs, NewJob};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::insert::{CheckedJob, TRIES};
use crate::queue::defer::options::IfEnqueued;
use crate::queue::metrics::JobsToCount;

/// Defers any number of jobs in one statement on an async connection, all or none.
///
/// It returns their IDs in the order of the input. The jobs may be of different tasks. A job with
/// [`unless_enqueued`](crate::JobOptions::unless_enqueued) gets the ID of the pending or earlier job with its queueing
/// lock.
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
    insert_or_find_all(checked_jobs(jobs)?, &mut Async(connection)).await
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
    complete(insert_or_find_all(checked_jobs(jobs)?, &mut Blocking(connection)))
}

/// Checks all jobs and converts them into rows.
pub(crate) fn checked_jobs(jobs: impl IntoIterator<Item = JobToDefer>) -> Result<Vec<CheckedJob>, Error> {
    jobs.into_iter().map(JobToDefer::into_checked_job).collect()
}

/// The common implementation of the functions that defer a batch.
pub(crate) async fn insert_or_find_all<R: Run>(jobs: Vec<CheckedJob>, run: &mut R) -> Result<Vec<JobId>, Error> {
    if jobs.iter().any(|job| job.if_enqueued == IfEnqueued::Keep) {
        return insert_or_find_each(&jobs, run).await;
    }
    let locks: Vec<_> =
        jobs.iter().filter_map(|job| Some((job.row.queueing_lock.clone()?, job.row.task_name.clone()))).collect();
    let inserted = insert(jobs.into_iter().map(|job| job.row).collect(), run).await?;
    inserted.map_err(|taken| {
        let task_name = locks.into_iter().find(|(lock, _)| *lock == taken).map_or_else(String::new, |(_, task)| task);
        Error::AlreadyEnqueued { task_name, queueing_lock: taken }
    })
}

/// Inserts the rows and returns their IDs, or else the queueing lock that is taken.
async fn insert<R: Run>(rows: Vec<NewJob>, run: &mut R) -> Result<Result<Vec<JobId>, String>, Error> {
    if rows.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let on_their_way = JobsToCount::new(rows.iter().map(|row| (row.task_name.as_str(), row.queue.as_str())));
    let rows = run.load(rows.into_iter().collect::<InsertJobs>()).await?;
    if let Some(queueing_lock) = rows.iter().find_map(|(_, taken)| taken.clone()) {
        return Ok(Err(queueing_lock));
    }
    on_their_way.deferred();
    let ids: Vec<JobId> = rows.into_iter().filter_map(|(id, _)| id).collect();
    tracing::info!(action = "jobs_deferred", count = ids.len(), "deferred {} jobs", ids.len());
    Ok(Ok(ids))
}

/// Where a job of a batch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is inserted.
    New,
    /// It is not inserted, because this pending job holds its queueing lock.
    Pending(JobId),
    /// It is not inserted, because the job at this index of the batch has the same queueing lock.
    SameAs(usize),
}

/// Inserts a batch in which a taken queueing lock is an error for some jobs only.
async fn insert_or_find_each<R: Run>(jobs: &[CheckedJob], run: &mut R) -> Result<Vec<JobId>, Error> {
    let mut pending = HashMap::new();
    let mut last_taken = String::new();
    for _ in 0..TRIES {
        let places = places(jobs, &pending);
        let new = jobs.iter().zip(&places).filter(|(_, place)| **place == Place::New);
        match insert(new.map(|(job, _)| job.row.clone()).collect(), run).await? {
            Ok(ids) => return Ok(ids_of(&places, ids)),
            Err(taken) => last_taken = taken,
        }
        let of_lock = |job: &&CheckedJob| job.row.queueing_lock.as_ref() == Some(&last_taken);
        if let Some(job) = jobs.iter().filter(of_lock).find(|job| job.if_enqueued == IfEnqueued::Fail) {
            return Err(Error::AlreadyEnqueued { task_name: job.row.task_name.clone(), queueing_lock: last_taken });
        }
        let kept = jobs.iter().filter(|job| job.if_enqueued == IfEnqueued::Keep);
        let queueing_locks = kept.filter_map(|job| job.row.queueing_lock.clone()).collect();
        pending = run.load(HoldersOfQueueingLocks { queueing_locks }).await?.into_iter().collect();
    }
    let of_lock = jobs.iter().find(|job| job.row.queueing_lock.as_ref() == Some(&last_taken));
    let task_name = of_lock.map(|job| job.row.task_name.clone()).unwrap_or_default();
    Err(Error::AlreadyEnqueued { task_name, queueing_lock: last_taken })
}

/// Decides which jobs to insert. `pending` has the holders of queueing locks, as far as they are known.
fn places(jobs: &[CheckedJob], pending: &HashMap<String, JobId>) -> Vec<Place> {
    let mut first_with = HashMap::new();
    let mut places = Vec::with_capacity(jobs.len());
    for (index, CheckedJob { row, if_enqueued }) in jobs.iter().enumerate() {
        let holder =
            row.queueing_lock.as_ref().map(|lock| (*first_with.entry(lock).or_insert(index), pending.get(lock)));
        places.push(match (if_enqueued, holder) {
            (IfEnqueued::Keep, Some((_, Some(id)))) => Place::Pending(*id),
            (IfEnqueued::Keep, Some((first, None))) if first < index => Place::SameAs(first),
            _ => Place::New,
        });
    }
    places
}

/// The ID of each job in a batch, from those of the inserted ones.
fn ids_of(places: &[Place], new: Vec<JobId>) -> Vec<JobId> {
    let kept = places.len() - new.len();
    if kept > 0 {
        tracing::info!(
            action = "jobs_already_enqueued",
            count = kept,
            "did not defer {kept} jobs: jobs with the same queueing locks are pending",
        );
    }
    let mut new = new.into_iter();
    let mut ids = Vec::with_capacity(places.len());
    for place in places {
        ids.extend(match place {
            Place::New => new.next(),
            Place::Pending(id) => Some(*id),
            Place::SameAs(index) => ids.get(*index).copied(),
        });
    }
    ids
}
