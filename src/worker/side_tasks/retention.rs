//! A side task that deletes old jobs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::database::connection::{Connector, RenewedConnection};
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::{RetentionRule, SWEEP_SIZE, SweepResult, pause_after};
use crate::support::backoff::Backoff;
use crate::worker::settings::Settings;
use crate::worker::side_tasks::SideTask;

/// How long to wait for more jobs to become old enough.
const IDLE_DELAY: Duration = Duration::from_secs(60);

/// How often to start again with the oldest job. Jobs that were skipped may be deletable by now: they were locked, or
/// their latest event was not their final one.
const RESTART_INTERVAL: Duration = Duration::from_secs(6 * 3_600);

/// Deletes old jobs, if the worker is configured to.
pub(crate) struct Retention {
    connector: Connector,
    /// How long a statement may take.
    time_limit: Duration,
    sweeps: Vec<Sweep>,
}

impl SideTask for Retention {
    const NAME: &'static str = "deleting old jobs";

    /// Deletes old jobs until it is dropped. It retries while the database is unreachable.
    async fn run(&mut self) {
        let mut backoff = Backoff::default();
        while !self.sweeps.is_empty() {
            let wait = match self.step().await {
                Ok(wait) => {
                    backoff.reset();
                    wait
                }
                Err(error) => {
                    let wait = backoff.next_wait();
                    tracing::warn!(
                        action = "delete_old_jobs_error",
                        "could not delete old jobs; retrying in {wait:?}: {error}"
                    );
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

impl Retention {
    pub(crate) fn new(connector: Connector, settings: &Settings) -> Self {
        let sweeps = settings.retention.iter().map(|(status, age)| Sweep::new(status.clone(), *age)).collect();
        Self { connector, time_limit: settings.time_limit(), sweeps }
    }

    /// Does one step of each sweep, even if another one fails. Returns how long to wait before the next one.
    async fn step(&mut self) -> Result<Duration, Error> {
        let mut connection = RenewedConnection::new(&self.connector, "delete old jobs", self.time_limit);
        let began_at = Instant::now();
        let mut is_more = false;
        let mut result = Ok(());
        for sweep in &mut self.sweeps {
            let start_after = sweep.start_after(Instant::now());
            let swept = match connection.get().await {
                Ok(connection) => sweep.rule.step(Some(SWEEP_SIZE), start_after, connection).await,
                Err(error) => return Err(error),
            };
            match swept {
                Ok(swept) => {
                    is_more |= swept.has_more;
                    sweep.record(swept);
                }
                Err(error) => result = Err(error),
            }
        }
        result?;
        Ok(if is_more { pause_after(began_at.elapsed()) } else { IDLE_DELAY })
    }
}

/// A sweep through the jobs of one status, oldest first.
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

    /// Returns where to continue. `None`: at the beginning.
    fn start_after(&mut self, now: Instant) -> Option<Value> {
        if now.duration_since(self.began_at) >= RESTART_INTERVAL {
            self.began_at = now;
            self.position = None;
        }
        self.position.clone()
    }

    fn record(&mut self, swept: SweepResult) {
        let SweepResult { deleted, stopped_at, .. } = swept;
        if deleted > 0 {
            let status = &self.status;
            tracing::info!(
                action = "delete_old_jobs",
                %status,
                deleted,
                "deleted {deleted} old jobs with status {status}",
            );
        }
        self.position = Some(stopped_at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sweep_continues_where_it_stopped_and_restarts_after_an_interval() {
        let mut sweep = Sweep::new(JobStatus::Succeeded, Duration::ZERO);
        let now = sweep.began_at;
        assert_eq!(sweep.start_after(now), None);
        sweep.record(SweepResult { deleted: 1, has_more: true, stopped_at: json!({ "id": 7 }) });
        assert_eq!(sweep.start_after(now + RESTART_INTERVAL / 2), Some(json!({ "id": 7 })));
        assert_eq!(sweep.start_after(now + RESTART_INTERVAL), None);
        sweep.record(SweepResult { deleted: 0, has_more: false, stopped_at: json!({ "id": 5 }) });
        assert_eq!(sweep.start_after(now + RESTART_INTERVAL * 3 / 2), Some(json!({ "id": 5 })));
    }
}
