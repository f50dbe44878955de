//! The event loop of a worker: one loop owns the slots, and has at most one request to the database in flight.
//!
//! | file | what it is about |
//! |---|---|
//! | `mod` | the one `select!`, and what is due when |
//! | `exchange` | which request goes out next, and what its response changes |
//! | `request` | a request, its response, and the future between them |
//! | `lease` | until when the jobs are this worker's, and how it loses and regains them |
//! | `shutdown` | stopping, and aborting the jobs that still run |
//! | `refusals` | outcomes that the database refuses, and when to retry each |
//! | `slots` | the jobs that the worker holds |

mod exchange;
mod lease;
mod refusals;
pub(super) mod request;
mod shutdown;
pub(super) mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use self::exchange::Failures;
use self::lease::Lease;
use self::request::{InFlight, response};
use self::shutdown::Phase;
use self::slots::Slots;
use super::heartbeat::HeartbeatReport;
use super::settings::Settings;
use crate::database::connection::{Connection, Connector};
use crate::error::Error;
use crate::task::worker_handle::WorkerHandle;

/// How long an idle connection is kept before it goes back to the pool.
const KEEP_CONNECTION: Duration = Duration::from_millis(100);

/// What the loop shares with other tasks and threads. Each field says who writes it.
pub(super) struct LoopHandles {
    /// Written by users, signals and jobs, to stop the worker.
    pub(super) handle: WorkerHandle,
    /// Written by the heartbeat thread and the rescuer: there may be jobs.
    pub(super) wake: Arc<Notify>,
    /// Written by the heartbeat thread.
    pub(super) reports: mpsc::UnboundedReceiver<HeartbeatReport>,
    /// Written by the loop when the worker has re-registered; read by the heartbeat thread.
    pub(super) worker_ids: watch::Sender<i64>,
    /// Written by the loop: whether jobs are running. Read by the heartbeat thread.
    pub(super) is_busy: Arc<AtomicBool>,
}

/// The state of the loop. Nothing else writes any of it.
pub(super) struct EventLoop {
    connector: Connector,
    settings: Settings,
    slots: Slots,
    handles: LoopHandles,
    phase: Phase,
    lease: Lease,
    /// The request whose response the loop waits for.
    in_flight: Option<InFlight>,
    connection: KeptConnection,
    fetch: FetchState,
    failures: Failures,
}

/// When the loop looks for jobs.
struct FetchState {
    /// There may be jobs to fetch.
    is_due: bool,
    next_poll: Instant,
}

/// A connection, kept over a burst of work: checking one out costs a round trip, with which the pool tests it.
struct KeptConnection {
    connection: Option<Connection>,
    /// When it goes back to the pool, unless there is something to do before.
    give_back_at: Instant,
}

impl KeptConnection {
    fn keep(&mut self, connection: Connection) {
        self.connection = Some(connection);
        self.give_back_at = Instant::now() + KEEP_CONNECTION;
    }
}

impl EventLoop {
    pub(super) fn new(connector: Connector, settings: Settings, slots: Slots, handles: LoopHandles) -> Self {
        let now = Instant::now();
        Self {
            connector,
            slots,
            handles,
            phase: Phase::Working,
            lease: Lease::new(now + settings.stalled_worker_timeout),
            in_flight: None,
            connection: KeptConnection { connection: None, give_back_at: now },
            fetch: FetchState { is_due: true, next_poll: now + settings.fetch_job_polling_interval },
            failures: Failures::default(),
            settings,
        }
    }

    /// The ID under which the worker is registered.
    pub(super) fn worker_id(&self) -> i64 {
        *self.handles.worker_ids.borrow()
    }

    /// Each turn sends the next request if none is in flight, and waits for whatever comes first. Outcomes that arrive
    /// while a request is in flight go out in the next one.
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        loop {
            self.handles.handle.record_turn();
            self.slots.gather();
            self.poll_signals();
            if self.in_flight.is_none() && self.failures.pause_until.is_none() {
                self.slots.resume_postponed();
                self.in_flight = self.next_request();
            }
            if self.is_done() {
                return Ok(());
            }
            self.handles.is_busy.store(self.slots.is_running(), Ordering::Relaxed);
            self.wait().await?;
        }
    }

    /// What [`wait`](Self::wait) would receive, for a worker that always has something else to do.
    fn poll_signals(&mut self) {
        if self.phase == Phase::Working && self.handles.handle.is_stopping() {
            self.stop();
        }
        if self.handles.handle.is_aborting() {
            self.abort();
        }
        while let Ok(report) = self.handles.reports.try_recv() {
            self.on_heartbeat(report);
        }
    }

    /// The one place that waits. A branch that is not taken loses nothing: the request in flight and the tasks stay where
    /// they are, a wake-up and a report stay where they were sent, and a request to stop is permanent.
    async fn wait(&mut self) -> Result<(), Error> {
        let deadline = self.next_deadline();
        let is_working = self.phase == Phase::Working;
        let is_aborting = matches!(self.phase, Phase::Aborting { .. });
        tokio::select! {
            response = response(&mut self.in_flight) => {
                self.in_flight = None;
                return self.on_response(response).await;
            }
            () = self.slots.join_next(), if self.slots.is_running() => {}
            () = self.handles.wake.notified() => self.fetch.is_due = true,
            Some(report) = self.handles.reports.recv() => self.on_heartbeat(report),
            () = self.handles.handle.stopping(), if is_working => self.stop(),
            () = self.handles.handle.aborting(), if !is_aborting => self.abort(),
            () = tokio::time::sleep_until(deadline) => return self.on_deadline(),
        }
        Ok(())
    }

    /// When the loop has something to do even if nothing happens.
    fn next_deadline(&self) -> Instant {
        let is_kept = self.connection.connection.is_some() && self.in_flight.is_none();
        // Nothing else goes out while a request is in flight, or in a pause.
        let is_idle = self.in_flight.is_none() && self.failures.pause_until.is_none();
        let now = Instant::now();
        let others = [
            is_kept.then_some(self.connection.give_back_at),
            self.in_flight.as_ref().map(|in_flight| in_flight.abandon_at),
            self.phase.abort_at(),
            self.lease.ends_at(),
            self.failures.pause_until,
            self.slots.next_try().filter(|_| is_idle),
            self.failures.refusals.fetch_at().filter(|fetch_at| is_idle && *fetch_at > now),
        ];
        others.into_iter().flatten().fold(self.fetch.next_poll, Instant::min)
    }

    /// Does what is due.
    fn on_deadline(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.fetch.next_poll {
            self.fetch.is_due = true;
            self.fetch.next_poll = now + self.settings.fetch_job_polling_interval;
        }
        if now >= self.connection.give_back_at {
            self.connection.connection = None;
        }
        if self.failures.pause_until.is_some_and(|pause_until| now >= pause_until) {
            self.failures.pause_until = None;
        }
        if self.phase.abort_at().is_some_and(|abort_at| now >= abort_at) {
            self.abort();
        }
        if self.lease.ends_at().is_some_and(|ends_at| now >= ends_at) {
            self.lose_lease();
        }
        if let Some(late) = self.in_flight.take_if(|in_flight| now >= in_flight.abandon_at) {
            return self.abandon_request(late);
        }
        Ok(())
    }

    /// For how many jobs there is room.
    fn free_slots(&self) -> usize {
        let is_refused = self.failures.refusals.fetch_at().is_some_and(|fetch_at| Instant::now() < fetch_at);
        if self.phase == Phase::Working && self.lease.is_held() && !is_refused { self.slots.free() } else { 0 }
    }

    fn is_done(&self) -> bool {
        self.has_nothing_more_to_do() && self.in_flight.is_none()
    }

    fn has_nothing_more_to_do(&self) -> bool {
        let no_more_to_come = self.phase != Phase::Working || (!self.settings.wait && !self.fetch.is_due);
        no_more_to_come && self.slots.is_empty()
    }
}
