//! Workers: they fetch jobs, run them and store their outcomes.
//!
//! | file | contents |
//! |---|---|
//! | `mod`, `settings`, `queues`, `defaults`, `deletion`, `unknown_tasks` | what users configure and start |
//! | `run` | the life of a worker: register, loop, unregister |
//! | `event_loop` | the loop, its requests to the database, and the jobs it holds |
//! | `executor` | running one job, from its name and arguments to an outcome |
//! | `outcome` | what the end of an attempt means for its job |
//! | `single_job` | running one job at a time, for tests |
//! | `log` | log events of jobs |
//! | `storage` | the operations that only a worker needs |
//! | `heartbeat` | a thread with a connection for heartbeats and notifications |
//! | `fetch_signal` | a signal to the loop to fetch jobs |
//! | `side_tasks` | what a worker does besides its loop: rescuing, periodic tasks, old jobs and signals |

mod defaults;
mod deletion;
mod event_loop;
mod executor;
mod fetch_signal;
mod heartbeat;
mod log;
mod outcome;
mod queues;
mod run;
mod settings;
mod side_tasks;
#[cfg(feature = "testing")]
mod single_job;
pub(crate) mod storage;
mod unknown_tasks;

use std::fmt;
use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::App;
use crate::error::Error;
use crate::task::worker_handle::WorkerHandle;
use settings::Settings;

pub use deletion::DeleteJobs;
#[cfg(feature = "testing")]
pub(crate) use outcome::Outcome;
#[cfg(feature = "testing")]
pub(crate) use single_job::JobRunner;
pub use unknown_tasks::UnknownTasks;

/// A worker that fetches pending jobs and runs their tasks. It starts with [`run`](Self::run).
///
/// It runs up to `concurrency` jobs at the same time. It listens for notifications, so a new job starts within
/// milliseconds, and also polls. If the database is unreachable, it reconnects.
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
#[must_use = "a worker does nothing until `run` is called"]
pub struct Worker {
    app: App,
    settings: Settings,
    handle: WorkerHandle,
    shutdown: BoxFuture<'static, ()>,
}

impl Worker {
    /// Stops the worker gracefully when the future is ready. Default: no such future.
    ///
    /// The worker fetches no more jobs, waits for the running ones, stores their outcomes and returns from
    /// [`run`](Self::run). After its [`shutdown_graceful_timeout`](Self::shutdown_graceful_timeout) it asks the
    /// remaining jobs to abort. A panic of the future is logged and stops the worker, too.
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

    /// Returns a handle that stops the worker and reports its liveness.
    ///
    /// # Example
    ///
    /// See [`WorkerHandle`].
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Runs the worker until it is stopped. With [`stop_when_empty`](Self::stop_when_empty) it runs until there is no
    /// job left to start.
    ///
    /// If you drop the future, the worker immediately asks its jobs to abort and stops in the background. If the
    /// runtime ends at the same time, the jobs keep the status `doing`. Other workers rescue them when they consider
    /// this worker stalled.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if a setting is invalid
    /// - [`Error::Pool`], [`Error::SchemaMissing`], [`Error::Database`] or [`Error::NoAnswer`] if the worker cannot be
    ///   registered
    /// - [`Error::Thread`] if it cannot start a thread
    /// - [`Error::UnsavedJobs`] if it was stopped while the database was unreachable for longer than
    ///   `stalled_worker_timeout`
    ///
    /// The error is also logged, with the action `worker_failed`. Later database errors are logged, and the worker
    /// retries.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: &procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.worker().concurrency(10).run().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "run_worker")]
    #[doc(alias = "run_worker_async")]
    pub async fn run(self) -> Result<(), Error> {
        let name = self.settings.name.clone();
        let result = self.run_unlogged().await;
        if let Err(error) = &result {
            // The program may look at the result much later, or never.
            tracing::error!(action = "worker_failed", worker.name = %name, "worker {name} ended with an error: {error}");
        }
        result
    }

    async fn run_unlogged(self) -> Result<(), Error> {
        self.settings.check()?;
        let _aborted = AbortWhenDropped(self.handle.clone());
        // As a separate task, the worker shares threads with its jobs and is never cancelled in the middle of a
        // statement.
        match tokio::spawn(run::run(self.app, self.settings, self.handle, self.shutdown)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only the end of the runtime cancels it, and then nothing is polled any more.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Stops a worker whose future was dropped. It has no effect on a worker that has ended.
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
