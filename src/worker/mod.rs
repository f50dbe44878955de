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
mod deletion;
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
