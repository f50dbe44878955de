//! What stops a worker, and tells how it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// Stops a worker and tells how it is, from wherever it is held: another task, a job, a middleware. It is cheap to clone.
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

/// When the worker's loop last did what.
#[derive(Debug, Clone, Copy, Default)]
struct Liveness {
    turn: Option<Instant>,
    fetch: Option<Instant>,
}

impl WorkerHandle {
    /// Stops the worker: it takes no more jobs, lets those that run come to their end, or aborts them after its
    /// `shutdown_graceful_timeout`, stores how they ended, and returns from `run`. Calling it again changes nothing.
    ///
    /// ```no_run
    /// # fn example(worker: &procrastinate::Worker) {
    /// worker.handle().stop();
    /// # }
    /// ```
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops the worker and aborts at once the jobs that run, as a second signal does.
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

    /// Whether the worker was told to stop.
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

    /// When the worker's loop last came round, which it does at least once in each of its `fetch_job_polling_interval`s,
    /// also while the database is away. `None`: the worker does not run yet.
    ///
    /// For a probe of the application's own. The command line has one: `worker --health-address`.
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

    /// When the database last answered the worker's question for jobs, be it with none. `None`: not yet.
    ///
    /// A worker with no free slot does not ask.
    ///
    /// ```no_run
    /// # fn example(handle: &procrastinate::WorkerHandle) {
    /// if let Some(fetch) = handle.last_fetch() {
    ///     println!("looked for jobs {} s ago", fetch.elapsed().as_secs());
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
