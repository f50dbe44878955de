//! A side task that deletes old jobs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::database::connection::Connector;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::{Cleaned, Cleaning, STEP, pause_after};
use crate::support::backoff::Backoff;

/// How long to wait for more jobs to grow old.
const LULL: Duration = Duration::from_secs(60);

/// How often to begin again with the oldest job. What was passed by may have become old since: a job that was locked, or
/// one whose newest event was not its last one.
const FRESH_START: Duration = Duration::from_secs(6 * 3_600);

/// Deletes until it is dropped. A database that is away does not stop it.
pub(super) async fn keep_house(connector: Connector, retention: Vec<(JobStatus, Duration)>) {
    let mut walks: Vec<Walk> = retention.into_iter().map(|(status, age)| Walk::new(status, age)).collect();
    let mut backoff = Backoff::default();
    while !walks.is_empty() {
        match step(&connector, &mut walks).await {
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
async fn step(connector: &Connector, walks: &mut [Walk]) -> Result<Duration, Error> {
    let mut connection = connector.get("delete old jobs").await?;
    let began_at = Instant::now();
    let mut is_more = false;
    for walk in walks {
        let start_after = walk.start_after(Instant::now());
        let cleaned = walk.cleaning.step(Some(STEP), start_after, &mut connection).await?;
        is_more |= cleaned.has_more;
        walk.take_note(cleaned);
    }
    Ok(if is_more { pause_after(began_at.elapsed()) } else { LULL })
}

/// Along the jobs of one status, oldest first.
struct Walk {
    status: JobStatus,
    cleaning: Cleaning,
    position: Option<Value>,
    began_at: Instant,
}

impl Walk {
    fn new(status: JobStatus, age: Duration) -> Self {
        Self { cleaning: Cleaning::of(status.clone(), age), status, position: None, began_at: Instant::now() }
    }

    /// Where to go on; `None`: at the beginning.
    fn start_after(&mut self, now: Instant) -> Option<Value> {
        if now.duration_since(self.began_at) >= FRESH_START {
            self.began_at = now;
            self.position = None;
        }
        self.position.clone()
    }

    fn take_note(&mut self, cleaned: Cleaned) {
        let Cleaned { deleted, stopped_at, .. } = cleaned;
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

    use crate::worker::*;

    #[test]
    fn a_walk_goes_on_where_it_stopped_and_after_a_while_begins_anew() {
        let mut walk = Walk::new(JobStatus::Succeeded, Duration::ZERO);
        let now = walk.began_at;
        assert_eq!(walk.start_after(now), None);
        walk.take_note(Cleaned { deleted: 1, has_more: true, stopped_at: json!({ "id": 7 }) });
        assert_eq!(walk.start_after(now + FRESH_START / 2), Some(json!({ "id": 7 })));
        assert_eq!(walk.start_after(now + FRESH_START), None);
        walk.take_note(Cleaned { deleted: 0, has_more: false, stopped_at: json!({ "id": 5 }) });
        assert_eq!(walk.start_after(now + FRESH_START * 3 / 2), Some(json!({ "id": 5 })));
    }
}
