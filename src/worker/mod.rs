//! The worker: fetches jobs, runs them, stores how they ended.
//!
//! | file | what it is |
//! |---|---|
//! | `mod` | what users set and start |
//! | `run` | the life of a worker: register, loop, unregister |
//! | `slots` | the jobs in hand: running, finished, waiting for a slot |
//! | `execute` | one job, from its name and arguments to an outcome |
//! | `outcome` | what a task's result means for its job |
//! | `listener`, `heartbeat` | side tasks on connections of their own |
//! | `backoff` | how long to wait after a failure |

mod backoff;
mod execute;
mod heartbeat;
mod listener;
mod outcome;
mod run;
mod slots;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use crate::app::App;
use crate::checks::check_name;
use crate::error::Error;

impl App {
    /// A worker for this application's tasks, to be configured and run.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.worker().queues(["mails", "invoices"]).concurrency(10).run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn worker(&self) -> Worker {
        Worker { app: self.clone(), options: Options::default(), shutdown: std::future::pending().boxed() }
    }
}

/// A worker that has not been started yet.
///
/// It keeps up to `concurrency` jobs running. It listens for notifications, so that a new job starts within milliseconds,
/// and polls all the same. While the database is away it waits for it.
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// app.worker()
///     .name("mailer")
///     .queues(["mails"])
///     .concurrency(10)
///     .with_graceful_shutdown(async {
///         let _ = tokio::signal::ctrl_c().await;
///     })
///     .run()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    app: App,
    options: Options,
    shutdown: BoxFuture<'static, ()>,
}

/// The settings of a worker.
#[derive(Debug, Clone)]
struct Options {
    name: Arc<str>,
    queues: Option<Arc<[String]>>,
    concurrency: usize,
    wait: bool,
    listen_notify: bool,
    fetch_job_polling_interval: Duration,
    update_heartbeat_interval: Duration,
    stalled_worker_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: Arc::from("worker"),
            queues: None,
            concurrency: 1,
            wait: true,
            listen_notify: true,
            fetch_job_polling_interval: Duration::from_secs(5),
            update_heartbeat_interval: Duration::from_secs(10),
            stalled_worker_timeout: Duration::from_secs(30),
        }
    }
}

impl Worker {
    /// The name that jobs see in their context, and that stands in the log. Unless set: `worker`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().name("mailer-1");
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Arc::from(name.into());
        self
    }

    /// The queues to serve. Unless set: all of them.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["mails", "invoices"]);
    /// # }
    /// ```
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.options.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// How many jobs run at a time. Unless set: 1.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().concurrency(10);
    /// # }
    /// ```
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.options.concurrency = concurrency;
        self
    }

    /// Whether to go on when there is no job left to start. Unless set: true. With false it runs what can be run now,
    /// and what that defers, and then ends; jobs that are scheduled for later stay.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// // What is there to do now, and no more: in a test, or from a timer of the system.
    /// let worker = app.worker().wait(false);
    /// # }
    /// ```
    pub fn wait(mut self, wait: bool) -> Self {
        self.options.wait = wait;
        self
    }

    /// Whether to listen for notifications, on one connection outside of the pool. Unless set: true. Without, new jobs
    /// are found by polling.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// // Behind a pooler that passes no notifications on.
    /// let worker = app.worker().listen_notify(false);
    /// # }
    /// ```
    pub fn listen_notify(mut self, listen_notify: bool) -> Self {
        self.options.listen_notify = listen_notify;
        self
    }

    /// How long to wait at most before looking for jobs again. Unless set: 5 seconds. It is what finds jobs whose
    /// scheduled time has come.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().fetch_job_polling_interval(std::time::Duration::from_secs(1));
    /// # }
    /// ```
    pub fn fetch_job_polling_interval(mut self, interval: Duration) -> Self {
        self.options.fetch_job_polling_interval = interval;
        self
    }

    /// How often the worker says that it is alive. Unless set: 10 seconds.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().update_heartbeat_interval(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn update_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.options.update_heartbeat_interval = interval;
        self
    }

    /// After how long without a heartbeat this worker takes another one for dead. Unless set: 30 seconds. It should be
    /// the same for all workers of a database, and several times their `update_heartbeat_interval`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().stalled_worker_timeout(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub fn stalled_worker_timeout(mut self, timeout: Duration) -> Self {
        self.options.stalled_worker_timeout = timeout;
        self
    }

    /// Stops the worker when the future is ready: it takes no more jobs, lets those that run come to their end, stores
    /// how they ended, and then returns from [`run`](Self::run).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().with_graceful_shutdown(async {
    ///     let _ = tokio::signal::ctrl_c().await;
    /// });
    /// # }
    /// ```
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = signal.boxed();
        self
    }

    /// Runs the worker until it is stopped; with `wait(false)`, until there is no job left to start.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that cannot be; [`Error::Pool`], [`Error::SchemaMissing`] or [`Error::Database`]
    /// when the worker cannot be registered at its start. Later failures of the database are logged, and the worker goes
    /// on when it is back. [`Error::UnsavedJobs`] when it was stopped while the database was away for longer than
    /// `stalled_worker_timeout`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: &procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.worker().concurrency(10).run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(self) -> Result<(), Error> {
        self.options.check()?;
        // As a task of its own it shares a thread with the jobs that it starts, and need not be woken from another one.
        // Dropping the set aborts it.
        let mut worker = JoinSet::new();
        worker.spawn(run::run(self.app, self.options, self.shutdown));
        match worker.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Nothing but the end of the runtime cancels it, and then nothing is polled any more.
            _ => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        if self.concurrency == 0 || i32::try_from(self.concurrency).is_err() {
            let rule = format!("a worker runs at least 1 and at most {} jobs at a time", i32::MAX);
            return Err(Error::invalid("concurrency", self.concurrency.to_string(), rule));
        }
        if let Some(queues) = &self.queues {
            if queues.is_empty() {
                let rule = "a worker serves at least one queue; without this setting it serves all of them";
                return Err(Error::invalid("queues", "", rule));
            }
            queues.iter().try_for_each(|queue| check_name("queue name", queue))?;
        }
        for (what, interval) in [
            ("fetch_job_polling_interval", self.fetch_job_polling_interval),
            ("update_heartbeat_interval", self.update_heartbeat_interval),
            ("stalled_worker_timeout", self.stalled_worker_timeout),
        ] {
            if interval.is_zero() {
                return Err(Error::invalid(what, format!("{interval:?}"), "it must be longer than nothing"));
            }
        }
        if self.stalled_worker_timeout <= self.update_heartbeat_interval {
            let rule = format!(
                "it must be longer than update_heartbeat_interval, {:?}, or workers that are alive are taken for dead",
                self.update_heartbeat_interval
            );
            return Err(Error::invalid("stalled_worker_timeout", format!("{:?}", self.stalled_worker_timeout), rule));
        }
        Ok(())
    }
}
