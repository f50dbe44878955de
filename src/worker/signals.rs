//! A side task that stops the worker on signals.

use std::future::Future;
use std::io;

use crate::task::worker_handle::WorkerHandle;

/// Installs the handlers immediately, so that these signals no longer end the process. The future stops the worker at
/// the first signal, aborts its jobs at the second, and then ends.
pub(super) fn handle_signals(handle: WorkerHandle) -> impl Future<Output = ()> + Send + 'static {
    let signals = Signals::new();
    async move {
        let handled = async { stop_then_abort(signals?, &handle).await };
        if let Err(error) = handled.await {
            tracing::warn!(action = "signals_error", "could not install signal handlers: {error}");
        }
    }
}

async fn stop_then_abort(mut signals: Signals, handle: &WorkerHandle) -> io::Result<()> {
    let signal = signals.next().await?;
    tracing::info!(
        action = "signal",
        "received {signal}; the worker stops when its jobs have finished, a second signal aborts them"
    );
    handle.stop();
    let signal = signals.next().await?;
    tracing::info!(action = "signal", "received {signal} again; the worker aborts its jobs and stops");
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
        // Branches that are not taken lose nothing, because their signal stays recorded.
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
