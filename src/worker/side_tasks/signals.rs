//! A side task that stops the worker on signals.

use std::io;

use crate::task::worker_handle::WorkerHandle;
use crate::worker::side_tasks::SideTask;

/// Stops the worker at the first signal, and aborts its jobs at the second.
pub(crate) struct SignalHandler {
    signals: io::Result<Signals>,
    handle: WorkerHandle,
}

impl SignalHandler {
    /// Installs the handlers, so that these signals no longer end the process.
    pub(crate) fn install(handle: WorkerHandle) -> Self {
        Self { signals: Signals::new(), handle }
    }
}

impl SideTask for SignalHandler {
    const NAME: &'static str = "handling signals";

    async fn run(&mut self) {
        let problem = match &mut self.signals {
            Ok(signals) => stop_then_abort(signals, &self.handle).await.err(),
            Err(error) => Some(io::Error::new(error.kind(), error.to_string())),
        };
        if let Some(error) = problem {
            tracing::warn!(action = "signals_error", "could not install signal handlers: {error}");
        }
    }
}

async fn stop_then_abort(signals: &mut Signals, handle: &WorkerHandle) -> io::Result<()> {
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
