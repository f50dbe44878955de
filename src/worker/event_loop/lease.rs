//! The lease: until when the worker holds its jobs, and how it loses and regains them.
//!
//! Heartbeats renew the lease. After `stalled_worker_timeout` without one, other workers may take the jobs.

use std::collections::HashSet;

use tokio::time::Instant;

use super::EventLoop;
use super::request::Request;
use crate::job::JobId;
use crate::job::interruption::AbortReason;
use crate::worker::heartbeat::{Finding, HeartbeatReport};

/// Whether the worker holds its jobs, as far as it knows.
pub(super) struct Lease {
    id: IdStatus,
    /// The ID under which the worker will re-register. It is kept until that has succeeded, so that a repeated request
    /// does the same as one whose response was lost.
    pub(super) next_id: Option<i64>,
    /// Until when no other worker considers this one stalled.
    until: Instant,
    /// Whether the lease has expired and the jobs were asked to abort.
    is_over: bool,
    /// The jobs that the database lists for this worker, with their attempts. The loop recovers those it does not have.
    reported: Vec<(JobId, i32)>,
}

/// Whether the worker can send requests under its ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdStatus {
    Valid,
    /// A request under the ID had no response, and the server may still process it.
    InDoubt,
    /// Another worker considered this one stalled and removed its row.
    Pruned,
}

impl Lease {
    pub(super) fn new(until: Instant) -> Self {
        Self { id: IdStatus::Valid, next_id: None, until, is_over: false, reported: Vec::new() }
    }

    /// Whether the worker must re-register before it sends anything else.
    pub(super) fn needs_new_id(&self) -> bool {
        self.id != IdStatus::Valid
    }

    /// Handles a request under this ID that the server may still process.
    pub(super) fn doubt_id(&mut self) {
        if self.id == IdStatus::Valid {
            self.id = IdStatus::InDoubt;
        }
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
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_out_of_touch",
            worker.id = worker_id,
            "worker {worker_id}: no heartbeat for {:?}; aborting jobs, another worker may have taken them",
            self.settings.stalled_worker_timeout,
        );
        self.slots.abort_where(AbortReason::WorkerLost, |task| task.is_rescued);
    }

    /// Handles a report of the heartbeat thread.
    pub(super) fn on_heartbeat(&mut self, report: HeartbeatReport) {
        if report.worker_id != self.worker_id() {
            return;
        }
        match report.finding {
            Finding::Pruned => self.on_pruned(),
            Finding::Registered { workers } => {
                self.fetches.set_workers(workers);
                self.renew_lease(report.sent_at);
            }
            Finding::Holds(jobs) => {
                for (job_id, _, abort_requested) in &jobs {
                    if *abort_requested {
                        self.slots.abort(*job_id, AbortReason::UserRequest);
                    }
                }
                self.lease.reported = jobs.into_iter().map(|(job_id, attempts, _)| (job_id, attempts)).collect();
                // While the worker re-registers, its jobs can already belong to the new ID.
                if !self.lease.needs_new_id() {
                    self.slots.lose_unlisted(&self.lease.reported, report.sent_at);
                }
            }
        }
    }

    /// Renews the lease from the time at which a successful heartbeat was sent. A late one can be over already.
    fn renew_lease(&mut self, sent_at: Instant) {
        self.lease.until = self.lease.until.max(sent_at + self.settings.stalled_worker_timeout);
        self.slots.start_until(self.lease.until);
        if self.lease.is_over && self.lease.until > Instant::now() {
            self.lease.is_over = false;
            self.fetches.set_all_due();
        }
    }

    /// Handles the removal of the worker's row. Another worker considered this one stalled.
    pub(super) fn on_pruned(&mut self) {
        if self.lease.id == IdStatus::Pruned {
            return;
        }
        self.lease.id = IdStatus::Pruned;
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_lost",
            worker.id = worker_id,
            "worker {worker_id} was pruned as stalled; re-registering",
        );
    }

    /// Returns the next request of a worker that needs a new ID.
    pub(super) fn reregistration(&self) -> Request {
        match self.lease.next_id {
            None => Request::DrawId,
            Some(new_id) => {
                Request::Reregister { former_id: self.worker_id(), new_id, held: self.slots.held().collect() }
            }
        }
    }

    /// Handles a new registration, with which the worker holds these jobs.
    pub(super) fn on_reregistered(&mut self, new_id: i64, held: Vec<(JobId, i32)>, sent_at: Instant) {
        let former_id = self.worker_id();
        tracing::info!(
            action = "register_worker",
            worker.id = new_id,
            "re-registered worker {former_id} as worker {new_id}, with {} jobs",
            held.len(),
        );
        self.handles.worker_ids.send_replace(new_id);
        self.lease.id = IdStatus::Valid;
        self.lease.next_id = None;
        self.slots.lose_unlisted(&held, Instant::now());
        self.lease.reported = held;
        self.renew_lease(sent_at);
    }

    /// Returns jobs that the database lists for this worker and that the loop does not have. No request is in flight,
    /// so the response that fetched them was lost.
    pub(super) fn take_unknown_jobs(&mut self) -> Vec<JobId> {
        let mut unknown = std::mem::take(&mut self.lease.reported);
        self.forget_held(&mut unknown, |job| *job);
        unknown.into_iter().map(|(job_id, _)| job_id).collect()
    }

    /// Removes the jobs that the loop has, in the same attempt.
    pub(super) fn forget_held<T>(&self, jobs: &mut Vec<T>, key: impl Fn(&T) -> (JobId, i32)) {
        if !jobs.is_empty() {
            let held: HashSet<(JobId, i32)> = self.slots.held().collect();
            jobs.retain(|job| !held.contains(&key(job)));
        }
    }
}
