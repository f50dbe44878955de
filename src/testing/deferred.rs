//! Assertions about deferred jobs.

use diesel::connection::LoadConnection;
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncConnectionCore, AsyncPgConnection};

use super::expected::{NotDeferred, find_in};
use crate::database::models::ProcrastinateJob;
use crate::job::JobStatus;
use crate::queue::defer::JobToDefer;
use procrastinate_schema::schema::procrastinate_jobs;

/// Asserts that a job like this one is pending, and evaluates to it: a [`ProcrastinateJob`].
///
/// It compares the task, the arguments and every option that is set, including the task's defaults. Other options can
/// have any value. A time set with `schedule_in` may differ by one minute.
///
/// The connection is an async one, bare or pooled, and the macro awaits. With a shared connection, use
/// [`assert_deferred_pipelined!`](crate::assert_deferred_pipelined). In blocking code, use
/// [`assert_deferred_blocking!`](crate::assert_deferred_blocking).
///
/// # Panics
///
/// Panics if there is no such job. The message lists the pending jobs with their differences.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{assert_deferred, task};
///
/// #[task(queue = "mails")]
/// async fn welcome(customer: i64) {
///     println!("Welcome, {customer}!");
/// }
///
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) {
/// // The code under test.
/// welcome(7).lock("customer-7").defer(connection).await.unwrap();
///
/// let job = assert_deferred!(connection, welcome(7).lock("customer-7"));
/// assert_eq!(job.priority, 0);
/// # }
/// ```
#[macro_export]
macro_rules! assert_deferred {
    ($connection:expr, $job:expr $(,)?) => {
        match $crate::testing::find_deferred($job, $connection).await {
            ::std::result::Result::Ok(job) => job,
            ::std::result::Result::Err(not_deferred) => ::std::panic!("{not_deferred}"),
        }
    };
}

/// Asserts that no job like this one is pending. See [`assert_deferred!`](crate::assert_deferred).
///
/// # Panics
///
/// Panics if there is such a job. The message shows it.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{assert_not_deferred, task};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) {
/// assert_not_deferred!(connection, welcome(7));
/// # }
/// ```
#[macro_export]
macro_rules! assert_not_deferred {
    ($connection:expr, $job:expr $(,)?) => {
        match $crate::testing::find_deferred($job, $connection).await {
            ::std::result::Result::Ok(job) => ::std::panic!("this job is pending, but should not be: {job}"),
            ::std::result::Result::Err(not_deferred) => not_deferred.expect_answer(),
        }
    };
}

/// Does the same as [`assert_deferred!`](crate::assert_deferred), on a shared connection.
///
/// # Panics
///
/// Panics if there is no such job. The message lists the pending jobs with their differences.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{assert_deferred_pipelined, task};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # async fn example(connection: &diesel_async::AsyncPgConnection) {
/// welcome(7).defer_pipelined(connection).await.unwrap();
/// assert_deferred_pipelined!(connection, welcome(7));
/// # }
/// ```
#[macro_export]
macro_rules! assert_deferred_pipelined {
    ($connection:expr, $job:expr $(,)?) => {
        match $crate::testing::find_deferred_pipelined($job, $connection).await {
            ::std::result::Result::Ok(job) => job,
            ::std::result::Result::Err(not_deferred) => ::std::panic!("{not_deferred}"),
        }
    };
}

/// Does the same as [`assert_not_deferred!`](crate::assert_not_deferred), on a shared connection.
///
/// # Panics
///
/// Panics if there is such a job. The message shows it.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{assert_not_deferred_pipelined, task};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # async fn example(connection: &diesel_async::AsyncPgConnection) {
/// assert_not_deferred_pipelined!(connection, welcome(7));
/// # }
/// ```
#[macro_export]
macro_rules! assert_not_deferred_pipelined {
    ($connection:expr, $job:expr $(,)?) => {
        match $crate::testing::find_deferred_pipelined($job, $connection).await {
            ::std::result::Result::Ok(job) => ::std::panic!("this job is pending, but should not be: {job}"),
            ::std::result::Result::Err(not_deferred) => not_deferred.expect_answer(),
        }
    };
}

/// Does the same as [`assert_deferred!`](crate::assert_deferred), on a blocking connection.
///
/// # Panics
///
/// Panics if there is no such job. The message lists the pending jobs with their differences.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{assert_deferred_blocking, task};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # fn example(connection: &mut diesel::PgConnection) {
/// welcome(7).defer_blocking(connection).unwrap();
/// assert_deferred_blocking!(connection, welcome(7));
/// # }
/// ```
#[macro_export]
macro_rules! assert_deferred_blocking {
    ($connection:expr, $job:expr $(,)?) => {
        match $crate::testing::find_deferred_blocking($job, $connection) {
            ::std::result::Result::Ok(job) => job,
            ::std::result::Result::Err(not_deferred) => ::std::panic!("{not_deferred}"),
        }
    };
}

/// Does the same as [`assert_not_deferred!`](crate::assert_not_deferred), on a blocking connection.
///
/// # Panics
///
/// Panics if there is such a job. The message shows it.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{assert_not_deferred_blocking, task};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # fn example(connection: &mut diesel::PgConnection) {
/// assert_not_deferred_blocking!(connection, welcome(7));
/// # }
/// ```
#[macro_export]
macro_rules! assert_not_deferred_blocking {
    ($connection:expr, $job:expr $(,)?) => {
        match $crate::testing::find_deferred_blocking($job, $connection) {
            ::std::result::Result::Ok(job) => ::std::panic!("this job is pending, but should not be: {job}"),
            ::std::result::Result::Err(not_deferred) => not_deferred.expect_answer(),
        }
    };
}

/// Returns the pending job that is like this one, by the rules of [`assert_deferred!`](crate::assert_deferred). If
/// there are several, returns the newest.
///
/// # Errors
///
/// [`NotDeferred`] if there is no such job, or if the query fails.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{task, testing};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), testing::NotDeferred> {
/// let job = testing::find_deferred(welcome(7), connection).await?;
/// # Ok(())
/// # }
/// ```
pub async fn find_deferred<C>(expected: JobToDefer, connection: &mut C) -> Result<ProcrastinateJob, NotDeferred>
where
    C: AsyncConnectionCore<Backend = Pg>,
{
    let waiting = waiting_jobs().order(procrastinate_jobs::id.desc());
    find_among(diesel_async::RunQueryDsl::load(waiting, connection).await, &expected)
}

/// Does the same as [`find_deferred`], on a shared connection.
///
/// # Errors
///
/// [`NotDeferred`] if there is no such job, or if the query fails.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{task, testing};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # async fn example(connection: &diesel_async::AsyncPgConnection) -> Result<(), testing::NotDeferred> {
/// let job = testing::find_deferred_pipelined(welcome(7), connection).await?;
/// # Ok(())
/// # }
/// ```
pub async fn find_deferred_pipelined(
    expected: JobToDefer,
    mut connection: &AsyncPgConnection,
) -> Result<ProcrastinateJob, NotDeferred> {
    find_deferred(expected, &mut connection).await
}

/// Does the same as [`find_deferred`], on a blocking connection.
///
/// # Errors
///
/// [`NotDeferred`] if there is no such job, or if the query fails.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{task, testing};
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), testing::NotDeferred> {
/// let job = testing::find_deferred_blocking(welcome(7), connection)?;
/// # Ok(())
/// # }
/// ```
pub fn find_deferred_blocking<C>(expected: JobToDefer, connection: &mut C) -> Result<ProcrastinateJob, NotDeferred>
where
    C: LoadConnection<Backend = Pg>,
{
    let waiting = waiting_jobs().order(procrastinate_jobs::id.desc());
    find_among(RunQueryDsl::load(waiting, connection), &expected)
}

type WaitingJobs = dsl::Filter<
    dsl::Select<procrastinate_jobs::table, dsl::AsSelect<ProcrastinateJob, Pg>>,
    dsl::Eq<procrastinate_jobs::status, JobStatus>,
>;

fn waiting_jobs() -> WaitingJobs {
    ProcrastinateJob::query().filter(procrastinate_jobs::status.eq(JobStatus::Todo))
}

fn find_among(
    waiting: QueryResult<Vec<ProcrastinateJob>>,
    expected: &JobToDefer,
) -> Result<ProcrastinateJob, NotDeferred> {
    match waiting {
        Ok(waiting) => find_in(&waiting, expected).cloned(),
        Err(error) => Err(NotDeferred::query_failed(&error)),
    }
}

/// Returns the pending jobs, oldest first. Use it for custom assertions.
///
/// # Errors
///
/// The error of Diesel.
///
/// # Example
///
/// ```no_run
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), diesel::result::Error> {
/// let jobs = procrastinate::testing::deferred_jobs(connection).await?;
/// assert_eq!(jobs.len(), 2);
/// # Ok(())
/// # }
/// ```
pub async fn deferred_jobs<C>(connection: &mut C) -> QueryResult<Vec<ProcrastinateJob>>
where
    C: AsyncConnectionCore<Backend = Pg>,
{
    diesel_async::RunQueryDsl::load(waiting_jobs().order(procrastinate_jobs::id), connection).await
}

/// Does the same as [`deferred_jobs`], on a shared connection.
///
/// # Errors
///
/// The error of Diesel.
///
/// # Example
///
/// ```no_run
/// # async fn example(connection: &diesel_async::AsyncPgConnection) -> Result<(), diesel::result::Error> {
/// let jobs = procrastinate::testing::deferred_jobs_pipelined(connection).await?;
/// assert_eq!(jobs.len(), 2);
/// # Ok(())
/// # }
/// ```
pub async fn deferred_jobs_pipelined(mut connection: &AsyncPgConnection) -> QueryResult<Vec<ProcrastinateJob>> {
    deferred_jobs(&mut connection).await
}

/// Does the same as [`deferred_jobs`], on a blocking connection.
///
/// # Errors
///
/// The error of Diesel.
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), diesel::result::Error> {
/// let jobs = procrastinate::testing::deferred_jobs_blocking(connection)?;
/// assert_eq!(jobs.len(), 2);
/// # Ok(())
/// # }
/// ```
pub fn deferred_jobs_blocking<C>(connection: &mut C) -> QueryResult<Vec<ProcrastinateJob>>
where
    C: LoadConnection<Backend = Pg>,
{
    RunQueryDsl::load(waiting_jobs().order(procrastinate_jobs::id), connection)
}
