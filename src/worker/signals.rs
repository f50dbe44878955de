//! A side task that stops the worker at a signal.

use std::io;

use crate::worker_handle::WorkerHandle;

/// Stops the worker at the first signal and aborts its jobs at the second. Ends when it has nothing more to do.
pub(super) async fn heed_signals(handle: WorkerHandle) {
    if let Err(error) = stop_then_abort(&handle).await {
        tracing::warn!(action = "signals_error", "the worker cannot be stopped by signals: {error}");
    }
}

async fn stop_then_abort(handle: &WorkerHandle) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let signal = signals.next().await?;
    tracing::info!(
        action = "signal",
        "{signal}: the worker stops when its jobs have ended; a second signal aborts them"
    );
    handle.stop();
    let signal = signals.next().await?;
    tracing::info!(action = "signal", "{signal}: the worker aborts its jobs and stops");
    handle.abort();
    Ok(())
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> io::Result<&'static str> {
        // A branch that is not taken loses nothing: its signal stays noted.
        tokio::select! {
            _ = self.interrupt.recv() => Ok("SIGINT"),
            _ = self.terminate.recv() => Ok("SIGTERM"),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> io::Result<&'static str> {
        tokio::signal::ctrl_c().await?;
        Ok("Ctrl-C")
    }
}
