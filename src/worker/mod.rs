//! The worker: fetches jobs, runs them, stores how they ended.
//!
//! | file | what it is |
//! |---|---|
//! | `mod`, `options` | what users set and start |
//! | `run` | the life of a worker: register, loop, unregister |
//! | `main_loop` | the loop: when to go to the database, and what for |
//! | `question`, `pace` | what it asks for, with how much of it at once |
//! | `slots` | the jobs in hand: running, finished, waiting for a slot |
//! | `execute` | one job, from its name and arguments to an outcome |
//! | `outcome` | what the end of an attempt means for its job |
//! | `single` | one job and no more, for tests |
//! | `report` | what the log hears of a job |
//! | `lifeline` | a thread and a connection that say that the worker is alive, and hear notifications |
//! | `rescue` | a side task that finds the jobs of dead workers |
//! | `periodic` | a side task that defers periodic tasks |
//! | `housekeeping` | a side task that deletes old jobs, where that is wanted |
//! | `signals` | a side task that stops the worker at SIGINT and SIGTERM |
//! | `backoff` | how long to wait after a failure |

mod defaults;
mod event_loop;
mod executor;
mod heartbeat;
mod log;
mod outcome;
mod periodic;
mod rescuer;
mod retention;
mod run;
mod settings;
mod signals;
#[cfg(feature = "testing")]
mod single_job;
pub(crate) mod storage;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::App;
use crate::error::Error;
use crate::job::JobStatus;
use crate::task::middleware::Middleware;
use crate::task::worker_handle::WorkerHandle;
use settings::Settings;

#[cfg(feature = "testing")]
pub(crate) use outcome::Outcome;
pub use settings::DeleteJobs;
#[cfg(feature = "testing")]
pub(crate) use single_job::JobRunner;

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
///     .shutdown_graceful_timeout(std::time::Duration::from_secs(20))
///     .run()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    app: App,
    settings: Settings,
    handle: WorkerHandle,
    shutdown: BoxFuture<'static, ()>,
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
        self.settings.name = Arc::from(name.into());
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
        self.settings.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Serves all queues, as unless set: where the application's [defaults](crate::AppBuilder::worker_defaults) say otherwise.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["mails"]).all_queues();
    /// # }
    /// ```
    pub fn all_queues(mut self) -> Self {
        self.settings.queues = None;
        self
    }

    /// The queues that it serves; `None` for all.
    #[cfg(feature = "cli")]
    pub(crate) fn queue_names(&self) -> Option<&[String]> {
        self.settings.queues.as_deref()
    }

    /// The loop comes round more often than this, or it is stuck.
    #[cfg(feature = "cli")]
    pub(crate) fn longest_turn(&self) -> Duration {
        self.settings.fetch_job_polling_interval.saturating_add(self.settings.stalled_worker_timeout)
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
        self.settings.concurrency = concurrency;
        self
    }

    /// How many jobs to take ahead, beyond those that run: they wait in the worker until one of its slots is free. Unless
    /// set: none, so that a job is taken by a worker which starts it at once.
    ///
    /// For very many very short jobs: a job that is taken and one that has ended each have to be stored durably, and the more
    /// of them share a transaction the cheaper it is. With few slots a transaction has few jobs, unless there is a buffer.
    ///
    /// What it costs: a job in the buffer is `doing` for everybody else, keeps its lock, and starts after those before it,
    /// although another worker may be idle, and whatever comes in with a higher priority meanwhile. A worker that is told to
    /// stop puts its buffer back into the queue. If it dies, these jobs are rescued like the ones that ran, and the attempt
    /// counts, since nobody knows that it had not begun.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["clicks"]).concurrency(10).local_buffer(500);
    /// # }
    /// ```
    pub fn local_buffer(mut self, jobs: usize) -> Self {
        self.settings.local_buffer = jobs;
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
        self.settings.wait = wait;
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
        self.settings.listen_notify = listen_notify;
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
        self.settings.fetch_job_polling_interval = interval;
        self
    }

    /// How often to look, while jobs run, whether one of them is to be aborted. Unless set: 5 seconds. Requests are heard
    /// at once by notification; this finds those that were not heard.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().abort_job_polling_interval(std::time::Duration::from_secs(1));
    /// # }
    /// ```
    pub fn abort_job_polling_interval(mut self, interval: Duration) -> Self {
        self.settings.abort_job_polling_interval = interval;
        self
    }

    /// How often the worker says that it is alive, from a thread and on a connection of its own. Unless set: 10 seconds.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().update_heartbeat_interval(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn update_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.update_heartbeat_interval = interval;
        self
    }

    /// After how long without a heartbeat this worker takes another one for dead, and its jobs are handled as their tasks'
    /// [`stalled`](crate::Task::stalled) says. A worker that could not beat itself for so long stops its jobs, since
    /// others may have them by then. Unless set: 30 seconds. It should be the same for all workers of a database, and
    /// several times their `update_heartbeat_interval`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().stalled_worker_timeout(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub fn stalled_worker_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stalled_worker_timeout = timeout;
        self
    }

    /// Which jobs are deleted at their end. Unless set: [none](DeleteJobs::Never).
    ///
    /// # Example
    ///
    /// See [`DeleteJobs`].
    pub fn delete_jobs(mut self, delete_jobs: DeleteJobs) -> Self {
        self.settings.delete_jobs = delete_jobs;
        self
    }

    /// Deletes jobs that ended with this status and whose newest event is longer ago than this, with their events. Unless
    /// set: none. It can be called once for each of `Succeeded`, `Failed`, `Cancelled` and `Aborted`; of two calls for one
    /// status the second counts.
    ///
    /// The worker does it while it runs, in small steps with pauses between them, for the jobs of all queues, whoever ran
    /// them. Several workers may do it on one database; one is enough.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use procrastinate::JobStatus;
    ///
    /// const DAY: Duration = Duration::from_secs(24 * 3_600);
    ///
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app
    ///     .worker()
    ///     .delete_jobs_older_than(JobStatus::Succeeded, 7 * DAY)
    ///     .delete_jobs_older_than(JobStatus::Failed, 90 * DAY);
    /// # }
    /// ```
    pub fn delete_jobs_older_than(mut self, status: JobStatus, age: Duration) -> Self {
        self.settings.retention.retain(|(other, _)| *other != status);
        self.settings.retention.push((status, age));
        self
    }

    /// How long a job may take whose task has no [`timeout`](crate::Task::timeout) of its own. Unless set: without limit.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().timeout(std::time::Duration::from_secs(600));
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Gives the tasks that this worker runs a value that they find by its type, in place of one of the application's.
    /// See [`JobContext::state`](crate::JobContext::state).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # struct Region(&'static str);
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().state(Region("north"));
    /// # }
    /// ```
    #[doc(alias = "additional_context")]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.settings.state.insert(value);
        self
    }

    /// Adds a [middleware](Middleware) that runs around every job, also one whose task is not known, within those that
    /// were added before.
    ///
    /// # Example
    ///
    /// See [`Middleware`].
    pub fn worker_middleware(mut self, middleware: impl Into<Middleware>) -> Self {
        self.settings.worker_middleware.push(middleware.into());
        self
    }

    /// Adds a [middleware](Middleware) that runs around every task, within those of the worker and those that were added
    /// before.
    ///
    /// # Example
    ///
    /// See [`Middleware`].
    pub fn task_middleware(mut self, middleware: impl Into<Middleware>) -> Self {
        self.settings.task_middleware.push(middleware.into());
        self
    }

    /// How long the jobs that run may go on after the worker was told to stop; then they are
    /// [aborted](crate::AbortReason::Shutdown). Unless set: as long as they take.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().shutdown_graceful_timeout(std::time::Duration::from_secs(20));
    /// # }
    /// ```
    pub fn shutdown_graceful_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_graceful_timeout = Some(timeout);
        self
    }

    /// Whether SIGINT and SIGTERM (elsewhere than on Unix: Ctrl-C) stop the worker as [`WorkerHandle::stop`] does, and a
    /// second one aborts its jobs as [`WorkerHandle::abort`] does. Unless set: true. From then on these signals do not end
    /// the process by themselves, also after the worker has ended. Other parts of the program that wait for a signal hear
    /// it too.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().install_signal_handlers(false);
    /// # }
    /// ```
    pub fn install_signal_handlers(mut self, install_signal_handlers: bool) -> Self {
        self.settings.install_signal_handlers = install_signal_handlers;
        self
    }

    /// Stops the worker when the future is ready: it takes no more jobs, lets those that run come to their end, or aborts
    /// them after its [`shutdown_graceful_timeout`](Self::shutdown_graceful_timeout), stores how they ended, and then
    /// returns from [`run`](Self::run).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App, token: tokio_util::sync::CancellationToken) {
    /// let worker = app.worker().with_graceful_shutdown(token.cancelled_owned());
    /// # }
    /// ```
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = signal.boxed();
        self
    }

    /// What stops this worker, for whoever does not wait for it.
    ///
    /// # Example
    ///
    /// See [`WorkerHandle`].
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Runs the worker until it is stopped; with `wait(false)`, until there is no job left to start.
    ///
    /// When its future is dropped, the worker stops in the background and aborts its jobs at once, as after a second
    /// signal. Where the runtime ends with it, the jobs stay marked as running, and others find them when this worker
    /// counts as dead.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that cannot be; [`Error::Pool`], [`Error::SchemaMissing`] or [`Error::Database`]
    /// when the worker cannot be registered at its start, [`Error::Thread`] when it cannot start a thread. Later failures
    /// of the database are logged, and the worker goes on when it is back. [`Error::UnsavedJobs`] when it was stopped while
    /// the database was away for longer than `stalled_worker_timeout`.
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
        self.settings.check()?;
        let _aborted = AbortWhenDropped(self.handle.clone());
        // As a task of its own it shares a thread with the jobs that it starts, need not be woken from another one, and is
        // never cancelled in the middle of a statement.
        match tokio::spawn(run::run(self.app, self.settings, self.handle, self.shutdown)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Nothing but the end of the runtime cancels it, and then nothing is polled any more.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Stops a worker whose future nobody waits for any more. On one that has ended it has no effect.
struct AbortWhenDropped(WorkerHandle);

impl Drop for AbortWhenDropped {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("settings", &self.settings).finish_non_exhaustive()
    }
}
