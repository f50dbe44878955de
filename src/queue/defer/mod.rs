//! A job before it exists: what to run, with which options, and on which connection to store it.

pub(crate) mod batch;
pub(crate) mod concurrent;
pub(crate) mod options;
pub(crate) mod tick;

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnectionCore;
use serde::Serialize;
use serde_json::Value;

use crate::database::connection::run::{Async, Blocking, Run, complete, no_row};
use crate::database::statements::defer::{InsertJob, InsertJobUnlessEnqueued, NewJob};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::options::JobOptions;
use crate::queue::metrics::JobsToCount;
use crate::validation::{check_args, check_name, unserializable};

/// The queue of jobs for which none was chosen.
const DEFAULT_QUEUE: &str = "default";

/// A job that has not been deferred yet: a task's name, its arguments, and options.
///
/// A task's function makes one, [`Task::job`](crate::Task::job) makes one from a hand-written task, and
/// [`configure_task`] makes one by name. It does nothing until it is deferred on a connection, and is part of whatever
/// transaction that connection is in.
///
/// # Example
///
/// ```no_run
/// use diesel::prelude::*;
/// use procrastinate::task;
///
/// #[task(queue = "mails")]
/// async fn welcome(customer: i64) {
///     println!("Welcome, {customer}!");
/// }
///
/// fn register(connection: &mut PgConnection) -> Result<(), procrastinate::Error> {
///     let id = welcome(7).lock("customer-7").defer_blocking(connection)?;
///     println!("job {id} waits");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a job does nothing until it is deferred on a connection"]
pub struct JobToDefer {
    task_name: String,
    /// A failure to serialize them is kept until the job is checked, so that building a job needs no `?`.
    args: Result<Value, serde_json::Error>,
    options: JobOptions,
}

/// A job of a task whose code this program need not know, in another language for instance.
///
/// The arguments are anything that serializes to a JSON object: the task's arguments by name. To have the name checked
/// against an application's tasks use [`App::configure_task`](crate::App::configure_task).
///
/// # Example
///
/// ```
/// use procrastinate::configure_task;
/// use serde_json::json;
///
/// let job = configure_task("shop.reports.build", json!({ "year": 2026 })).queue("reports");
/// assert!(job.check().is_ok());
/// ```
pub fn configure_task(task_name: impl Into<String>, args: impl Serialize) -> JobToDefer {
    JobToDefer::new(task_name, args, JobOptions::new())
}

impl JobToDefer {
    pub(crate) fn new(task_name: impl Into<String>, args: impl Serialize, options: JobOptions) -> Self {
        Self { task_name: task_name.into(), args: serde_json::to_value(args), options }
    }

    /// The name of the task that it asks for.
    ///
    /// ```
    /// assert_eq!(procrastinate::configure_task("bill", serde_json::json!({})).task_name(), "bill");
    /// ```
    #[must_use]
    pub fn task_name(&self) -> &str {
        &self.task_name
    }

    /// Its arguments, if they can be serialized.
    #[cfg(feature = "testing")]
    pub(crate) fn args(&self) -> Option<&Value> {
        self.args.as_ref().ok()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn options(&self) -> &JobOptions {
        &self.options
    }

    /// Sets every option that is set there.
    ///
    /// ```
    /// # use procrastinate::{JobOptions, configure_task};
    /// let nightly = JobOptions::new().queue("nightly");
    /// let job = configure_task("bill", serde_json::json!({})).configure(&nightly);
    /// ```
    pub fn configure(mut self, options: &JobOptions) -> Self {
        self.options = self.options.overridden_by(options);
        self
    }

    /// Sets the queue; see [`JobOptions::queue`].
    ///
    /// ```
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).queue("mails");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.options = self.options.queue(queue);
        self
    }

    /// Sets the priority; see [`JobOptions::priority`].
    ///
    /// ```
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).priority(10);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.options = self.options.priority(priority);
        self
    }

    /// Sets the lock; see [`JobOptions::lock`].
    ///
    /// ```
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).lock("customer-7");
    /// ```
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.options = self.options.lock(lock);
        self
    }

    /// Sets the queueing lock; see [`JobOptions::queueing_lock`].
    ///
    /// ```
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).queueing_lock("bill-7");
    /// ```
    pub fn queueing_lock(mut self, queueing_lock: impl Into<String>) -> Self {
        self.options = self.options.queueing_lock(queueing_lock);
        self
    }

    /// Sets the time before which it is not started; see [`JobOptions::schedule_at`].
    ///
    /// ```
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).schedule_at("2030-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    pub fn schedule_at(mut self, at: DateTime<Utc>) -> Self {
        self.options = self.options.schedule_at(at);
        self
    }

    /// Sets the delay before it may be started; see [`JobOptions::schedule_in`].
    ///
    /// ```
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).schedule_in(std::time::Duration::from_secs(300));
    /// ```
    pub fn schedule_in(mut self, delay: Duration) -> Self {
        self.options = self.options.schedule_in(delay);
        self
    }

    /// Whether the job could be deferred, as far as that can be told without a database. Deferring checks the same.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], which names the value and the rule: a queue's or task's name that is empty or longer than 128
    /// bytes, a lock longer than 2,600 bytes, arguments that are not an object, a NUL character anywhere, a date that
    /// PostgreSQL cannot hold, or `schedule_at` together with `schedule_in`.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::configure_task;
    ///
    /// let error = configure_task("bill", 5).check().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     r#"invalid arguments "5": those of the task "bill" must be a JSON object with the arguments by name"#
    /// );
    /// ```
    pub fn check(&self) -> Result<(), Error> {
        check_name("task name", &self.task_name)?;
        check_args(&self.task_name, &self.args)?;
        self.options.check()
    }

    /// Defers the job on an async connection, bare or pooled, in a transaction or not, and returns its number.
    ///
    /// In a transaction the job is part of it: it exists if and only if the transaction is committed, and no worker sees
    /// it before.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] as [`check`](Self::check) says, before the database is asked; [`Error::AlreadyEnqueued`] when a
    /// job with its queueing lock is waiting, after which the caller's transaction is intact; [`Error::Database`] when
    /// the statement fails, after which it is not. In a transaction of isolation level repeatable read or serializable,
    /// a queueing lock that another transaction took meanwhile is a serialization failure, as usual there.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel_async::{AsyncConnection, AsyncPgConnection};
    /// # use procrastinate::task;
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    /// # #[derive(Debug)] enum MyError { Diesel(diesel::result::Error), Queue(procrastinate::Error) }
    /// # impl From<diesel::result::Error> for MyError { fn from(e: diesel::result::Error) -> Self { Self::Diesel(e) } }
    /// # impl From<procrastinate::Error> for MyError { fn from(e: procrastinate::Error) -> Self { Self::Queue(e) } }
    ///
    /// # async fn example(connection: &mut AsyncPgConnection) -> Result<(), MyError> {
    /// connection
    ///     .transaction(async |connection| {
    ///         // diesel::insert_into(customers::table)…
    ///         welcome(7).defer(connection).await?;
    ///         Ok::<_, MyError>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer<C>(self, connection: &mut C) -> Result<JobId, Error>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        defer_or_fail(self.into_new_job()?, &mut Async(connection)).await
    }

    /// Defers the job on a blocking connection: `PgConnection`, one from an r2d2 pool, in a transaction or not.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer).
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    /// # use procrastinate::task;
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    ///
    /// # fn example(connection: &mut PgConnection) -> Result<(), procrastinate::Error> {
    /// let id = welcome(7).defer_blocking(connection)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn defer_blocking<C>(self, connection: &mut C) -> Result<JobId, Error>
    where
        C: LoadConnection<Backend = Pg>,
    {
        complete(defer_or_fail(self.into_new_job()?, &mut Blocking(connection)))
    }

    /// As [`defer`](Self::defer), for callers to whom a taken queueing lock is good news: `None` then.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer), without [`Error::AlreadyEnqueued`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn report(year: i32) { let _ = year; }
    /// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
    /// let job = report(2026).queueing_lock("report-2026");
    /// if job.defer_unless_enqueued(connection).await?.is_none() {
    ///     println!("it is on its way already");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_unless_enqueued<C>(self, connection: &mut C) -> Result<Option<JobId>, Error>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        none_if_enqueued(self.defer(connection).await)
    }

    /// As [`defer_unless_enqueued`](Self::defer_unless_enqueued), on a blocking connection.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer), without [`Error::AlreadyEnqueued`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn report(year: i32) { let _ = year; }
    /// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
    /// let deferred = report(2026).queueing_lock("report-2026").defer_unless_enqueued_blocking(connection)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn defer_unless_enqueued_blocking<C>(self, connection: &mut C) -> Result<Option<JobId>, Error>
    where
        C: LoadConnection<Backend = Pg>,
    {
        none_if_enqueued(self.defer_blocking(connection))
    }

    /// The row that it becomes, once it has been checked.
    pub(crate) fn into_new_job(self) -> Result<NewJob, Error> {
        self.check()?;
        let scheduled_at = self.options.scheduled_at()?;
        let args = self.args.map_err(|error| unserializable(&self.task_name, &error))?;
        Ok(NewJob {
            queue: self.options.queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()),
            task_name: self.task_name,
            priority: self.options.priority.unwrap_or(0),
            lock: self.options.lock,
            queueing_lock: self.options.queueing_lock,
            args,
            scheduled_at,
        })
    }
}

/// The one body behind all ways of deferring a single job that are part of a transaction, or may be.
pub(crate) async fn defer_or_fail<R: Run>(job: NewJob, run: &mut R) -> Result<JobId, Error> {
    let names = NamesOfJob::of(&job);
    let ids = if job.queueing_lock.is_some() {
        run.load(InsertJobUnlessEnqueued(job)).await?
    } else {
        run.load(InsertJob(job)).await?
    };
    names.deferred(ids.first().copied())
}

/// What is told of a job when it was deferred, or was not.
pub(crate) struct NamesOfJob {
    pub(crate) task_name: String,
    pub(crate) queue: String,
    queueing_lock: Option<String>,
}

impl NamesOfJob {
    pub(crate) fn of(job: &NewJob) -> Self {
        let NewJob { task_name, queue, queueing_lock, .. } = job;
        Self { task_name: task_name.clone(), queue: queue.clone(), queueing_lock: queueing_lock.clone() }
    }

    /// Counts the job, and has it in the log. None was stored where its queueing lock is taken.
    pub(crate) fn deferred(&self, id: Option<JobId>) -> Result<JobId, Error> {
        let Self { task_name, queue, queueing_lock } = self;
        let Some(id) = id else {
            return Err(match queueing_lock.clone() {
                Some(queueing_lock) => Error::AlreadyEnqueued { task_name: task_name.clone(), queueing_lock },
                None => no_row::<InsertJob>(),
            });
        };
        JobsToCount::new([(task_name.as_str(), queue.as_str())]).deferred();
        tracing::info!(
            action = "jobs_deferred",
            job.id = i64::from(id),
            job.task_name = %task_name,
            job.queue = %queue,
            "deferred job {id} of task {task_name} to the queue {queue}",
        );
        Ok(id)
    }
}

pub(crate) fn none_if_enqueued(result: Result<JobId, Error>) -> Result<Option<JobId>, Error> {
    match result {
        Ok(id) => Ok(Some(id)),
        Err(error) if error.is_already_enqueued() => Ok(None),
        Err(error) => Err(error),
    }
}
