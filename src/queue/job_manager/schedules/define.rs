//! Operations that create and change schedules.

use std::time::Duration;

use serde::Serialize;

use super::settings::{Settings, schedule_setters};
use super::{check_key, key, operation, refusal};
use crate::database::connection::run::Run;
use crate::database::statements::schedules::{
    ChangeScheduleQuery, CreateScheduleQuery, ListSchedulesQuery, ScheduleKey,
};
use crate::error::Error;
use crate::schedule::{MissedTicks, Overlap};
use crate::support::clock;

/// Creates a schedule in the database: a task, and a cron expression with the syntax of [`Cron`](crate::Cron).
///
/// Running workers whose application has the task defer its jobs from now on, starting within a second. Workers
/// without the task leave it alone. Ticks before its creation are not deferred. With
/// [`periodic_id`](CreateSchedule::periodic_id), a task can have several schedules.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), such as [`Error::Invalid`] for an expression, time zone or option
/// that is not valid. [`Error::ScheduleExists`] if the database, or the code of a program, has a schedule of this task
/// and `periodic_id`.
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::create_schedule;
///
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// let report = create_schedule("report", "0 8 * * mon-fri").periodic_id("customer-7");
/// app.perform(report.args(serde_json::json!({ "customer": 7 })).queue("reports")).await?;
/// # Ok(())
/// # }
/// ```
pub fn create_schedule(task_name: impl Into<String>, cron: impl Into<String>) -> CreateSchedule {
    CreateSchedule { key: key(task_name, ""), settings: Settings { cron: Some(cron.into()), ..Settings::default() } }
}

/// The operation of [`create_schedule`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{CreateSchedule, create_schedule};
///
/// let operation: CreateSchedule = create_schedule("report", "0 8 * * *");
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct CreateSchedule {
    key: ScheduleKey,
    settings: Settings,
}

operation!(CreateSchedule -> ());
schedule_setters!(CreateSchedule, "create_schedule(\"report\", \"0 8 * * *\")");

impl CreateSchedule {
    /// Sets the name that tells several schedules of one task apart, at most 128 bytes. Default: empty.
    ///
    /// # Example
    ///
    /// See [`create_schedule`].
    pub fn periodic_id(mut self, periodic_id: impl Into<String>) -> Self {
        self.key.periodic_id = periodic_id.into();
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { key, settings } = self;
        check_key(&key)?;
        let values = settings.into_values(&key.task_name)?;
        if run.load_one(CreateScheduleQuery { key: key.clone(), values, at: clock::time_of_test() }).await? {
            return Ok(());
        }
        let rows = run.load(ListSchedulesQuery { key: Some(key.clone()) }).await?;
        let is_in_code = rows.first().is_some_and(|(schedule, _)| schedule.is_in_code());
        let ScheduleKey { task_name, periodic_id } = key;
        Err(Error::ScheduleExists { task_name, periodic_id, is_in_code })
    }
}

/// Changes a schedule in the database: only the values that are set. If the schedule has no `periodic_id`, pass `""`.
///
/// Running workers use the new values within a second, and no tick is deferred with the old ones once the change is
/// committed. After a change of the expression or time zone, ticks before the change are not deferred.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), [`Error::ScheduleNotFound`], and [`Error::ScheduleInCode`] for a
/// schedule in the code of a program.
///
/// # Example
///
/// ```no_run
/// use procrastinate::job_manager::change_schedule;
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// change_schedule("report", "customer-7").cron("0 9 * * mon-fri").priority(5).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn change_schedule(task_name: impl Into<String>, periodic_id: impl Into<String>) -> ChangeSchedule {
    ChangeSchedule { key: key(task_name, periodic_id), settings: Settings::default() }
}

/// The operation of [`change_schedule`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ChangeSchedule, change_schedule};
///
/// let operation: ChangeSchedule = change_schedule("report", "").cron("0 9 * * *");
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ChangeSchedule {
    key: ScheduleKey,
    settings: Settings,
}

operation!(ChangeSchedule -> ());
schedule_setters!(ChangeSchedule, "change_schedule(\"report\", \"\")");

impl ChangeSchedule {
    /// Sets the cron expression.
    ///
    /// # Example
    ///
    /// See [`change_schedule`].
    pub fn cron(mut self, cron: impl Into<String>) -> Self {
        self.settings.cron = Some(cron.into());
        self
    }

    /// Resets the queue, priority, lock and queueing lock to those of the task, except the ones that are set here.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::job_manager::change_schedule;
    ///
    /// let without_lock = change_schedule("report", "").reset_options().queue("reports");
    /// ```
    pub fn reset_options(mut self) -> Self {
        self.settings.resets_options = true;
        self
    }

    /// Resets `max_delay` to that of the application, unless it is set here.
    #[cfg(feature = "admin")]
    pub(crate) fn reset_max_delay(mut self) -> Self {
        self.settings.resets_max_delay = true;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { key, settings } = self;
        check_key(&key)?;
        let values = settings.into_values(&key.task_name)?;
        let statement = ChangeScheduleQuery { key: key.clone(), values, at: clock::time_of_test() };
        if run.load_one(statement).await? { Ok(()) } else { Err(refusal("change", key, run).await) }
    }
}
