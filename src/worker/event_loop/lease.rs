//! The lease: until when the worker holds its jobs, and how it loses and regains them.
//!
//! Heartbeats renew the lease. After `stalled_worker_timeout` without one, other workers may take the jobs.

use std::collections::HashSet;

use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
use tokio::time::Instant;

use super::EventLoop;
use crate::error::Error;
use crate::job::JobId;
use crate::job::interruption::AbortReason;
use crate::worker::executor::Finished;
use crate::worker::heartbeat::HeartbeatReport;
use crate::worker::log::log_lost;
use crate::worker::storage::Heartbeat;

/// Whether the worker holds its jobs, as far as it knows.
pub(super) struct Lease {
    /// Whether the worker has a row in the database.
    pub(super) is_registered: bool,
    /// Until when no other worker considers this one stalled.
    until: Instant,
    /// Whether the lease has expired and the jobs were asked to abort.
    is_over: bool,
    /// The jobs that the database lists for this worker. The loop recovers those it does not have.
    reported: Vec<JobId>,
    /// Whether a response that fetched jobs may have been lost. Before the worker ends, it checks once which jobs it
    /// has.
    pub(super) is_in_doubt: bool,
}

impl Lease {
    pub(super) fn new(until: Instant) -> Self {
        Self { is_registered: true, until, is_over: false, reported: Vec::new(), is_in_doubt: false }
    }

    pub(super) fn is_held(&self) -> bool {
        !self.is_over
    }

    /// When the lease expires without another heartbeat. `None` if it has expired.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        (!self.is_over).then_some(self.until)
    }
}

impl EventLoop {
    /// Handles an expired lease. Other workers may take the jobs, so the running ones are asked to abort, and no more
    /// are fetched until the next heartbeat. Jobs that other workers do not rescue continue.
    pub(super) fn lose_lease(&mut self) {
        self.lease.is_over = true;
        self.slots.pause();
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_out_of_touch",
            worker.id = worker_id,
            "worker {worker_id}: no heartbeat for {:?}; aborting jobs, another worker may have taken them",
            self.settings.stalled_worker_timeout,
        );
        self.slots.abort_where(AbortReason::WorkerLost, |task| task.is_rescued);
    }

    /// Handles the result of a heartbeat.
    pub(super) fn on_heartbeat(&mut self, report: HeartbeatReport) {
        if report.worker_id != self.worker_id() || !self.lease.is_registered {
            return;
        }
        match report.heartbeat {
            Heartbeat::Gone => self.on_pruned(),
            Heartbeat::Alive(jobs) => {
                self.lease.until = report.sent_at + self.settings.stalled_worker_timeout;
                if std::mem::take(&mut self.lease.is_over) {
                    self.fetch.is_due = true;
                    self.slots.resume();
                }
                for (job_id, _) in jobs.iter().filter(|(_, abort_requested)| *abort_requested) {
                    self.slots.abort(*job_id, AbortReason::UserRequest);
                }
                self.lease.reported = jobs.into_iter().map(|(job_id, _)| job_id).collect();
            }
        }
    }

    /// Handles the removal of the worker's row. Another worker considered this one stalled.
    pub(super) fn on_pruned(&mut self) {
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_lost",
            worker.id = worker_id,
            "worker {worker_id} was pruned as stalled; re-registering",
        );
        self.lease.is_registered = false;
    }

    /// Handles a new registration, which has these of the worker's jobs.
    pub(super) fn on_registered(&mut self, worker_id: i64, kept: &[JobId]) {
        tracing::info!(
            action = "register_worker",
            worker.id = worker_id,
            "re-registered as worker {worker_id}, with {} of its jobs",
            kept.len(),
        );
        self.handles.worker_ids.send_replace(worker_id);
        self.lease.is_registered = true;
        self.lease.until = Instant::now() + self.settings.stalled_worker_timeout;
        self.lease.is_over = false;
        for Finished { job_id, outcome, .. } in self.slots.lose_all_except(kept) {
            self.failures.refusals.forget_job(job_id);
            log_lost(job_id, &outcome, worker_id);
        }
        self.slots.resume();
    }

    /// Returns jobs that the database lists for this worker and that the loop does not have. No request is in flight,
    /// so the response that fetched them was lost.
    pub(super) fn take_unknown_jobs(&mut self) -> Vec<JobId> {
        let mut unknown = std::mem::take(&mut self.lease.reported);
        if !unknown.is_empty() {
            let held: HashSet<JobId> = self.slots.held().map(|(job_id, _)| job_id).collect();
            unknown.retain(|job_id| !held.contains(job_id));
        }
        unknown
    }
}

/// Whether the error is the foreign key that rejects a job for a worker without a row. The application can have foreign
/// keys of its own, which mean something else.
pub(super) fn is_missing_worker(error: &Error) -> bool {
    matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::ForeignKeyViolation, information))
        if information.constraint_name() == Some("procrastinate_jobs_worker_id_fkey"))
}
