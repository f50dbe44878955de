//! What was deferred, and what a test had expected.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::LoadConnection;
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncConnectionCore;
use serde_json::Value;

use crate::clock;
use crate::job::JobStatus;
use crate::job_to_defer::JobToDefer;
use crate::models::ProcrastinateJob;
use crate::schema::procrastinate_jobs;

/// How many jobs a failure lists.
const MOST_LISTED: usize = 20;

/// How far the time of a job may be from the one that is expected: `schedule_in` counts from when it is called.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

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

/// Why a job that a test expects was not found: what is expected, and what waits instead. It is meant to be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotDeferred {
    message: String,
    /// Whether the database was asked in vain.
    is_unanswered: bool,
}

impl NotDeferred {
    /// Fails the test if there was no answer at all.
    #[doc(hidden)]
    #[track_caller]
    #[allow(clippy::panic, reason = "it is an assertion")]
    pub fn expect_answer(self) {
        if self.is_unanswered {
            panic!("{self}");
        }
    }
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
        Err(error) => {
            Err(NotDeferred { message: format!("cannot look for the deferred jobs: {error}"), is_unanswered: true })
        }
    }
}

/// The first of these jobs that is like the expected one.
///
/// # Errors
///
/// [`NotDeferred`] if there is none.
///
/// # Example
///
/// ```
/// use procrastinate::{configure_task, testing};
///
/// let not_deferred = testing::find_in(&[], &configure_task("bill", serde_json::json!({ "order": 7 }))).unwrap_err();
/// assert_eq!(not_deferred.to_string(), "no such job waits: bill(order=7)\nno job waits at all");
/// ```
pub fn find_in<'j>(jobs: &'j [ProcrastinateJob], expected: &JobToDefer) -> Result<&'j ProcrastinateJob, NotDeferred> {
    let mut others = Vec::new();
    for job in jobs {
        let differences = differences(job, expected);
        if differences.is_empty() {
            return Ok(job);
        }
        others.push((job, differences));
    }
    // What is nearest to it first: of the same task, and with the least that is different.
    others.sort_by_key(|(job, differences)| (job.task_name != expected.task_name(), differences.len()));
    Err(NotDeferred { message: describe(expected, &others), is_unanswered: false })
}

fn describe(expected: &JobToDefer, others: &[(&ProcrastinateJob, Vec<String>)]) -> String {
    let mut message = format!("no such job waits: {}", Expected(expected));
    if others.is_empty() {
        message.push_str("\nno job waits at all");
        return message;
    }
    message.push_str("\nthese wait:");
    for (job, differences) in others.iter().take(MOST_LISTED) {
        let differences = differences.join(", ");
        message.push_str(&format!("\n  {job} in the queue {:?}: {differences}", job.queue_name));
    }
    if others.len() > MOST_LISTED {
        message.push_str(&format!("\n  and {} more", others.len() - MOST_LISTED));
    }
    message
}

/// In what a job is not the expected one.
fn differences(job: &ProcrastinateJob, expected: &JobToDefer) -> Vec<String> {
    if job.task_name != expected.task_name() {
        return vec!["another task".to_owned()];
    }
    let mut differences = differences_of_args(&job.args, expected.args());
    let options = expected.options();
    let mut compare = |what: &str, is: Option<&str>, wanted: Option<&str>| {
        if let Some(wanted) = wanted.filter(|wanted| is != Some(wanted)) {
            let is = is.map_or_else(|| "none".to_owned(), |is| format!("{is:?}"));
            differences.push(format!("its {what} is {is}, not {wanted:?}"));
        }
    };
    compare("queue", Some(&job.queue_name), options.queue.as_deref());
    compare("lock", job.lock.as_deref(), options.lock.as_deref());
    compare("queueing lock", job.queueing_lock.as_deref(), options.queueing_lock.as_deref());
    if let Some(priority) = options.priority.filter(|priority| *priority != job.priority) {
        differences.push(format!("its priority is {}, not {priority}", job.priority));
    }
    differences.extend(difference_of_schedule(job.scheduled_at, expected));
    differences
}

fn differences_of_args(is: &Value, wanted: Option<&Value>) -> Vec<String> {
    let (Value::Object(is), Some(Value::Object(wanted))) = (is, wanted) else {
        return vec!["the arguments that are expected are no JSON object".to_owned()];
    };
    let mut differences: Vec<String> = wanted
        .iter()
        .filter(|(name, value)| is.get(*name) != Some(value))
        .map(|(name, value)| match is.get(name) {
            Some(other) => format!("its argument {name} is {other}, not {value}"),
            None => format!("it has no argument {name}"),
        })
        .collect();
    let unexpected = is.iter().filter(|(name, _)| !wanted.contains_key(*name));
    differences.extend(unexpected.map(|(name, value)| format!("it has an argument {name}, {value}")));
    differences
}

fn difference_of_schedule(is: Option<DateTime<Utc>>, expected: &JobToDefer) -> Option<String> {
    let options = expected.options();
    let (wanted, tolerance) = match (options.schedule_at, options.schedule_in) {
        // The database has microseconds.
        (Some(at), _) => (at, TimeDelta::microseconds(1)),
        (None, Some(delay)) => (clock::now().checked_add_signed(TimeDelta::from_std(delay).ok()?)?, TOLERANCE),
        (None, None) => return None,
    };
    match is {
        Some(is) if (is - wanted).abs() <= tolerance => None,
        Some(is) => Some(format!("it is scheduled for {is}, not {wanted}")),
        None => Some(format!("it is not scheduled, and should be for {wanted}")),
    }
}

/// A job that is expected, as Procrastinate writes one, with its options.
struct Expected<'e>(&'e JobToDefer);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.0.args().map(|args| {
            let args = args.as_object().into_iter().flatten();
            args.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
        });
        write!(f, "{}({})", self.0.task_name(), call.unwrap_or_default())?;
        let options = self.0.options();
        let texts = [("queue", &options.queue), ("lock", &options.lock), ("queueing lock", &options.queueing_lock)];
        for (what, value) in texts {
            if let Some(value) = value {
                write!(f, ", {what} {value:?}")?;
            }
        }
        if let Some(priority) = options.priority {
            write!(f, ", priority {priority}")?;
        }
        if let Some(at) = options.schedule_at {
            write!(f, ", scheduled for {at}")?;
        }
        if let Some(delay) = options.schedule_in {
            write!(f, ", scheduled in {delay:?}")?;
        }
        Ok(())
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
