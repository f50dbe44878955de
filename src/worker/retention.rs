//! A side task that deletes old jobs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::database::connection::Connector;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::{RetentionRule, SWEEP_SIZE, SweepResult, pause_after};
use crate::support::backoff::Backoff;

/// How long to wait for more jobs to grow old.
const IDLE_DELAY: Duration = Duration::from_secs(60);

/// How often to begin again with the oldest job. What was passed by may have become old since: a job that was locked, or
/// one whose newest event was not its last one.
const RESTART_INTERVAL: Duration = Duration::from_secs(6 * 3_600);

/// Deletes until it is dropped. A database that is away does not stop it.
pub(super) async fn delete_old_jobs(connector: Connector, retention: Vec<(JobStatus, Duration)>) {
    let mut sweeps: Vec<Sweep> = retention.into_iter().map(|(status, age)| Sweep::new(status, age)).collect();
    let mut backoff = Backoff::default();
    while !sweeps.is_empty() {
        match step(&connector, &mut sweeps).await {
            Ok(wait) => {
                backoff.reset();
                tokio::time::sleep(wait).await;
            }
            Err(error) => {
                let wait = backoff.next_wait();
                tracing::warn!(
                    action = "delete_old_jobs_error",
                    "could not delete old jobs; the next try is in {wait:?}: {error}"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// One step of each walk. Returns how long to wait before the next one.
async fn step(connector: &Connector, sweeps: &mut [Sweep]) -> Result<Duration, Error> {
    let mut connection = connector.get("delete old jobs").await?;
    let began_at = Instant::now();
    let mut is_more = false;
    for sweep in sweeps {
        let start_after = sweep.start_after(Instant::now());
        let swept = sweep.rule.step(Some(SWEEP_SIZE), start_after, &mut connection).await?;
        is_more |= swept.has_more;
        sweep.take_note(swept);
    }
    Ok(if is_more { pause_after(began_at.elapsed()) } else { IDLE_DELAY })
}

/// Along the jobs of one status, oldest first.
struct Sweep {
    status: JobStatus,
    rule: RetentionRule,
    position: Option<Value>,
    began_at: Instant,
}

impl Sweep {
    fn new(status: JobStatus, age: Duration) -> Self {
        Self { rule: RetentionRule::of(status.clone(), age), status, position: None, began_at: Instant::now() }
    }

    /// Where to go on; `None`: at the beginning.
    fn start_after(&mut self, now: Instant) -> Option<Value> {
        if now.duration_since(self.began_at) >= RESTART_INTERVAL {
            self.began_at = now;
            self.position = None;
        }
        self.position.clone()
    }

    fn take_note(&mut self, swept: SweepResult) {
        let SweepResult { deleted, stopped_at, .. } = swept;
        if deleted > 0 {
            let status = &self.status;
            tracing::info!(action = "delete_old_jobs", %status, deleted, "deleted {deleted} old jobs that are {status}");
        }
        self.position = Some(stopped_at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_walk_goes_on_where_it_stopped_and_after_a_while_begins_anew() {
        let mut sweep = Sweep::new(JobStatus::Succeeded, Duration::ZERO);
        let now = sweep.began_at;
        assert_eq!(sweep.start_after(now), None);
        sweep.take_note(SweepResult { deleted: 1, has_more: true, stopped_at: json!({ "id": 7 }) });
        assert_eq!(sweep.start_after(now + RESTART_INTERVAL / 2), Some(json!({ "id": 7 })));
        assert_eq!(sweep.start_after(now + RESTART_INTERVAL), None);
        sweep.take_note(SweepResult { deleted: 0, has_more: false, stopped_at: json!({ "id": 5 }) });
        assert_eq!(sweep.start_after(now + RESTART_INTERVAL * 3 / 2), Some(json!({ "id": 5 })));
    }
}
