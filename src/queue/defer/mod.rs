//! A job before it is stored: its task, arguments and options. It is deferred on a connection.

pub(crate) mod batch;
pub(crate) mod concurrent;
pub(crate) mod detailed;
pub(crate) mod if_enqueued;
pub(crate) mod insert;
pub(crate) mod options;
pub(crate) mod pipelined;
mod setters;
#[cfg(all(test, feature = "testing"))]
mod tests;
pub(crate) mod tick;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnectionCore;
use serde::Serialize;
use serde_json::Value;

use crate::database::connection::run::{Async, Blocking, complete};
use crate::database::statements::defer::NewJob;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
use crate::queue::defer::insert::{CheckedJob, insert_or_find, none_if_enqueued};
use crate::queue::defer::options::JobOptions;
use crate::support::json::to_json;
use crate::validation::{check_args, check_name, unserializable};

/// The queue of jobs without a queue option.
const DEFAULT_QUEUE: &str = "default";

/// A job that has not been deferred yet: the name of a task, its arguments, and options.
///
/// Three functions make one: a task's function, [`Task::job`](crate::Task::job) and [`configure_task`]. It does nothing
/// until it is deferred on a connection. It then belongs to the transaction of that connection, if there is one.
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
///     println!("job {id} is pending");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[doc(alias = "JobDeferrer")]
#[must_use = "a job does nothing until it is deferred on a connection"]
pub struct JobToDefer {
    task_name: String,
    /// An error of serialization is kept until the job is checked, so that building a job needs no `?`.
    args: Result<Value, serde_json::Error>,
    options: JobOptions,
}

/// Makes a job for a task by its name. The task's code does not have to be in this program.
///
/// Use it for tasks in another program or language. The arguments are anything that serializes to a JSON object with
/// the task's arguments by name. [`App::configure_task`](crate::App::configure_task) also checks the name against the
/// application's tasks.
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
        Self { task_name: task_name.into(), args: to_json(&args), options }
    }

    /// Returns the name of the job's task.
    ///
    /// ```
    /// assert_eq!(procrastinate::configure_task("bill", serde_json::json!({})).task_name(), "bill");
    /// ```
    #[must_use]
    pub fn task_name(&self) -> &str {
        &self.task_name
    }

    /// The job's arguments, if they could be serialized.
    #[cfg(feature = "testing")]
    pub(crate) fn args(&self) -> Option<&Value> {
        self.args.as_ref().ok()
    }

    #[cfg(any(feature = "testing", feature = "admin"))]
    pub(crate) fn options(&self) -> &JobOptions {
        &self.options
    }

    /// Sets every option that is set in `options`.
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

    /// Makes a taken queueing lock an error.
    pub(crate) fn or_fail(mut self) -> Self {
        self.options.if_enqueued = Some(IfEnqueued::Fail);
        self
    }

    /// Checks whether the job can be deferred, without a database. Deferring checks the same.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], which names the value and the rule:
    ///
    /// - the name of a queue or task must not be empty or longer than 128 bytes
    /// - a lock, limit key or unique key must not be longer than 2,600 bytes
    /// - the arguments must be an object
    /// - no text may contain a NUL character
    /// - no number of the arguments may be infinite or NaN, and they must not be nested more than 127 levels deep
    /// - `schedule_at` must be a date that PostgreSQL can hold, and cannot be combined with `schedule_in`
    /// - `start_before` must be in the future and after the schedule, and `start_within` must be greater than zero
    /// - `unless_enqueued` and `if_enqueued` must be combined with a queueing lock
    /// - or, if they keep the other job, with a unique key
    /// - `if_enqueued` must not replace jobs if there is a unique key
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::configure_task;
    ///
    /// let error = configure_task("bill", 5).check().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     r#"invalid arguments of the task "bill": must be a JSON object with the arguments by name"#
    /// );
    /// ```
    pub fn check(&self) -> Result<(), Error> {
        check_name("task name", &self.task_name)?;
        self.checked_args()?;
        self.check_if_enqueued()?;
        self.options.check()
    }

    fn check_if_enqueued(&self) -> Result<(), Error> {
        let option = match self.options.if_enqueued {
            None | Some(IfEnqueued::Fail) => return Ok(()),
            Some(IfEnqueued::Keep) => "unless_enqueued".to_owned(),
            Some(other) => format!("if_enqueued = {}", other.label()),
        };
        match (&self.options.unique, &self.options.queueing_lock) {
            (Some(_), _) if self.options.if_enqueued.is_some_and(IfEnqueued::is_replacing) => {
                let rule = format!("the job of the task \"{}\" must not have a unique key", self.task_name);
                return Err(Error::invalid("option", option, rule));
            }
            (None, None) => {}
            _ => return Ok(()),
        }
        Err(Error::invalid(
            "option",
            option,
            format!("the job of the task \"{}\" must have a queueing lock", self.task_name),
        ))
    }

    /// Checks the arguments and returns them.
    pub(crate) fn checked_args(&self) -> Result<&Value, Error> {
        check_args(&self.task_name, &self.args)
    }

    /// Defers the job on an async connection, pooled or not, and returns its ID.
    ///
    /// In a transaction, the job is stored if and only if the transaction is committed. No worker sees it before that.
    /// With [`if_enqueued`](JobOptions::if_enqueued) it can return the ID of a pending job that was kept or replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the reasons listed at [`check`](Self::check), before a statement is sent.
    ///
    /// [`Error::AlreadyEnqueued`] if another pending job holds the queueing lock, unless the option `if_enqueued` or
    /// `unless_enqueued` is set. Your transaction stays intact.
    ///
    /// [`Error::Database`] if the statement fails. Your transaction is then lost. In a transaction with the isolation
    /// level repeatable read or serializable, a queueing lock taken by a concurrent transaction is a serialization
    /// failure.
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
    #[doc(alias = "defer_async")]
    pub async fn defer<C>(self, connection: &mut C) -> Result<JobId, Error>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        insert_or_find(self.into_checked_job()?, &mut Async(connection)).await.map(Deferred::id)
    }

    /// Defers the job on a blocking connection, such as `PgConnection` or one from an r2d2 pool, and returns its ID.
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
        complete(insert_or_find(self.into_checked_job()?, &mut Blocking(connection))).map(Deferred::id)
    }

    /// Defers the job like [`defer`](Self::defer), but returns `Ok(None)` if the queueing lock is already taken, even
    /// with the option `if_enqueued` or `unless_enqueued`.
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
        none_if_enqueued(self.or_fail().defer(connection).await)
    }

    /// Does the same as [`defer_unless_enqueued`](Self::defer_unless_enqueued) on a blocking connection.
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
        none_if_enqueued(self.or_fail().defer_blocking(connection))
    }

    /// Checks the job and converts it into a row, with what happens if its queueing lock is taken.
    pub(crate) fn into_checked_job(self) -> Result<CheckedJob, Error> {
        let if_enqueued = self.options.if_enqueued.unwrap_or_default();
        let extras = self.options.extras()?;
        Ok(CheckedJob { row: self.into_new_job()?, if_enqueued, extras })
    }

    /// Checks the job and converts it into a row.
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
