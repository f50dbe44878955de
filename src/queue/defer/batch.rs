//! Deferring many jobs in one statement.

use std::collections::HashMap;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnectionCore;

use crate::database::connection::run::{Async, Blocking, Run, complete};
use crate::database::statements::defer::{InsertJobs, LivingHolders, NewJob};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
use crate::queue::defer::insert::{CheckedJob, TRIES, insert_or_replace};
use crate::queue::metrics::JobsToCount;

/// Defers any number of jobs in one statement on an async connection, all or none.
///
/// It returns their IDs in the order of the input. The jobs may be of different tasks. If a queueing lock is taken and
/// [`if_enqueued`](crate::JobOptions::if_enqueued) keeps or replaces the pending or earlier job, the ID is that of this
/// job. [`batch_defer_detailed`](crate::batch_defer_detailed()) says which jobs are new.
///
/// # Errors
///
/// As [`JobToDefer::defer`]. If one job cannot be deferred, none is. [`Error::AlreadyEnqueued`] is also returned if a
/// queueing lock occurs twice among the jobs, unless `if_enqueued` says otherwise. Your transaction stays intact except
/// after [`Error::Database`].
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
    defer_all(checked_jobs(jobs)?, &mut Async(connection)).await.map(ids)
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
    complete(defer_all(checked_jobs(jobs)?, &mut Blocking(connection))).map(ids)
}

/// The ID of each stored, replaced or kept job.
pub(crate) fn ids(deferred: Vec<Deferred>) -> Vec<JobId> {
    deferred.into_iter().map(Deferred::id).collect()
}

/// Checks all jobs and converts them into rows.
pub(crate) fn checked_jobs(jobs: impl IntoIterator<Item = JobToDefer>) -> Result<Vec<CheckedJob>, Error> {
    jobs.into_iter().map(JobToDefer::into_checked_job).collect()
}

/// The common implementation of the functions that defer a batch.
pub(crate) async fn defer_all<R: Run>(jobs: Vec<CheckedJob>, run: &mut R) -> Result<Vec<Deferred>, Error> {
    if jobs.iter().any(CheckedJob::is_special) {
        return replace_all(jobs, run).await;
    }
    if jobs.iter().any(|job| job.if_enqueued == IfEnqueued::Keep) {
        return insert_or_find_each(&jobs, run).await;
    }
    let locks = locks_that_fail(&jobs);
    let inserted = insert(jobs.into_iter().map(|job| job.row).collect(), run).await?;
    let ids = inserted.map_err(|taken| already_enqueued(locks, taken))?;
    Ok(ids.into_iter().map(Deferred::New).collect())
}

/// The queueing locks of the jobs that fail if their lock is taken, each with the name of the task.
fn locks_that_fail(jobs: &[CheckedJob]) -> Vec<(String, String)> {
    let failing = jobs.iter().filter(|job| job.if_enqueued == IfEnqueued::Fail);
    failing.filter_map(|job| Some((job.row.queueing_lock.clone()?, job.row.task_name.clone()))).collect()
}

fn already_enqueued(locks: Vec<(String, String)>, taken: String) -> Error {
    let task_name = locks.into_iter().find(|(lock, _)| *lock == taken).map_or_else(String::new, |(_, task)| task);
    Error::AlreadyEnqueued { task_name, queueing_lock: taken }
}

/// Defers a batch in which some jobs may replace pending ones or have further options.
async fn replace_all<R: Run>(jobs: Vec<CheckedJob>, run: &mut R) -> Result<Vec<Deferred>, Error> {
    let locks = locks_that_fail(&jobs);
    let names: Vec<_> = jobs.iter().map(|job| (job.row.task_name.clone(), job.row.queue.clone())).collect();
    let deferred = insert_or_replace(jobs, run).await?.map_err(|taken| already_enqueued(locks, taken))?;
    let new = names.iter().zip(&deferred).filter(|(_, deferred)| deferred.is_new());
    JobsToCount::new(new.map(|((task_name, queue), _)| (task_name.as_str(), queue.as_str()))).deferred();
    let count = |is_so: fn(&Deferred) -> bool| deferred.iter().filter(|deferred| is_so(deferred)).count();
    log_new(count(|deferred| deferred.is_new()));
    log_replaced(count(|deferred| matches!(deferred, Deferred::Replaced(_))));
    log_kept(count(|deferred| matches!(deferred, Deferred::Kept(_))));
    Ok(deferred)
}

fn log_new(count: usize) {
    if count > 0 {
        tracing::info!(action = "jobs_deferred", count, "deferred {count} jobs");
    }
}

fn log_replaced(count: usize) {
    if count > 0 {
        tracing::info!(action = "jobs_replaced", count, "replaced {count} pending jobs with the same queueing locks");
    }
}

fn log_kept(count: usize) {
    if count > 0 {
        tracing::info!(
            action = "jobs_already_enqueued",
            count,
            "did not defer {count} jobs: other jobs have the same queueing locks or unique keys",
        );
    }
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
    log_new(ids.len());
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
async fn insert_or_find_each<R: Run>(jobs: &[CheckedJob], run: &mut R) -> Result<Vec<Deferred>, Error> {
    let mut pending = HashMap::new();
    let mut last_taken = String::new();
    for _ in 0..TRIES {
        let places = places(jobs, &pending);
        let new = jobs.iter().zip(&places).filter(|(_, place)| **place == Place::New);
        match insert(new.map(|(job, _)| job.row.clone()).collect(), run).await? {
            Ok(ids) => return Ok(deferred_of(&places, ids)),
            Err(taken) => last_taken = taken,
        }
        let of_lock = |job: &&CheckedJob| job.row.queueing_lock.as_ref() == Some(&last_taken);
        if let Some(job) = jobs.iter().filter(of_lock).find(|job| job.if_enqueued == IfEnqueued::Fail) {
            return Err(Error::AlreadyEnqueued { task_name: job.row.task_name.clone(), queueing_lock: last_taken });
        }
        let kept = jobs.iter().filter(|job| job.if_enqueued == IfEnqueued::Keep);
        let queueing_locks = kept.filter_map(|job| job.row.queueing_lock.clone()).collect();
        pending = run.load(LivingHolders { queueing_locks }).await?.into_iter().collect();
    }
    let of_lock = jobs.iter().find(|job| job.row.queueing_lock.as_ref() == Some(&last_taken));
    let task_name = of_lock.map(|job| job.row.task_name.clone()).unwrap_or_default();
    Err(Error::AlreadyEnqueued { task_name, queueing_lock: last_taken })
}

/// Decides which jobs to insert. `pending` has the holders of queueing locks, as far as they are known.
fn places(jobs: &[CheckedJob], pending: &HashMap<String, JobId>) -> Vec<Place> {
    let mut first_with = HashMap::new();
    let mut places = Vec::with_capacity(jobs.len());
    for (index, CheckedJob { row, if_enqueued, .. }) in jobs.iter().enumerate() {
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

/// What was done with each job of a batch, from the IDs of the inserted ones.
fn deferred_of(places: &[Place], new: Vec<JobId>) -> Vec<Deferred> {
    log_kept(places.len() - new.len());
    let mut new = new.into_iter();
    let mut deferred: Vec<Deferred> = Vec::with_capacity(places.len());
    for place in places {
        deferred.extend(match place {
            Place::New => new.next().map(Deferred::New),
            Place::Pending(id) => Some(Deferred::Kept(*id)),
            Place::SameAs(index) => deferred.get(*index).map(|first| Deferred::Kept(first.id())),
        });
    }
    deferred
}
