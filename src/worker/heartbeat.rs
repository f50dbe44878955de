//! The worker's lifeline: a thread, a runtime and a connection of its own, on which it says that it is alive, and hears
//! what is announced. Jobs that hog the threads of the application's runtime do not hold it up.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::database::connection::{Connection, Connector};
use crate::database::notification::Notification;
use crate::queue::listener::{
    ANSWER_TIMEOUT, PING_INTERVAL, SILENT, delivers_notifications, hear, ping, register_interest,
};
use crate::support::backoff::Backoff;
use crate::support::panics;
use crate::worker::storage::{Heartbeat, update_heartbeat};

/// How many notifications to hear before looking whether a beat is due.
const MOST_AT_ONCE: usize = 1_000;

/// How long to wait after a panic.
const WAIT_AFTER_PANIC: Duration = Duration::from_secs(1);

/// What the loop is told: what the database answered to a heartbeat that was sent at this time.
#[derive(Debug)]
pub(super) struct HeartbeatReport {
    /// The worker it is about: the loop may have registered anew since.
    pub(super) worker_id: i64,
    pub(super) sent_at: Instant,
    pub(super) heartbeat: Heartbeat,
}

/// What the lifeline works with.
pub(super) struct HeartbeatSettings {
    pub(super) connector: Connector,
    /// The channels to listen on; `None`: it only beats.
    pub(super) channels: Option<Vec<String>>,
    pub(super) update_heartbeat_interval: Duration,
    pub(super) abort_job_polling_interval: Duration,
    /// Written by the loop.
    pub(super) worker_id: watch::Receiver<i64>,
    /// Whether jobs are running, which may be to be aborted. Written by the loop.
    pub(super) is_busy: Arc<AtomicBool>,
    /// Told that there may be jobs to fetch.
    pub(super) wake: Arc<Notify>,
    /// Read by the loop.
    pub(super) reports: mpsc::UnboundedSender<HeartbeatReport>,
}

/// Dropping it ends the thread, a moment later.
pub(super) struct HeartbeatThread {
    _stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl HeartbeatThread {
    /// Starts the thread, and returns when interest in notifications is registered, or could not be: the loop looks at
    /// the table only after.
    pub(super) async fn start(settings: HeartbeatSettings) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        let stopping = stop.clone();
        thread::Builder::new().name("procrastinate".to_owned()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let mut heartbeat = HeartbeatLoop::new(settings, ready);
                    runtime.block_on(stopping.run_until_cancelled(heartbeat.run_supervised()));
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

    /// Ends the thread, and waits for it.
    pub(super) async fn end(self) {
        let Self { _stop, ended } = self;
        drop(_stop);
        let _ = ended.await;
    }
}

struct HeartbeatLoop {
    settings: HeartbeatSettings,
    /// Told once that the loop may look at the table.
    ready: Option<oneshot::Sender<io::Result<()>>>,
    last_beat: Instant,
    /// When the server was last heard of on this connection.
    last_heard: Instant,
    /// Whether somebody has asked to abort a job since the last beat: perhaps one of this worker's.
    abort_requested: bool,
}

impl HeartbeatLoop {
    fn new(settings: HeartbeatSettings, ready: oneshot::Sender<io::Result<()>>) -> Self {
        let now = Instant::now();
        Self { settings, ready: Some(ready), last_beat: now, last_heard: now, abort_requested: false }
    }

    /// Beats and listens until it is dropped. Connecting is the application's code, as far as its pool is; a panic there
    /// must not leave the worker without a lifeline.
    async fn run_supervised(&mut self) {
        while let Err(panic) = AssertUnwindSafe(self.run()).catch_unwind().await {
            self.set_ready();
            let message = panics::message(&*panic);
            tracing::error!(
                action = "lifeline_lost",
                "the worker's lifeline panicked, and starts anew in {WAIT_AFTER_PANIC:?}: {message}",
            );
            tokio::time::sleep(WAIT_AFTER_PANIC).await;
        }
    }

    /// Beats and listens until it is dropped.
    async fn run(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            if self.settings.channels.is_none() {
                self.set_ready();
                // A worker that does not listen and ends soon needs no connection.
                self.wait_for_next_beat().await;
            }
            let Err(reason) = self.run_on_connection(&mut backoff).await;
            self.set_ready();
            let wait = backoff.next_wait();
            let worker_id = *self.settings.worker_id.borrow();
            tracing::warn!(
                action = "lifeline_lost",
                worker.id = worker_id,
                "worker {worker_id} has lost the connection on which it says that it is alive and listens for jobs; \
                 it polls, and connects again in {wait:?}: {reason}",
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Does so on one connection, until that breaks.
    async fn run_on_connection(&mut self, backoff: &mut Backoff) -> Result<Infallible, String> {
        let mut connection = self
            .settings
            .connector
            .dedicated("say that the worker is alive")
            .await
            .map_err(|error| error.to_string())?;
        if self.settings.channels.is_some() && self.ready.is_some() && !self.hears(&mut connection).await? {
            self.settings.channels = None;
            tracing::warn!(action = "listener_silent", "jobs are found by polling only: {SILENT}");
        }
        if let Some(channels) = &self.settings.channels {
            register_interest(&mut connection, channels).await?;
            if self.ready.is_none() {
                // What came in while nobody listened was not heard: look once.
                self.settings.wake.notify_one();
            }
        }
        self.set_ready();
        self.last_heard = Instant::now();
        // The first beat on a new connection is due if the old one broke before it could.
        loop {
            if self.abort_requested || Instant::now() >= self.next_beat() {
                self.beat(&mut connection).await?;
                backoff.reset();
            }
            self.listen(&mut connection).await?;
        }
    }

    /// Whether notifications arrive on the connections that the connector makes.
    async fn hears(&self, connection: &mut Connection) -> Result<bool, String> {
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

    /// While jobs run, a beat also brings back which of them are to be aborted.
    fn next_beat(&self) -> Instant {
        let interval = if self.settings.is_busy.load(Ordering::Relaxed) {
            self.settings.update_heartbeat_interval.min(self.settings.abort_job_polling_interval)
        } else {
            self.settings.update_heartbeat_interval
        };
        self.last_beat + interval
    }

    /// Waits until a beat is due. It looks up now and then, because a worker that was idle may have become busy, which
    /// makes its next beat due sooner.
    async fn wait_for_next_beat(&self) {
        while Instant::now() < self.next_beat() {
            tokio::time::sleep_until(self.next_check()).await;
        }
    }

    fn next_check(&self) -> Instant {
        self.next_beat().min(Instant::now() + self.settings.abort_job_polling_interval)
    }

    async fn beat(&mut self, connection: &mut Connection) -> Result<(), String> {
        let worker_id = *self.settings.worker_id.borrow();
        let sent_at = Instant::now();
        let heartbeat = match timeout(ANSWER_TIMEOUT, update_heartbeat(connection, worker_id)).await {
            Ok(Ok(heartbeat)) => heartbeat,
            Ok(Err(error)) => return Err(error.to_string()),
            // The connection is not used again.
            Err(_) => return Err(format!("the server did not answer within {ANSWER_TIMEOUT:?}")),
        };
        self.last_beat = sent_at;
        self.abort_requested = false;
        self.last_heard = Instant::now();
        // The loop has ended if it reads no more: then this thread is about to.
        let _ = self.settings.reports.send(HeartbeatReport { worker_id, sent_at, heartbeat });
        Ok(())
    }

    /// Waits for a notification or for the next beat, whichever comes first.
    ///
    /// A request to abort brings the next beat forward, which brings back which of this worker's jobs it is about, if any:
    /// channels are the whole database's, and a queue in another schema has jobs of the same numbers.
    async fn listen(&mut self, connection: &mut Connection) -> Result<(), String> {
        if self.settings.channels.is_none() {
            self.wait_for_next_beat().await;
            return Ok(());
        }
        match hear(connection, self.next_check().min(self.last_heard + PING_INTERVAL)).await? {
            Some(notification) => {
                self.on_notification(notification);
                // What has arrived with it, so that many requests are one beat; not for ever, since a beat may be due.
                for _ in 0..MOST_AT_ONCE {
                    let Some(notification) = hear(connection, Instant::now()).await? else { break };
                    self.on_notification(notification);
                }
            }
            None if self.last_heard.elapsed() >= PING_INTERVAL => ping(connection).await?,
            None => return Ok(()),
        }
        self.last_heard = Instant::now();
        Ok(())
    }

    fn on_notification(&mut self, notification: Notification) {
        match notification {
            Notification::AbortJobRequested(_) => self.abort_requested = true,
            Notification::JobInserted(_) | Notification::Other => self.settings.wake.notify_one(),
        }
    }
}
