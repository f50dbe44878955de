//! The lease: until when the jobs are this worker's, and how it loses and regains them.
//!
//! A heartbeat renews it. Without one for `stalled_worker_timeout`, other workers may take the jobs.

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

/// Whether the jobs are this worker's, as far as it knows.
pub(super) struct Lease {
    /// Whether the worker has a row in the database.
    pub(super) is_registered: bool,
    /// Until when no other worker considers this one stalled.
    until: Instant,
    /// Whether that time is over, and the jobs were aborted.
    is_over: bool,
    /// The jobs that the database says this worker runs. The loop recovers those it does not know.
    reported: Vec<JobId>,
    /// Whether a response that fetched jobs may have been lost. Before the worker ends it asks once which jobs it has.
    pub(super) is_in_doubt: bool,
}

impl Lease {
    pub(super) fn new(until: Instant) -> Self {
        Self { is_registered: true, until, is_over: false, reported: Vec::new(), is_in_doubt: false }
    }

    pub(super) fn is_held(&self) -> bool {
        !self.is_over
    }

    /// When the lease ends without another heartbeat; `None` if it has ended.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        (!self.is_over).then_some(self.until)
    }
}

impl EventLoop {
    /// No heartbeat reached the database in time, so others may take this worker's jobs: those that run are aborted, and no
    /// more are fetched before the next heartbeat. A job that nobody else takes goes on.
    pub(super) fn lose_lease(&mut self) {
        self.lease.is_over = true;
        self.slots.hold_back();
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_out_of_touch",
            worker.id = worker_id,
            "worker {worker_id}: no heartbeat for {:?}; aborting jobs, another worker may have taken them",
            self.settings.stalled_worker_timeout,
        );
        self.slots.abort_where(AbortReason::WorkerLost, |task| task.is_rescued);
    }

    /// What the database answered to a heartbeat.
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
                    self.slots.go_on();
                }
                for (job_id, _) in jobs.iter().filter(|(_, abort_requested)| *abort_requested) {
                    self.slots.abort(*job_id, AbortReason::UserRequest);
                }
                self.lease.reported = jobs.into_iter().map(|(job_id, _)| job_id).collect();
            }
        }
    }

    /// The worker's row is gone: another worker considered this one stalled.
    pub(super) fn on_pruned(&mut self) {
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_lost",
            worker.id = worker_id,
            "worker {worker_id} was pruned as stalled; re-registering",
        );
        self.lease.is_registered = false;
    }

    /// The worker has a row again, and these of its jobs.
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
        for Finished { job_id, outcome, .. } in self.slots.keep_only(kept) {
            self.failures.refusals.forget_job(job_id);
            log_lost(job_id, &outcome, worker_id);
        }
        self.slots.go_on();
    }

    /// Jobs that the database says this worker runs, and that it does not know. Nothing is in flight, so the response that
    /// fetched them was lost.
    pub(super) fn take_unknown_jobs(&mut self) -> Vec<JobId> {
        let mut unknown = std::mem::take(&mut self.lease.reported);
        if !unknown.is_empty() {
            let held: HashSet<JobId> = self.slots.held().map(|(job_id, _)| job_id).collect();
            unknown.retain(|job_id| !held.contains(job_id));
        }
        unknown
    }
}

/// A job cannot be given to a worker without a row. An application may have foreign keys of its own, which say nothing
/// about the worker.
pub(super) fn says_that_worker_is_gone(error: &Error) -> bool {
    matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::ForeignKeyViolation, information))
        if information.constraint_name() == Some("procrastinate_jobs_worker_id_fkey"))
}
