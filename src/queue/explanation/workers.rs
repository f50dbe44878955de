//! Which workers are alive.

use chrono::{DateTime, TimeDelta, Utc};

use super::phrase::Phrase;
use crate::database::models::ProcrastinateWorker;

/// After how long without a heartbeat a worker is considered stalled by default.
const SILENCE: TimeDelta = TimeDelta::seconds(30);

/// Whether the worker was not silent for too long at this time, which is the database's.
pub(crate) fn is_alive(worker: &ProcrastinateWorker, now: DateTime<Utc>) -> bool {
    now - worker.last_heartbeat < SILENCE
}

/// Describes how many workers are alive at this time, which is the database's. No workers is not an error, because
/// there may be no jobs.
pub(crate) fn alive(workers: &[ProcrastinateWorker], now: DateTime<Utc>) -> Phrase {
    let alive = workers.iter().filter(|worker| is_alive(worker, now)).count();
    match (alive, workers.iter().map(|worker| worker.last_heartbeat).max()) {
        (_, None) => Phrase::new("none"),
        (0, Some(last)) => Phrase::new("none alive; last heartbeat ").with(last),
        (alive, _) if alive < workers.len() => Phrase::new(format!("{alive} alive, {} stalled", workers.len() - alive)),
        (alive, _) => Phrase::new(format!("{alive} alive")),
    }
}
