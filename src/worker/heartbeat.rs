//! The heartbeat thread. It sends heartbeats and receives notifications, with its own runtime and connection. Jobs that
//! block the application's runtime do not delay it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::database::connection::{Connection, Connector};
use crate::database::notification::{Notification, SCHEDULES_CHANNEL, queue_of};
use crate::database::statements::workers::HeldJob;
use crate::queue::listener::{Heard, PING_INTERVAL, SILENT, delivers_notifications, hear, ping, register_interest};
use crate::support::backoff::Backoff;
use crate::worker::fetch_signal::FetchSignal;
use crate::worker::queues::QueueGroups;
use crate::worker::side_tasks::periodic::ScheduleSignal;
use crate::worker::side_tasks::{SideTask, run_supervised};
use crate::worker::storage::{held_jobs, is_missing_worker, update_heartbeat};

/// How many notifications to handle before checking whether a heartbeat is due.
const MOST_AT_ONCE: usize = 1_000;

/// What the heartbeat thread has found out with a statement that was sent at this time, for the loop.
#[derive(Debug)]
pub(super) struct HeartbeatReport {
    /// The ID of the worker. The loop may have re-registered since.
    pub(super) worker_id: i64,
    /// When the statement was sent that led to the finding.
    pub(super) sent_at: Instant,
    pub(super) finding: Finding,
}

/// The content of a report.
#[derive(Debug)]
pub(super) enum Finding {
    /// The heartbeat was stored. So many workers are registered, this one included.
    Registered { workers: u32 },
    /// The worker is not registered any more, because another worker considered it stalled.
    Pruned,
    /// The worker holds these jobs.
    Holds(Vec<HeldJob>),
}

/// The settings and channels of the heartbeat thread.
pub(super) struct HeartbeatSettings {
    pub(super) connector: Connector,
    /// The channels to listen on. `None`: it only sends heartbeats.
    pub(super) channels: Option<Vec<String>>,
    pub(super) update_heartbeat_interval: Duration,
    pub(super) abort_job_polling_interval: Duration,
    /// How long the server may take to respond. After that, another connection can still renew the lease in time.
    pub(super) answer_limit: Duration,
    /// Written by the loop.
    pub(super) worker_id: watch::Receiver<i64>,
    /// Whether jobs are running, which could be asked to abort. Written by the loop.
    pub(super) is_busy: Arc<AtomicBool>,
    /// The groups of queues, by which notifications are told apart.
    pub(super) groups: QueueGroups,
    /// Set if there can be jobs to fetch.
    pub(super) fetch_signal: Arc<FetchSignal>,
    /// Set if a schedule was changed.
    pub(super) schedule_signal: Arc<ScheduleSignal>,
    /// Read by the loop.
    pub(super) reports: mpsc::UnboundedSender<HeartbeatReport>,
}

/// A handle to the heartbeat thread. Dropping it ends the thread soon after.
pub(super) struct HeartbeatThread {
    _stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl HeartbeatThread {
    /// Starts the thread, and returns when it has subscribed to notifications or failed to. The loop reads the table
    /// only after that.
    pub(super) async fn start(settings: HeartbeatSettings) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        let stopping = stop.clone();
        thread::Builder::new().name("procrastinate".to_owned()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let mut heartbeat = HeartbeatLoop::new(settings, ready);
                    runtime.block_on(stopping.run_until_cancelled(run_supervised(&mut heartbeat)));
                }
                Err(error) => drop(ready.send(Err(error))),
            }
            drop(alive);
        })?;
        let thread = Self { _stop: stop.drop_guard(), ended };
        match is_ready.await {
            Ok(Err(error)) => Err(error),
            _ => Ok(thread),
        }
    }

    /// Ends the thread and waits for it.
    pub(super) async fn end(self) {
        let Self { _stop, ended } = self;
        drop(_stop);
        let _ = ended.await;
    }
}

struct HeartbeatLoop {
    settings: HeartbeatSettings,
    /// Notified once, when the loop may read the table.
    ready: Option<oneshot::Sender<io::Result<()>>>,
    last_beat: Instant,
    /// When the server last responded on this connection.
    last_heard: Instant,
    /// Whether an abort was requested since the last heartbeat, perhaps of one of this worker's jobs.
    abort_requested: bool,
}

impl SideTask for HeartbeatLoop {
    const NAME: &'static str = "sending heartbeats";

    async fn run(&mut self) {
        self.beat_and_listen().await;
    }

    fn recover(&mut self) {
        self.set_ready();
    }
}

impl HeartbeatLoop {
    fn new(settings: HeartbeatSettings, ready: oneshot::Sender<io::Result<()>>) -> Self {
        let now = Instant::now();
        Self { settings, ready: Some(ready), last_beat: now, last_heard: now, abort_requested: false }
    }

    /// Sends heartbeats and listens until it is dropped.
    async fn beat_and_listen(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            if self.settings.channels.is_none() {
                self.set_ready();
                // A worker that does not listen and stops soon needs no connection.
                self.wait_for_next_beat().await;
            }
            let Err(reason) = self.run_on_connection(&mut backoff).await;
            self.settings.schedule_signal.set_listening(false);
            self.set_ready();
            let wait = backoff.next_wait();
            let worker_id = *self.settings.worker_id.borrow();
            tracing::warn!(
                action = "lifeline_lost",
                worker.id = worker_id,
                "worker {worker_id} lost its connection for heartbeats and notifications; polling for jobs and \
                 reconnecting in {wait:?}: {reason}",
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Does the same on one connection, until that breaks.
    async fn run_on_connection(&mut self, backoff: &mut Backoff) -> Result<Infallible, String> {
        let connection = self.in_time(self.settings.connector.dedicated("send heartbeats")).await?;
        let mut connection = connection.map_err(|error| error.to_string())?;
        if self.settings.channels.is_some()
            && self.ready.is_some()
            && !self.receives_notifications(&mut connection).await?
        {
            self.settings.channels = None;
            tracing::warn!(action = "listener_silent", "polling for jobs without notifications: {SILENT}");
        }
        if let Some(channels) = &self.settings.channels {
            register_interest(&mut connection, channels).await?;
            self.settings.schedule_signal.set_listening(true);
            if self.ready.is_none() {
                // Notifications were missed while the thread was not listening, so check the table once.
                self.settings.fetch_signal.set_all();
            }
        }
        self.set_ready();
        self.last_heard = Instant::now();
        // The first heartbeat on a new connection is due if the old one broke before it was sent.
        loop {
            if self.abort_requested || Instant::now() >= self.next_beat() {
                self.beat(&mut connection).await?;
                backoff.reset();
            }
            self.listen(&mut connection).await?;
        }
    }

    /// Whether notifications arrive on the connector's connections.
    async fn receives_notifications(&self, connection: &mut Connection) -> Result<bool, String> {
        let connector = &self.settings.connector;
        if !connector.holds_sessions() {
            return Ok(false);
        }
        delivers_notifications(connection, connector).await.map_err(|error| error.to_string())
    }

    fn set_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Ok(()));
        }
    }

    /// Returns when the next heartbeat is due. While jobs run, it also returns abort requests.
    fn next_beat(&self) -> Instant {
        let interval = if self.settings.is_busy.load(Ordering::Relaxed) {
            self.settings.update_heartbeat_interval.min(self.settings.abort_job_polling_interval)
        } else {
            self.settings.update_heartbeat_interval
        };
        self.last_beat + interval
    }

    /// Waits until a heartbeat is due. It checks regularly, because an idle worker can become busy, and then its next
    /// heartbeat is due sooner.
    async fn wait_for_next_beat(&self) {
        while Instant::now() < self.next_beat() {
            tokio::time::sleep_until(self.next_check()).await;
        }
    }

    fn next_check(&self) -> Instant {
        self.next_beat().min(Instant::now() + self.settings.abort_job_polling_interval)
    }

    /// Sends a heartbeat, and asks for abort requests.
    async fn beat(&mut self, connection: &mut Connection) -> Result<(), String> {
        let worker_id = *self.settings.worker_id.borrow();
        let sent_at = Instant::now();
        let heartbeat = self.in_time(update_heartbeat(connection, worker_id)).await?;
        let workers = heartbeat.map_err(|error| error.to_string())?;
        self.last_beat = sent_at;
        self.last_heard = Instant::now();
        let finding = workers.map_or(Finding::Pruned, |workers| Finding::Registered { workers });
        self.report(worker_id, sent_at, finding);

        let sent_at = Instant::now();
        match self.in_time(held_jobs(connection, worker_id)).await? {
            Ok(jobs) => {
                self.abort_requested = false;
                self.report(worker_id, sent_at, Finding::Holds(jobs));
            }
            Err(error) if is_missing_worker(&error) => self.report(worker_id, sent_at, Finding::Pruned),
            // The heartbeat must go on, for example while another transaction locks the table.
            Err(error) => {
                self.in_time(ping(connection)).await??;
                tracing::warn!(
                    action = "list_jobs_error",
                    worker.id = worker_id,
                    "worker {worker_id} could not check whether its jobs should abort: {error}",
                );
            }
        }
        self.last_heard = Instant::now();
        Ok(())
    }

    fn report(&self, worker_id: i64, sent_at: Instant, finding: Finding) {
        // If the loop has ended, this thread is about to end.
        let _ = self.settings.reports.send(HeartbeatReport { worker_id, sent_at, finding });
    }

    /// Waits for a notification or for the next heartbeat, whichever comes first.
    ///
    /// An abort request makes the next heartbeat due. Its result tells whether the request is about one of this
    /// worker's jobs. The notification itself cannot, because all schemas of a database share the channels, and another
    /// schema can have jobs with the same IDs.
    async fn listen(&mut self, connection: &mut Connection) -> Result<(), String> {
        if self.settings.channels.is_none() {
            self.wait_for_next_beat().await;
            return Ok(());
        }
        match hear(connection, self.next_check().min(self.last_heard + PING_INTERVAL)).await? {
            Some(heard) => {
                self.on_notification(&heard);
                // Handle everything that arrived together, so that many requests cause one heartbeat. Limit it, because
                // a heartbeat may be due.
                for _ in 0..MOST_AT_ONCE {
                    let Some(heard) = hear(connection, Instant::now()).await? else { break };
                    self.on_notification(&heard);
                }
            }
            None if self.last_heard.elapsed() >= PING_INTERVAL => self.in_time(ping(connection)).await??,
            None => return Ok(()),
        }
        self.last_heard = Instant::now();
        Ok(())
    }

    /// Waits for the server's response. The connection is not used again after a timeout.
    async fn in_time<T>(&self, response: impl Future<Output = T>) -> Result<T, String> {
        let limit = self.settings.answer_limit;
        timeout(limit, response).await.map_err(|_| format!("the server did not respond within {limit:?}"))
    }

    fn on_notification(&mut self, heard: &Heard) {
        if heard.channel == SCHEDULES_CHANNEL {
            self.settings.schedule_signal.set();
            return;
        }
        match (heard.notification, queue_of(&heard.channel)) {
            (Notification::AbortJobRequested(_), _) => self.abort_requested = true,
            (Notification::JobInserted(_), Some(queue)) => {
                self.settings.fetch_signal.set(self.settings.groups.of(queue));
            }
            (Notification::JobInserted(_) | Notification::Other, _) => self.settings.fetch_signal.set_all(),
        }
    }
}
