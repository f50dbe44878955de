//! A side task that stops the worker at a signal.

use std::future::Future;
use std::io;

use crate::task::worker_handle::WorkerHandle;

/// Installs handlers at once, so that no signal from now on ends the process by itself. The future stops the worker at the
/// first signal and aborts its jobs at the second, and then has nothing more to do.
pub(super) fn heed_signals(handle: WorkerHandle) -> impl Future<Output = ()> + Send + 'static {
    let signals = Signals::new();
    async move {
        let heeded = async { stop_then_abort(signals?, &handle).await };
        if let Err(error) = heeded.await {
            tracing::warn!(action = "signals_error", "the worker cannot be stopped by signals: {error}");
        }
    }
}

async fn stop_then_abort(mut signals: Signals, handle: &WorkerHandle) -> io::Result<()> {
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
