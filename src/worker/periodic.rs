//! A side task that defers periodic tasks when they are due.

use std::time::Duration;

use chrono::Utc;
use tokio::sync::oneshot;

use crate::app::App;
use crate::periodic::PeriodicDeferrer;

/// Defers periodic tasks until it is dropped. Sends on `first_turn` after it has deferred everything that was due at
/// the start.
pub(super) async fn defer_periodic_jobs(app: App, first_turn: oneshot::Sender<()>) {
    if app.schedules().is_empty() {
        return;
    }
    let mut first_turn = Some(first_turn);
    let mut deferrer = app.periodic_deferrer();
    loop {
        let again_at = deferrer.defer_due(Utc::now()).await;
        if let Some(first_turn) = first_turn.take() {
            let _ = first_turn.send(());
        }
        let wait = (again_at - Utc::now()).to_std().unwrap_or_default();
        // The timer can fire slightly early by the other clock.
        tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
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
