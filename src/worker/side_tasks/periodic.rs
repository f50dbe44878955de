//! A side task that defers periodic tasks when they are due.

use std::time::Duration;

use chrono::Utc;
use tokio::sync::oneshot;

use crate::app::App;
use crate::periodic::PeriodicDeferrer;
use crate::worker::side_tasks::SideTask;

/// Defers the periodic tasks of an application.
pub(crate) struct PeriodicTasks {
    deferrer: Option<PeriodicDeferrer>,
    /// Sent on after everything that was due at the start is deferred.
    first_turn: Option<oneshot::Sender<()>>,
}

impl PeriodicTasks {
    pub(crate) fn new(app: &App, first_turn: oneshot::Sender<()>) -> Self {
        let deferrer = (!app.schedules().is_empty()).then(|| app.periodic_deferrer());
        Self { deferrer, first_turn: Some(first_turn) }
    }
}

impl SideTask for PeriodicTasks {
    const NAME: &'static str = "deferring periodic tasks";

    /// Defers periodic tasks until it is dropped.
    async fn run(&mut self) {
        let Some(deferrer) = &mut self.deferrer else { return };
        loop {
            let again_at = deferrer.defer_due(Utc::now()).await;
            if let Some(first_turn) = self.first_turn.take() {
                let _ = first_turn.send(());
            }
            let wait = (again_at - Utc::now()).to_std().unwrap_or_default();
            // The timer can fire slightly early by the other clock.
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    fn recover(&mut self) {
        // The worker does not wait for it.
        self.first_turn = None;
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
        PeriodicDeferrer::new(self.connector().clone(), self.schedules().clone())
    }
}
