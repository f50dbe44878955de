//! A side task that defers periodic tasks when they are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::sync::{Notify, oneshot};

use crate::app::App;
use crate::periodic::PeriodicDeferrer;
use crate::worker::side_tasks::SideTask;

/// How often to read the schedules of the database if a notification tells of each change. Schedules in code and clocks
/// need a look now and then, too.
const WITH_NOTIFICATIONS: TimeDelta = TimeDelta::seconds(60);

/// How often to read them otherwise.
const WITHOUT_NOTIFICATIONS: TimeDelta = TimeDelta::seconds(1);

/// Defers the periodic tasks of an application.
pub(crate) struct PeriodicTasks {
    deferrer: PeriodicDeferrer,
    signal: Arc<ScheduleSignal>,
    /// Sent on after everything that was due at the start is deferred.
    first_turn: Option<oneshot::Sender<()>>,
}

impl PeriodicTasks {
    pub(crate) fn new(app: &App, signal: Arc<ScheduleSignal>, first_turn: oneshot::Sender<()>) -> Self {
        Self { deferrer: app.periodic_deferrer(), signal, first_turn: Some(first_turn) }
    }
}

impl SideTask for PeriodicTasks {
    const NAME: &'static str = "deferring periodic tasks";

    /// Defers periodic tasks until it is dropped.
    async fn run(&mut self) {
        loop {
            let is_listening = self.signal.is_listening();
            self.deferrer.load_every(if is_listening { WITH_NOTIFICATIONS } else { WITHOUT_NOTIFICATIONS });
            let again_at = self.deferrer.defer_due(Utc::now()).await;
            if let Some(first_turn) = self.first_turn.take() {
                let _ = first_turn.send(());
            }
            let wait = (again_at - Utc::now()).to_std().unwrap_or_default();
            // The timer can fire slightly early by the other clock.
            let wait = wait.max(Duration::from_millis(1));
            if tokio::time::timeout(wait, self.signal.wait()).await.is_ok() {
                self.deferrer.reload();
            }
        }
    }

    fn recover(&mut self) {
        // The worker does not wait for it.
        self.first_turn = None;
    }
}

/// A signal that a schedule of the database was changed. The heartbeat thread sets it.
#[derive(Debug, Default)]
pub(crate) struct ScheduleSignal {
    is_set: Notify,
    is_listening: AtomicBool,
}

impl ScheduleSignal {
    /// Signals a change.
    pub(crate) fn set(&self) {
        self.is_set.notify_one();
    }

    /// Sets whether each change leads to a signal from now on. A change before may have led to none.
    pub(crate) fn set_listening(&self, is_listening: bool) {
        if self.is_listening.swap(is_listening, Ordering::AcqRel) != is_listening {
            self.set();
        }
    }

    fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Acquire)
    }

    /// Waits until it is set. Dropping the future loses nothing.
    async fn wait(&self) {
        self.is_set.notified().await;
    }
}

impl App {
    /// Creates a deferrer, which defers this application's periodic tasks without a worker.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) {
    /// let mut deferrer = app.periodic_deferrer();
    /// deferrer.defer_due(chrono::Utc::now()).await;
    /// # }
    /// ```
    pub fn periodic_deferrer(&self) -> PeriodicDeferrer {
        PeriodicDeferrer::new(self.connector().clone(), self.scheduled_tasks())
    }
}
