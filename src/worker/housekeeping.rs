//! A side task that deletes old jobs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::connector::DieselConnector;
use crate::error::Error;
use crate::job::JobStatus;
use crate::job_manager::{Cleaned, Cleaning};
use crate::queries::Async;

/// How many final events one step looks at.
const STEP: i32 = 1_000;

/// How long to leave the database alone while there is more to look at.
const PAUSE: Duration = Duration::from_millis(100);

/// How long to wait for more jobs to grow old.
const LULL: Duration = Duration::from_secs(60);

/// How often to begin again with the oldest job. What was passed by may have become old since: a job that was locked, or
/// one whose newest event was not its last one.
const FRESH_START: Duration = Duration::from_secs(6 * 3_600);

/// Deletes until it is dropped. A database that is away does not stop it.
pub(super) async fn keep_house(connector: DieselConnector, retention: Vec<(JobStatus, Duration)>) {
    let mut walks: Vec<Walk> = retention.into_iter().map(|(status, age)| Walk::new(status, age)).collect();
    let mut backoff = Backoff::default();
    while !walks.is_empty() {
        match step(&connector, &mut walks).await {
            Ok(is_more) => {
                backoff.reset();
                tokio::time::sleep(if is_more { PAUSE } else { LULL }).await;
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

/// One step of each walk. Returns whether there is more to look at right now.
async fn step(connector: &DieselConnector, walks: &mut [Walk]) -> Result<bool, Error> {
    let mut connection = connector.get("delete old jobs").await?;
    let mut is_more = false;
    for walk in walks {
        let start_after = walk.start_after();
        let cleaned = walk.cleaning.step(Some(STEP), start_after, &mut Async(&mut *connection)).await?;
        is_more |= cleaned.has_more;
        walk.take_note(cleaned);
    }
    Ok(is_more)
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
    fn start_after(&mut self) -> Option<Value> {
        if self.began_at.elapsed() >= FRESH_START {
            self.began_at = Instant::now();
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
