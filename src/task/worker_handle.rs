//! A handle to a running worker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// A handle to a worker: stops it and reports its liveness. It is cheap to clone and can be used from anywhere: another
/// tokio task, a job, or a middleware.
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), Box<dyn std::error::Error>> {
/// let worker = app.worker();
/// let handle = worker.handle();
/// let running = tokio::spawn(worker.run());
/// // ...
/// handle.stop();
/// running.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct WorkerHandle {
    stop: CancellationToken,
    abort: CancellationToken,
    /// Written by the worker's loop alone.
    liveness: Arc<Mutex<Liveness>>,
}

/// When the worker's loop last made progress.
#[derive(Debug, Clone, Copy, Default)]
struct Liveness {
    turn: Option<Instant>,
    fetch: Option<Instant>,
}

impl WorkerHandle {
    /// Stops the worker gracefully. It fetches no more jobs, waits for the running ones, stores their outcomes and
    /// returns from `run`. After `shutdown_graceful_timeout` it asks the remaining jobs to abort. Further calls have no
    /// effect.
    ///
    /// ```no_run
    /// # fn example(worker: &procrastinate::Worker) {
    /// worker.handle().stop();
    /// # }
    /// ```
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops the worker and immediately asks its running jobs to abort, as a second signal does.
    ///
    /// ```no_run
    /// # fn example(worker: &procrastinate::Worker) {
    /// worker.handle().abort();
    /// # }
    /// ```
    pub fn abort(&self) {
        self.stop.cancel();
        self.abort.cancel();
    }

    /// Whether the worker was asked to stop.
    ///
    /// ```no_run
    /// # fn example(worker: &procrastinate::Worker) {
    /// assert!(!worker.handle().is_stopping());
    /// # }
    /// ```
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Returns when the worker's loop last ran. `None` if the worker has not started.
    ///
    /// The loop runs at least once per `fetch_job_polling_interval`, even if the database is unreachable. Use it for
    /// your own health probe. The command line has one: `worker --health-address`.
    ///
    /// ```no_run
    /// # fn example(handle: &procrastinate::WorkerHandle) {
    /// let is_alive = handle.last_turn().is_some_and(|turn| turn.elapsed().as_secs() < 60);
    /// # }
    /// ```
    #[must_use]
    pub fn last_turn(&self) -> Option<Instant> {
        self.liveness().turn
    }

    /// Returns when the worker last fetched jobs successfully, even if there were none. `None` if it has not fetched
    /// yet.
    ///
    /// A worker without a free slot does not fetch.
    ///
    /// ```no_run
    /// # fn example(handle: &procrastinate::WorkerHandle) {
    /// if let Some(fetch) = handle.last_fetch() {
    ///     println!("fetched jobs {} s ago", fetch.elapsed().as_secs());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn last_fetch(&self) -> Option<Instant> {
        self.liveness().fetch
    }

    fn liveness(&self) -> Liveness {
        *self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record_turn(&self) {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner).turn = Some(Instant::now());
    }

    pub(crate) fn record_fetch(&self) {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner).fetch = Some(Instant::now());
    }

    pub(crate) fn is_aborting(&self) -> bool {
        self.abort.is_cancelled()
    }

    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    pub(crate) async fn aborting(&self) {
        self.abort.cancelled().await;
    }
}
