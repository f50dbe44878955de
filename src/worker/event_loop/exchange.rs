//! Chooses the next request, and applies its response.

use std::collections::HashMap;

use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
use tokio::time::Instant;

use super::EventLoop;
use super::fetches::Fetch;
use super::refusals::{Mode, Refusals};
use super::request::{Failure, InFlight, Request, Response, ResponseOrFailure, Sent, add_outcome};
use super::shutdown::Phase;
use crate::database::statements::Statement;
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::support::backoff::Backoff;
use crate::worker::executor::Finished;
use crate::worker::log::{log_incomplete, log_lost, log_not_retried, log_refused, log_stored};
use crate::worker::storage::{FinishedAndFetched, is_missing_worker};

/// How often the loop yields to the jobs it has started before it checks which of them have finished.
const YIELDS_AFTER_START: usize = 4;

/// The state of the loop that concerns failed requests.
#[derive(Default)]
pub(super) struct Failures {
    backoff: Backoff,
    /// When requests started to fail. `None` after a success.
    failing_since: Option<Instant>,
    /// When to send the next request after a failure.
    pub(super) pause_until: Option<Instant>,
    pub(super) refusals: Refusals,
    /// What the last request should store and fetch, if it was an exchange.
    sent: Option<Sent>,
}

impl EventLoop {
    /// Returns the next request, if there is a reason for one.
    pub(super) fn next_request(&mut self) -> Option<InFlight> {
        if self.lease.needs_new_id() {
            let request = self.reregistration();
            return Some(self.send(request));
        }
        let unknown = self.take_unknown_jobs();
        if !unknown.is_empty() {
            let worker_id = self.worker_id();
            return Some(self.send(Request::Recover { worker_id, job_ids: unknown }));
        }
        for group in self.slots.take_freed() {
            self.fetches.set_due(group);
        }
        let fetch = self.fetches.next(|group| self.free_slots(group));
        if !self.slots.finished().is_empty() || fetch.is_some() {
            return Some(self.exchange(fetch.unwrap_or_default()));
        }
        None
    }

    /// Stores outcomes and fetches jobs of one group of queues, in one round trip.
    fn exchange(&mut self, fetch: Fetch) -> InFlight {
        let jobs = self.slots.finished().iter().map(|finished| finished.job_id);
        let (mode, stored, free_slots) = self.failures.refusals.plan(jobs, fetch.free_slots);
        let fetch = Fetch { free_slots, ..fetch };
        let queues = self.groups.queues(fetch.group);
        let mut statement = FinishAndFetchJobs::new(self.worker_id(), queues, free_slots);
        statement.one_by_one = mode != Mode::Together;
        let mut outcomes: Vec<&Finished> = self.slots.finished().iter().take(stored).collect();
        // All statements that lock several jobs lock them in this order.
        outcomes.sort_unstable_by_key(|finished| finished.job_id);
        for finished in outcomes {
            add_outcome(&mut statement, finished, &self.settings);
        }
        if mode == Mode::Alone {
            // The database's encoding may be the reason, and the outcome is more important than its error text.
            statement.write_errors_in_ascii();
        }
        if free_slots > 0 {
            self.fetches.on_fetch(fetch);
        }
        self.send(Request::Exchange { sent: Sent { mode, stored, fetch }, statement: Box::new(statement) })
    }

    /// Sends a request on the kept connection, if there is one.
    fn send(&mut self, request: Request) -> InFlight {
        let kept = self.connection.connection.take();
        self.failures.sent = if let Request::Exchange { sent, .. } = request { Some(sent) } else { None };
        InFlight::send(request, kept, self.connector.clone(), self.settings.stalled_worker_timeout)
    }

    pub(super) async fn on_response(&mut self, response: ResponseOrFailure) -> Result<(), Error> {
        let (connection, response) = match response {
            Ok(response) => response,
            Err(failure) => return self.on_failure(failure),
        };
        if response.is_refused() {
            // Another connection may have other rights or settings.
            connection.discard();
        } else {
            self.connection.keep(connection, !response.is_fruitless());
        }
        self.failures.backoff.reset();
        self.failures.failing_since = None;
        match response {
            Response::Exchanged { sent, result } => {
                self.on_exchanged(sent, result)?;
                self.yield_to_jobs().await;
            }
            Response::IdDrawn(new_id) => self.lease.next_id = Some(new_id),
            Response::Reregistered { new_id, held, sent_at } => self.on_reregistered(new_id, held, sent_at),
            Response::Recovered(jobs) => self.on_recovered(jobs),
        }
        Ok(())
    }

    /// Lets very short jobs finish, so that their outcomes go into the next request together. Jobs on other threads
    /// need a moment longer.
    async fn yield_to_jobs(&mut self) {
        for _ in 0..YIELDS_AFTER_START {
            tokio::task::yield_now().await;
            self.slots.gather();
            if !self.slots.is_running() {
                break;
            }
        }
    }

    fn on_exchanged(&mut self, sent: Sent, result: FinishedAndFetched) -> Result<(), Error> {
        self.failures.refusals.answered(sent.mode);
        let worker_id = self.worker_id();
        let mut reasons: HashMap<_, _> = result.refused.into_iter().collect();
        let mut last_reason = None;
        for (job_id, missing, problem) in &result.incomplete {
            log_incomplete(*job_id, *missing, problem);
        }
        for finished in self.slots.forget_finished(sent.stored) {
            let Finished { job_id, outcome, .. } = &finished;
            if let Some(reason) = reasons.remove(job_id) {
                self.postpone(finished, &reason);
                last_reason = Some(reason);
                continue;
            }
            self.failures.refusals.forget_job(*job_id);
            if result.lost.contains(job_id) {
                log_lost(*job_id, outcome, worker_id);
            } else if result.not_retried.contains(job_id) {
                log_not_retried(*job_id, worker_id);
            } else {
                log_stored(*job_id, outcome);
            }
        }
        if let Some(reason) = result.fetch_problem {
            self.on_fetch_refused(&reason);
        } else if sent.fetch.free_slots > 0 {
            self.failures.refusals.forget_fetching();
            self.handles.handle.record_fetch();
            self.fetches.on_fetched(sent.fetch, result.fetched.len(), result.wait);
        }
        self.start_jobs(result.fetched);
        match (last_reason, self.failures.refusals.since()) {
            (Some(reason), Some(since)) => self.stop_trying(since, refusal(reason)).map(drop),
            _ => Ok(()),
        }
    }

    /// Keeps an outcome that the database has refused, and retries it later.
    fn postpone(&mut self, finished: Finished, reason: &str) {
        let wait = self.failures.refusals.refused_job(finished.job_id);
        log_refused(finished.job_id, &finished.outcome, reason, wait);
        self.slots.postpone(finished, Instant::now() + wait);
    }

    fn on_fetch_refused(&mut self, reason: &str) {
        let wait = self.failures.refusals.refused_fetching();
        self.fetches.set_all_due();
        let worker_id = self.worker_id();
        tracing::error!(
            action = "fetch_job_error",
            worker.id = worker_id,
            "worker {worker_id} could not fetch jobs: {reason}; retrying in {wait:?}",
        );
    }

    fn on_recovered(&mut self, mut jobs: Vec<FetchedJob>) {
        // The report can be older than the response that brought them.
        self.forget_held(&mut jobs, |fetched| (fetched.job.id, fetched.job.attempts));
        for fetched in &jobs {
            tracing::warn!(
                action = "job_found",
                job.id = i64::from(fetched.job.id),
                worker.id = fetched.job.worker_id,
                "job {} was fetched in a lost response; starting it now",
                fetched.job.id,
            );
        }
        self.start_jobs(jobs);
    }

    fn start_jobs(&mut self, jobs: Vec<FetchedJob>) {
        match self.phase {
            Phase::Working => self.slots.start(jobs),
            // They were fetched before the worker was asked to stop. Those without a slot are requeued.
            Phase::Stopping { .. } => {
                self.slots.start(jobs);
                self.slots.requeue([]);
            }
            Phase::Aborting { .. } => self.slots.requeue(jobs),
        }
    }

    /// Handles a failed request. Nothing is lost: the request is sent again later. If the server may still process it,
    /// the worker re-registers first, so that it can no longer do anything.
    fn on_failure(&mut self, failure: Failure) -> Result<(), Error> {
        let Failure { error, is_in_doubt } = failure;
        self.fetches.set_all_due();
        let sent = self.failures.sent.take();
        if is_in_doubt && sent.is_some() {
            self.lease.doubt_id();
        }
        if is_missing_worker(&error) {
            self.on_pruned();
        } else if let Some(Sent { mode, stored, .. }) = sent
            && error.is_refusal()
            && self.failures.refusals.refused(mode, stored)
        {
            for finished in self.slots.forget_finished(1) {
                self.postpone(finished, &error.to_string());
            }
        }
        let failing_since = *self.failures.failing_since.get_or_insert_with(Instant::now);
        let failing_since = self.failures.refusals.since().map_or(failing_since, |since| since.min(failing_since));
        let error = self.stop_trying(failing_since, error)?;
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

    /// Ends the worker if it is shutting down and its requests have failed for too long. Otherwise returns the error.
    fn stop_trying(&self, failing_since: Instant, error: Error) -> Result<Error, Error> {
        let since = self.phase.since().map(|since| since.max(failing_since));
        if since.is_none_or(|since| since.elapsed() <= self.settings.stalled_worker_timeout) {
            return Ok(error);
        }
        let job_ids = self.slots.unsaved().map(|finished| finished.job_id).collect();
        Err(Error::UnsavedJobs { job_ids, source: Box::new(error) })
    }
}

/// Returns why the database refused to store an outcome.
fn refusal(reason: String) -> Error {
    Error::database(FinishAndFetchJobs::ACTION, DatabaseError(DatabaseErrorKind::Unknown, Box::new(reason)))
}
