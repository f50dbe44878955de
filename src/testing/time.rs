//! The time that the queue sees in tests.

use chrono::{DateTime, Utc};

use crate::support::clock;

/// Runs the future at this time, as the queue sees it. [`schedule_in`](crate::JobOptions::schedule_in) and retry delays
/// count from it. The clock of the database and `Utc::now()` do not change.
///
/// It applies to the future itself and to code inside [`blocking`](crate::blocking), but not to tokio tasks that the
/// future spawns.
///
/// # Example
///
/// ```no_run
/// use std::time::Duration;
/// use procrastinate::{task, testing};
///
/// # #[task] async fn remind(customer: i64) { let _ = customer; }
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), Box<dyn std::error::Error>> {
/// let christmas = "2030-12-24T18:00:00Z".parse()?;
/// // Scheduled for seven o'clock on that day.
/// testing::at(christmas, remind(7).schedule_in(Duration::from_secs(3_600)).defer(connection)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn at<F: Future>(time: DateTime<Utc>, future: F) -> F::Output {
    clock::at(time, future).await
}

/// Does the same as [`at`], for blocking code.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{task, testing};
/// # #[task] async fn remind(customer: i64) { let _ = customer; }
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), Box<dyn std::error::Error>> {
/// let christmas = "2030-12-24T18:00:00Z".parse()?;
/// let delay = std::time::Duration::from_secs(3_600);
/// testing::at_blocking(christmas, || remind(7).schedule_in(delay).defer_blocking(connection))?;
/// # Ok(())
/// # }
/// ```
pub fn at_blocking<T>(time: DateTime<Utc>, work: impl FnOnce() -> T) -> T {
    clock::at_blocking(Some(time), work)
}
