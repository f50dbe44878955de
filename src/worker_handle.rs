//! What stops a worker.

use tokio_util::sync::CancellationToken;

/// Stops a worker, from wherever it is held: another task, a job, a middleware. It is cheap to clone.
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
