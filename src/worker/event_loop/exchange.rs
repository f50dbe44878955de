//! Which request goes out next, and what its response changes.

use tokio::time::Instant;

use super::EventLoop;
use super::batch_size::BatchSize;
use super::lease::says_that_worker_is_gone;
use super::request::{InFlight, Request, Response, ResponseOrError, add_outcome};
use super::shutdown::Phase;
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::support::backoff::Backoff;
use crate::worker::executor::Finished;
use crate::worker::log::{log_lost, log_not_retried, log_stored};
use crate::worker::storage::FinishedAndFetched;

/// How often the loop yields to the jobs that it has started, before it looks at which have finished.
const YIELDS_AFTER_START: usize = 4;

/// What the loop remembers of failed requests.
#[derive(Default)]
pub(super) struct Failures {
    backoff: Backoff,
    /// Since when no request has succeeded.
    failing_since: Option<Instant>,
    /// When to send the next request after a failure.
    pub(super) pause_until: Option<Instant>,
    batch_size: BatchSize,
}

impl EventLoop {
    /// The next request, if there is a reason for one.
    pub(super) fn next_request(&mut self) -> Option<InFlight> {
        if !self.lease.is_registered {
            let held = self.slots.held().collect();
            return Some(self.send(Request::Register { held }));
        }
        let unknown = self.take_unknown_jobs();
        if !unknown.is_empty() {
            let worker_id = self.worker_id();
            return Some(self.send(Request::Recover { worker_id, job_ids: unknown }));
        }
        if !self.slots.finished().is_empty() || (self.fetch.is_due && self.free_slots() > 0) {
            return Some(self.exchange());
        }
        if self.has_nothing_more_to_do() && std::mem::take(&mut self.lease.is_in_doubt) {
            let worker_id = self.worker_id();
            return Some(self.send(Request::Heartbeat { worker_id }));
        }
        None
    }

    /// Stores outcomes and fetches jobs, in one round trip.
    fn exchange(&mut self) -> InFlight {
        let (stored, free_slots) = self.failures.batch_size.plan(self.slots.finished().len(), self.free_slots());
        let queues = self.settings.queues.as_deref().map(<[String]>::to_vec);
        let mut statement = FinishAndFetchJobs::new(self.worker_id(), queues, free_slots);
        for finished in self.slots.finished().iter().take(stored) {
            add_outcome(&mut statement, finished, &self.settings);
        }
        if free_slots > 0 {
            // A notification from now on may come too late for this fetch, and is a reason for another one.
            self.fetch.is_due = false;
        }
        self.send(Request::Exchange { stored, free_slots, statement })
    }

    /// Sends a request on the connection of this burst of work.
    fn send(&mut self, request: Request) -> InFlight {
        let kept = self.connection.connection.take();
        self.fetch.was_requested = matches!(request, Request::Exchange { free_slots: 1.., .. });
        InFlight::send(request, kept, self.connector.clone(), self.settings.stalled_worker_timeout)
    }

    pub(super) async fn on_response(&mut self, response: ResponseOrError) -> Result<(), Error> {
        let (connection, response) = match response {
            Ok(response) => response,
            Err(error) => return self.on_failure(error),
        };
        self.connection.keep(connection);
        // An outcome that the database refuses is retried less and less often, also while fetching succeeds.
        if !self.failures.batch_size.is_split() || !matches!(response, Response::Exchanged { stored: 0, .. }) {
            self.failures.backoff.reset();
            self.failures.failing_since = None;
        }
        match response {
            Response::Exchanged { stored, free_slots, result } => {
                self.on_exchanged(stored, free_slots, result);
                self.yield_to_jobs().await;
            }
            Response::Registered { worker_id, kept } => self.on_registered(worker_id, &kept),
            Response::Heartbeat(report) => self.on_heartbeat(report),
            Response::Recovered(jobs) => self.on_recovered(jobs),
        }
        Ok(())
    }

    /// Lets jobs that finish immediately do so, so that their outcomes go out together in the next request. Another thread
    /// may have taken some of them, and needs a moment longer.
    async fn yield_to_jobs(&mut self) {
        for _ in 0..YIELDS_AFTER_START {
            tokio::task::yield_now().await;
            self.slots.gather();
            if !self.slots.is_running() {
                break;
            }
        }
    }

    fn on_exchanged(&mut self, stored: usize, free_slots: usize, result: FinishedAndFetched) {
        self.failures.batch_size.accepted(stored, self.slots.finished().len());
        let finished = self.slots.forget_finished(stored);
        let worker_id = self.worker_id();
        for Finished { job_id, outcome, .. } in &finished {
            if result.lost.contains(job_id) {
                log_lost(*job_id, outcome, worker_id);
            } else if result.not_retried.contains(job_id) {
                log_not_retried(*job_id, worker_id);
            } else {
                log_stored(*job_id, outcome);
            }
        }
        if free_slots > 0 {
            self.handles.handle.record_fetch();
            // As many as there was room for: there may be more.
            self.fetch.is_due |= result.fetched.len() >= free_slots;
            self.fetch.next_poll = Instant::now() + self.settings.fetch_job_polling_interval;
        }
        self.start_jobs(result.fetched);
    }

    fn on_recovered(&mut self, jobs: Vec<FetchedJob>) {
        for fetched in &jobs {
            tracing::warn!(
                action = "job_found",
                job.id = i64::from(fetched.job.id),
                worker.id = fetched.job.worker_id,
                "job {} was fetched in a response that was lost; starting it now",
                fetched.job.id,
            );
        }
        self.start_jobs(jobs);
    }

    fn start_jobs(&mut self, jobs: Vec<FetchedJob>) {
        match self.phase {
            Phase::Working => self.slots.start(jobs),
            // They were fetched before the worker was asked to stop. Those without a slot go back.
            Phase::Stopping { .. } => {
                self.slots.start(jobs);
                self.slots.put_back([]);
            }
            Phase::Aborting { .. } => self.slots.put_back(jobs),
        }
    }

    /// The response did not come in time.
    pub(super) fn abandon_request(&mut self, late: InFlight) -> Result<(), Error> {
        late.abandon();
        let timeout = self.settings.stalled_worker_timeout;
        self.on_failure(Error::NoAnswer { action: "finish jobs and fetch new ones", timeout })
    }

    /// After a failed request: nothing of it is forgotten, and it is sent again after a while. Jobs that the database may
    /// have fetched in a response that was lost are found by the heartbeat.
    fn on_failure(&mut self, error: Error) -> Result<(), Error> {
        self.fetch.is_due = true;
        self.lease.is_in_doubt |= self.fetch.was_requested;
        if says_that_worker_is_gone(&error) {
            self.on_pruned();
        } else if error.is_refusal() && self.failures.batch_size.refused() {
            self.slots.postpone_first();
        }
        let failing_since = *self.failures.failing_since.get_or_insert_with(Instant::now);
        let since = self.phase.since().map(|since| since.max(failing_since));
        if since.is_some_and(|since| since.elapsed() > self.settings.stalled_worker_timeout) {
            let job_ids = self.slots.finished().iter().map(|finished| finished.job_id).collect();
            return Err(Error::UnsavedJobs { job_ids, source: Box::new(error) });
        }
        let wait = self.failures.backoff.next_wait();
        let worker_id = self.worker_id();
        tracing::error!(
            action = "fetch_job_error",
            worker.id = worker_id,
            "worker {worker_id}: {error}; retrying in {wait:?}",
        );
        self.failures.pause_until = Some(Instant::now() + wait);
        Ok(())
    }
}
