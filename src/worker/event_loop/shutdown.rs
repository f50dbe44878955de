//! Shutdown: the worker fetches no more jobs, lets running ones finish, and aborts them after the grace period.

use tokio::time::Instant;

use super::EventLoop;
use crate::job::interruption::AbortReason;
use crate::worker::log::job_event;

/// The phase of the shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Working,
    /// The worker fetches no more jobs. It aborts the running ones at `abort_at`, if that is set.
    Stopping {
        since: Instant,
        abort_at: Option<Instant>,
    },
    /// The running jobs were asked to abort.
    Aborting {
        since: Instant,
    },
}

impl Phase {
    /// Returns when the running jobs will be aborted.
    pub(super) fn abort_at(self) -> Option<Instant> {
        if let Self::Stopping { abort_at, .. } = self { abort_at } else { None }
    }

    /// Returns when the shutdown began.
    pub(super) fn since(self) -> Option<Instant> {
        match self {
            Self::Working => None,
            Self::Stopping { since, .. } | Self::Aborting { since } => Some(since),
        }
    }
}

impl EventLoop {
    pub(super) fn stop(&mut self) {
        let since = Instant::now();
        let abort_at = self.settings.shutdown_graceful_timeout.and_then(|timeout| since.checked_add(timeout));
        self.phase = Phase::Stopping { since, abort_at };
        self.slots.requeue([]);
        let worker_id = self.worker_id();
        tracing::info!(
            action = "stopping_worker",
            worker.id = worker_id,
            "worker {worker_id} is shutting down; it fetches no more jobs"
        );
        for context in self.slots.running() {
            job_event!(info, "ending_job", context.job(), {}, "still runs; waiting for it to finish");
        }
    }

    pub(super) fn abort(&mut self) {
        if matches!(self.phase, Phase::Aborting { .. }) {
            return;
        }
        self.phase = Phase::Aborting { since: self.phase.since().unwrap_or_else(Instant::now) };
        self.slots.requeue([]);
        self.slots.abort_where(AbortReason::Shutdown, |_| true);
    }
}
