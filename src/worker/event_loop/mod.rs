//! The event loop of a worker. One loop owns the slots and has at most one request to the database in flight.
//!
//! | file | contents |
//! |---|---|
//! | `mod` | the `select!` and its deadlines |
//! | `exchange` | choosing the next request and applying its response |
//! | `request` | requests, responses and the request in flight |
//! | `lease` | until when the worker holds its jobs, and how it loses and regains them |
//! | `shutdown` | stopping, and aborting the jobs that still run |
//! | `refusals` | outcomes that the database refuses, and when to retry each |
//! | `fetches` | when to fetch jobs, for each group of queues |
//! | `slots` | the jobs that the worker holds |
//! | `wake` | when to fetch after a notification |

mod exchange;
mod fetches;
mod lease;
mod refusals;
pub(super) mod request;
mod shutdown;
pub(super) mod slots;
mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::exchange::Failures;
use self::fetches::Fetches;
use self::lease::Lease;
use self::request::{InFlight, response};
use self::shutdown::Phase;
use self::slots::Slots;
use super::fetch_signal::FetchSignal;
use super::heartbeat::HeartbeatReport;
use super::queues::QueueGroups;
use super::settings::Settings;
use crate::database::connection::{Connection, Connector};
use crate::error::Error;
use crate::task::worker_handle::WorkerHandle;

/// How long an idle connection is kept before it is returned to the pool.
const KEEP_CONNECTION: Duration = Duration::from_millis(100);

/// The parts of the loop that are shared with other tasks and threads. Each field says who writes it.
pub(super) struct LoopHandles {
    /// Written by users, signals and jobs, to stop the worker.
    pub(super) handle: WorkerHandle,
    /// Written by the heartbeat thread and the rescuer, if there can be new jobs.
    pub(super) fetch_signal: Arc<FetchSignal>,
    /// Written by the heartbeat thread.
    pub(super) reports: mpsc::UnboundedReceiver<HeartbeatReport>,
    /// Written by the loop after re-registering. Read by the heartbeat thread.
    pub(super) worker_ids: watch::Sender<i64>,
    /// Whether jobs are running. Written by the loop. Read by the heartbeat thread.
    pub(super) is_busy: Arc<AtomicBool>,
}

/// The state of the loop. Only the loop writes it.
pub(super) struct EventLoop {
    connector: Connector,
    settings: Settings,
    groups: QueueGroups,
    slots: Slots,
    handles: LoopHandles,
    phase: Phase,
    lease: Lease,
    /// The request in flight.
    in_flight: Option<InFlight>,
    connection: KeptConnection,
    fetches: Fetches,
    failures: Failures,
}

/// A connection that is kept during a burst of work. Checking one out costs a round trip, because the pool tests it.
struct KeptConnection {
    connection: Option<Connection>,
    /// When it is returned to the pool, unless it is used before.
    give_back_at: Instant,
}

impl KeptConnection {
    /// Keeps it for the next request. Without work, that is only a request that is due now: in a fleet that shares a
    /// pool, others wait for it.
    fn keep(&mut self, connection: Connection, has_work: bool) {
        self.connection = Some(connection);
        self.give_back_at = Instant::now() + if has_work { KEEP_CONNECTION } else { Duration::ZERO };
    }
}

impl EventLoop {
    /// Creates the loop of a worker whose registration counts as a heartbeat until this time.
    pub(super) fn new(
        connector: Connector,
        settings: Settings,
        groups: QueueGroups,
        slots: Slots,
        handles: LoopHandles,
        lease_until: Instant,
    ) -> Self {
        let now = Instant::now();
        Self {
            connector,
            slots,
            handles,
            phase: Phase::Working,
            lease: Lease::new(lease_until),
            in_flight: None,
            connection: KeptConnection { connection: None, give_back_at: now },
            fetches: Fetches::new(groups.len(), settings.fetch_job_polling_interval),
            failures: Failures::default(),
            groups,
            settings,
        }
    }

    /// Returns the ID under which the worker is registered.
    pub(super) fn worker_id(&self) -> i64 {
        *self.handles.worker_ids.borrow()
    }

    /// Runs the loop. Each turn sends the next request if none is in flight, and waits for the first event. Outcomes
    /// that arrive while a request is in flight go into the next one.
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

    /// Polls what [`wait`](Self::wait) would receive, for a worker that always has other events.
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

    /// All waiting happens here. Branches that are not taken lose nothing. The request and the tasks stay where they
    /// are, wake-ups and reports stay queued, and a stop request is permanent.
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
            () = self.handles.fetch_signal.wait() => self.on_fetch_signal(),
            Some(report) = self.handles.reports.recv() => self.on_heartbeat(report),
            () = self.handles.handle.stopping(), if is_working => self.stop(),
            () = self.handles.handle.aborting(), if !is_aborting => self.abort(),
            () = tokio::time::sleep_until(deadline) => self.on_deadline(),
        }
        Ok(())
    }

    /// Returns when the loop must act even if nothing happens.
    fn next_deadline(&self) -> Instant {
        let is_kept = self.connection.connection.is_some() && self.in_flight.is_none();
        // Nothing else is sent while a request is in flight, or during a pause.
        let is_idle = self.in_flight.is_none() && self.failures.pause_until.is_none();
        let free_slots = |group| if is_idle { self.free_slots(group) } else { 0 };
        let has_free_slots = || (0..self.groups.len()).any(|group| free_slots(group) > 0);
        let fetches_at = |fetch_at: &Instant| is_idle && (*fetch_at > Instant::now() || has_free_slots());
        let others = [
            is_kept.then_some(self.connection.give_back_at),
            self.phase.abort_at(),
            self.lease.ends_at(),
            self.failures.pause_until,
            self.slots.next_retry().filter(|_| is_idle),
            self.failures.refusals.fetch_at().filter(fetches_at),
        ];
        others.into_iter().flatten().fold(self.fetches.next_deadline(free_slots), Instant::min)
    }

    /// Does the work that is due.
    fn on_deadline(&mut self) {
        let now = Instant::now();
        self.fetches.poll(now);
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
    }

    /// Handles the signal that there can be jobs to fetch.
    fn on_fetch_signal(&mut self) {
        for group in self.handles.fetch_signal.take() {
            self.fetches.on_notification(group);
        }
    }

    /// Returns how many jobs of this group may be fetched.
    fn free_slots(&self, group: usize) -> usize {
        let is_refused = self.failures.refusals.fetch_at().is_some_and(|fetch_at| Instant::now() < fetch_at);
        if self.phase == Phase::Working && self.lease.is_held() && !is_refused { self.slots.free(group) } else { 0 }
    }

    fn is_done(&self) -> bool {
        self.has_nothing_more_to_do() && self.in_flight.is_none()
    }

    fn has_nothing_more_to_do(&self) -> bool {
        let no_more_to_come = self.phase != Phase::Working || (!self.settings.wait && !self.fetches.are_pending());
        no_more_to_come && self.slots.is_empty()
    }
}
