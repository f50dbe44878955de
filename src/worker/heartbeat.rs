//! A side task that says that the worker is alive, and brings back what the database knows of it.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::connector::DieselConnector;
use crate::error::Error;
use crate::manager::{Heartbeat, update_heartbeat};

/// What the database said of the worker.
#[derive(Debug)]
pub(super) struct Report {
    /// The worker it is about: the loop may have registered anew since.
    pub(super) worker_id: i64,
    pub(super) heartbeat: Heartbeat,
}

/// Beats until it is dropped. The loop writes `worker_id`, and reads the reports.
pub(super) async fn beat(
    connector: DieselConnector,
    interval: Duration,
    worker_id: watch::Receiver<i64>,
    reports: mpsc::Sender<Report>,
) {
    loop {
        tokio::time::sleep(interval).await;
        let worker_id = *worker_id.borrow();
        match beat_once(&connector, worker_id).await {
            // A loop that has not read the last report yet needs no other: the next one says the same.
            Ok(heartbeat) => drop(reports.try_send(Report { worker_id, heartbeat })),
            Err(error) => tracing::warn!(
                action = "heartbeat_error",
                worker.id = worker_id,
                "worker {worker_id} could not say that it is alive; it tries again in {interval:?}: {error}",
            ),
        }
    }
}

async fn beat_once(connector: &DieselConnector, worker_id: i64) -> Result<Heartbeat, Error> {
    let mut connection = connector.get("update the heartbeat").await?;
    update_heartbeat(&mut connection, worker_id).await
}
