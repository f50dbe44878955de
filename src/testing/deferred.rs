//! What was deferred, as a test asserts it.

use diesel::connection::LoadConnection;
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncConnectionCore;

use super::expected::{NotDeferred, find_in};
use crate::database::models::ProcrastinateJob;
use crate::job::JobStatus;
use crate::queue::defer::JobToDefer;
use crate::schema::procrastinate_jobs;

/// Asserts that a job like this one waits, and evaluates to it: a [`ProcrastinateJob`].
///
/// The connection is an async one, bare or pooled. The task and its arguments must be the same, and each option that is set,
/// be it by the task's defaults; the options that are not set may be anything. A time that is set with `schedule_in` may
/// be a minute off. It is to be used in a function that is async; elsewhere there is
/// [`assert_deferred_blocking!`](crate::assert_deferred_blocking).
///
/// # Panics
///
/// Fails the test if there is no such job, with what is different about those that wait.
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
/// // What is tested.
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

/// Asserts that no job like this one waits: the opposite of [`assert_deferred!`](crate::assert_deferred).
///
/// # Panics
///
/// Fails the test if there is one, with what it is.
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
            ::std::result::Result::Ok(job) => ::std::panic!("this job waits, and should not: {job}"),
            ::std::result::Result::Err(not_deferred) => not_deferred.expect_answer(),
        }
    };
}

/// As [`assert_deferred!`](crate::assert_deferred), on a blocking connection.
///
/// # Panics
///
/// Fails the test if there is no such job, with what is different about those that wait.
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

/// As [`assert_not_deferred!`](crate::assert_not_deferred), on a blocking connection.
///
/// # Panics
///
/// Fails the test if there is one, with what it is.
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
            ::std::result::Result::Ok(job) => ::std::panic!("this job waits, and should not: {job}"),
            ::std::result::Result::Err(not_deferred) => not_deferred.expect_answer(),
        }
    };
}

/// The job that waits and is like this one, as [`assert_deferred!`](crate::assert_deferred) looks for it; the newest one
/// of several.
///
/// # Errors
///
/// [`NotDeferred`] if there is none, or if the database does not answer.
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

/// As [`find_deferred`], on a blocking connection.
///
/// # Errors
///
/// [`NotDeferred`] if there is none, or if the database does not answer.
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
        Err(error) => Err(NotDeferred::unanswered(&error)),
    }
}

/// The jobs that wait, oldest first, for assertions of a test's own.
///
/// # Errors
///
/// Diesel's own.
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

/// As [`deferred_jobs`], on a blocking connection.
///
/// # Errors
///
/// Diesel's own.
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
