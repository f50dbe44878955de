//! An operation that lists schedules.

use chrono::{DateTime, Utc};

use super::operation;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::schedules::ListSchedulesQuery;
use crate::error::Error;

/// Lists all schedules, in the database and in the code of programs, sorted by task and `periodic_id`.
///
/// A schedule in code is listed after a worker of this crate with that code has started, and until it is
/// [removed](super::remove_schedule).
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// for listed in app.perform(procrastinate::job_manager::list_schedules()).await? {
///     let next = listed.schedule.next_ticks(1)?;
///     println!("{}: last tick {:?}, next tick {next:?}", listed.schedule.task_name, listed.last_tick);
/// }
/// # Ok(())
/// # }
/// ```
pub fn list_schedules() -> ListSchedules {
    ListSchedules {}
}

/// The operation of [`list_schedules`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ListSchedules, list_schedules};
///
/// let operation: ListSchedules = list_schedules();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ListSchedules {}

/// A schedule with its latest tick.
///
/// # Example
///
/// See [`list_schedules`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ListedSchedule {
    /// The schedule.
    pub schedule: ProcrastinateSchedule,
    /// Its latest tick that was deferred, or skipped because of [`Overlap::Skip`](crate::Overlap::Skip), by a worker in
    /// any language.
    pub last_tick: Option<DateTime<Utc>>,
}

operation!(ListSchedules -> Vec<ListedSchedule>);

impl ListSchedules {
    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<ListedSchedule>, Error> {
        let rows = run.load(ListSchedulesQuery { key: None }).await?;
        let listed = |(schedule, tick): (ProcrastinateSchedule, Option<i64>)| {
            let last_tick = tick.and_then(|tick| DateTime::from_timestamp(tick, 0));
            ListedSchedule { schedule, last_tick }
        };
        Ok(rows.into_iter().map(listed).collect())
    }
}
