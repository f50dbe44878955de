//! A side task that raises the priorities of jobs that have waited.

use std::time::Duration;

use tokio::time::Instant;

use crate::database::connection::run::Run;
use crate::database::connection::{Connector, RenewedConnection};
use crate::database::statements::ageing::{AgePrioritiesQuery, AgedPriorities};
use crate::error::Error;
use crate::queue::retention::pause_after;
use crate::support::backoff::Backoff;
use crate::support::clock;
use crate::worker::settings::Settings;
use crate::worker::side_tasks::SideTask;

/// How many jobs one step reads. It takes some hundredths of a second, and fetches skip its jobs that long.
const STEP_SIZE: i32 = 1_000;

/// The longest time until the next look, which also notices new settings.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The shortest time until the next look if nothing is to do, or another worker does it.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);

/// Raises the priorities of the queues whose priorities age. If no queue does, it reads an empty table once a minute.
pub(crate) struct Ageing {
    connector: Connector,
    /// How long a statement may take.
    time_limit: Duration,
}

impl SideTask for Ageing {
    const NAME: &'static str = "raising priorities";

    /// Works until it is dropped. It retries while the database is unreachable.
    async fn run(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.step().await {
                Ok(wait) => {
                    backoff.reset();
                    wait
                }
                Err(error) => {
                    let wait = backoff.next_wait();
                    tracing::warn!(
                        action = "age_priorities_error",
                        "could not raise the priorities of jobs that have waited; retrying in {wait:?}: {error}"
                    );
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

impl Ageing {
    pub(crate) fn new(connector: Connector, settings: &Settings) -> Self {
        Self { connector, time_limit: settings.time_limit() }
    }

    /// Does one step. Returns how long to wait before the next one.
    async fn step(&self) -> Result<Duration, Error> {
        let mut connection = RenewedConnection::new(&self.connector, "raise priorities", self.time_limit);
        let began_at = Instant::now();
        let statement = AgePrioritiesQuery { due_at: clock::time_of_test(), most: STEP_SIZE };
        let aged = connection.get().await?.load_one(statement).await?;
        log(&aged);
        let (_, _, has_more, wait_seconds, _) = aged;
        Ok(if has_more { pause_after(began_at.elapsed()) } else { delay(wait_seconds) })
    }
}

/// How long to wait if nothing is to do for so many seconds.
fn delay(wait_seconds: Option<f64>) -> Duration {
    let wait = wait_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    wait.unwrap_or(LONGEST_DELAY).clamp(SHORTEST_DELAY, LONGEST_DELAY)
}

fn log((queue, raised, _, _, problem): &AgedPriorities) {
    let Some(queue) = queue else { return };
    if *raised > 0 {
        tracing::debug!(
            action = "age_priorities",
            job.queue = queue,
            raised,
            "raised the priorities of {raised} jobs of queue {queue}, which have waited",
        );
    }
    if let Some(problem) = problem {
        tracing::warn!(
            action = "age_priorities_error",
            job.queue = queue,
            "could not raise the priority of a job of queue {queue}: {problem}",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_when_a_period_ends_but_within_a_minute() {
        let seconds = |wait_seconds| delay(wait_seconds).as_secs_f64();
        assert_eq!(seconds(Some(2.5)), 2.5);
        assert_eq!(seconds(Some(0.0)), 1.0);
        for long in [None, Some(3_600.0), Some(f64::INFINITY)] {
            assert_eq!(seconds(long), 60.0);
        }
    }
}
