//! Operations that pause, resume, remove and run schedules.

use super::{check_key, key, not_found, operation, refusal};
use crate::database::connection::run::Run;
use crate::database::statements::schedules::{
    ListSchedulesQuery, PauseScheduleQuery, RemoveScheduleQuery, ResumeScheduleQuery, RunScheduleQuery, ScheduleKey,
};
use crate::error::Error;
use crate::support::clock;
use crate::validation::check_filter;

/// Returns whether the statement changed the schedule. If it did not, the schedule must exist.
async fn changed_or_found<R: Run>(
    action: &'static str,
    rows: Vec<bool>,
    key: ScheduleKey,
    run: &mut R,
) -> Result<bool, Error> {
    if !rows.is_empty() {
        return Ok(true);
    }
    let found = run.load(ListSchedulesQuery { key: Some(key.clone()) }).await?;
    if found.is_empty() { Err(not_found(action, key)) } else { Ok(false) }
}

/// Pauses a schedule, in the database or in the code of a program. If it has no `periodic_id`, pass `""`.
///
/// The operation returns `false` if it is paused already. No tick is deferred once the pause is committed. Jobs that
/// were deferred before stay. A schedule in code stays paused when programs restart. Python's workers do not know of
/// pauses.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::ScheduleNotFound`]. A schedule in code is found after a
/// worker of its program has started.
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::pause_schedule;
///
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// app.perform(pause_schedule("report", "").by("Ada").reason("the mail server is moving")).await?;
/// # Ok(())
/// # }
/// ```
pub fn pause_schedule(task_name: impl Into<String>, periodic_id: impl Into<String>) -> PauseSchedule {
    PauseSchedule { key: key(task_name, periodic_id), by: None, reason: None }
}

/// The operation of [`pause_schedule`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{PauseSchedule, pause_schedule};
///
/// let operation: PauseSchedule = pause_schedule("report", "");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct PauseSchedule {
    key: ScheduleKey,
    by: Option<String>,
    reason: Option<String>,
}

operation!(PauseSchedule -> bool);

impl PauseSchedule {
    /// Sets who pauses it. Default: unknown.
    ///
    /// # Example
    ///
    /// See [`pause_schedule`].
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = Some(by.into());
        self
    }

    /// Sets why it is paused. Default: none.
    ///
    /// # Example
    ///
    /// See [`pause_schedule`].
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let Self { key, by, reason } = self;
        check_key(&key)?;
        check_filter("name of who pauses", by.as_deref())?;
        check_filter("reason of the pause", reason.as_deref())?;
        let rows = run.load(PauseScheduleQuery { key: key.clone(), by, reason, at: clock::time_of_test() }).await?;
        changed_or_found("pause", rows, key, run).await
    }
}

/// Resumes a paused schedule. If it has no `periodic_id`, pass `""`.
///
/// The operation returns `false` if it is not paused. Ticks during the pause are skipped, whatever its policy for
/// missed ticks. So resuming never defers several jobs at once.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::ScheduleNotFound`].
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// app.perform(procrastinate::job_manager::resume_schedule("report", "")).await?;
/// # Ok(())
/// # }
/// ```
pub fn resume_schedule(task_name: impl Into<String>, periodic_id: impl Into<String>) -> ResumeSchedule {
    ResumeSchedule { key: key(task_name, periodic_id) }
}

/// The operation of [`resume_schedule`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ResumeSchedule, resume_schedule};
///
/// let operation: ResumeSchedule = resume_schedule("report", "");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ResumeSchedule {
    key: ScheduleKey,
}

operation!(ResumeSchedule -> bool);

impl ResumeSchedule {
    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let Self { key } = self;
        check_key(&key)?;
        let rows = run.load(ResumeScheduleQuery { key: key.clone(), at: clock::time_of_test() }).await?;
        changed_or_found("resume", rows, key, run).await
    }
}

/// Removes a schedule from the database. If it has no `periodic_id`, pass `""`.
///
/// No tick is deferred once the removal is committed. Jobs that were deferred before stay. A schedule in the code of a
/// program can be removed two hours after the last worker with that code has stopped. Until then, workers would write
/// it again.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), [`Error::ScheduleNotFound`], and [`Error::ScheduleInCode`].
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// app.perform(procrastinate::job_manager::remove_schedule("report", "customer-7")).await?;
/// # Ok(())
/// # }
/// ```
pub fn remove_schedule(task_name: impl Into<String>, periodic_id: impl Into<String>) -> RemoveSchedule {
    RemoveSchedule { key: key(task_name, periodic_id) }
}

/// The operation of [`remove_schedule`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{RemoveSchedule, remove_schedule};
///
/// let operation: RemoveSchedule = remove_schedule("report", "");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct RemoveSchedule {
    key: ScheduleKey,
}

operation!(RemoveSchedule -> ());

impl RemoveSchedule {
    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { key } = self;
        check_key(&key)?;
        let rows = run.load(RemoveScheduleQuery { key: key.clone(), at: clock::time_of_test() }).await?;
        if rows.is_empty() { Err(refusal("remove", key, run).await) } else { Ok(()) }
    }
}

/// Asks the running workers to defer a job of the schedule now. If it has no `periodic_id`, pass `""`.
///
/// The first worker whose application has the task defers the job within a second, with the arguments and options of
/// the schedule, and the current time as the argument `timestamp`. If no such worker runs, the next one that starts
/// does. Requests that come before then become one job. The job is no tick: it is deferred also while the schedule is
/// paused, and the next tick is deferred as well. With [`Overlap::Skip`](crate::Overlap::Skip), no job is deferred
/// while the last one is pending or running.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::ScheduleNotFound`].
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// app.perform(procrastinate::job_manager::run_schedule_now("report", "customer-7")).await?;
/// # Ok(())
/// # }
/// ```
pub fn run_schedule_now(task_name: impl Into<String>, periodic_id: impl Into<String>) -> RunScheduleNow {
    RunScheduleNow { key: key(task_name, periodic_id) }
}

/// The operation of [`run_schedule_now`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{RunScheduleNow, run_schedule_now};
///
/// let operation: RunScheduleNow = run_schedule_now("report", "");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct RunScheduleNow {
    key: ScheduleKey,
}

operation!(RunScheduleNow -> ());

impl RunScheduleNow {
    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { key } = self;
        check_key(&key)?;
        let rows = run.load(RunScheduleQuery { key: key.clone(), at: clock::time_of_test() }).await?;
        if rows.is_empty() { Err(not_found("run", key)) } else { Ok(()) }
    }
}
