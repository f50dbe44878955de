use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::stored::{StoredArgs, StoredTime, StoredTimeOrNone};
use crate::error::Error;
use crate::schedule::recurrence::Recurrence;
use crate::support::clock;
use procrastinate_schema::schema::procrastinate_diesel_schedules;

/// A row of `procrastinate_diesel_schedules`: a schedule of a periodic task, in the database or in the code of a
/// program.
///
/// [`create_schedule`](crate::job_manager::create_schedule) and the other operations on schedules write the schedules
/// of the database. Workers of this crate write those of their code, for display and pausing.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinateSchedule;
/// use procrastinate::schema::procrastinate_diesel_schedules::dsl;
///
/// fn paused(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateSchedule>> {
///     ProcrastinateSchedule::query().filter(dsl::paused_at.is_not_null()).load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable)]
#[diesel(table_name = procrastinate_diesel_schedules)]
#[diesel(primary_key(task_name, periodic_id))]
#[diesel(check_for_backend(Pg))]
#[non_exhaustive]
pub struct ProcrastinateSchedule {
    /// The task.
    pub task_name: String,
    /// The name that tells several schedules of one task apart. Default: empty.
    pub periodic_id: String,
    /// The cron expression. `None` for a schedule with an interval.
    pub cron: Option<String>,
    /// The interval, counted from the beginning of 1970 in UTC. Only schedules in code have one.
    pub interval_seconds: Option<i64>,
    /// The time zone of the expression. `None` means UTC.
    pub time_zone: Option<String>,
    /// The arguments of the jobs, without the tick.
    #[diesel(deserialize_as = StoredArgs)]
    pub args: serde_json::Value,
    /// The queue of the jobs. `None` here and in the next five fields means the value of the task.
    pub queue_name: Option<String>,
    /// The priority of the jobs.
    pub priority: Option<i32>,
    /// The lock of the jobs.
    pub lock: Option<String>,
    /// The queueing lock of the jobs.
    pub queueing_lock: Option<String>,
    /// How soon after a tick was deferred its job must start. Otherwise the job is cancelled.
    pub start_within_seconds: Option<f64>,
    /// The key of the jobs for limits of each key.
    pub limit_key: Option<String>,
    /// What to do with missed ticks: `procrastinate`, `skip`, `last` or `all`, as in
    /// [`MissedTicks`](crate::MissedTicks).
    pub missed_ticks: String,
    /// How old a tick may be when it is deferred. `None` means the value of the application.
    pub max_delay_seconds: Option<i64>,
    /// What to do with a tick while the last job is pending or running: `allow` or `skip`, as in
    /// [`Overlap`](crate::Overlap).
    pub overlap: String,
    /// Ticks until this time are skipped. It is the time when the schedule was created or resumed, or when its times
    /// were changed.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub ticks_after: Option<DateTime<Utc>>,
    /// When it was paused. `None` if it is not.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why it was paused.
    pub pause_reason: Option<String>,
    /// When somebody asked to run the task now, until a worker has deferred the job.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub run_requested_at: Option<DateTime<Utc>>,
    /// The job that a worker of this crate deferred last. It may be deleted.
    pub last_job_id: Option<i64>,
    /// When a worker last had the schedule in its code. `None` for a schedule of the database.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub seen_in_code_at: Option<DateTime<Utc>>,
    /// When it was created, or first seen in code.
    #[diesel(deserialize_as = StoredTime)]
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    #[diesel(deserialize_as = StoredTime)]
    pub changed_at: DateTime<Utc>,
    /// A new number after each change.
    pub version: i64,
}

impl ProcrastinateSchedule {
    /// Starts a query of all schedules, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateSchedule;
    ///
    /// let query = ProcrastinateSchedule::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_diesel_schedules::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_diesel_schedules::table.select(Self::as_select())
    }

    /// Returns whether it is paused.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::models::ProcrastinateSchedule;
    /// fn state(schedule: &ProcrastinateSchedule) -> &'static str {
    ///     if schedule.is_paused() { "paused" } else { "active" }
    /// }
    /// ```
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// Returns whether it is in the code of a program, so that it can be paused, but not changed or removed.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::models::ProcrastinateSchedule;
    /// fn origin(schedule: &ProcrastinateSchedule) -> &'static str {
    ///     if schedule.is_in_code() { "code" } else { "database" }
    /// }
    /// ```
    #[must_use]
    pub fn is_in_code(&self) -> bool {
        self.seen_in_code_at.is_some()
    }

    /// Returns the next ticks, at most `n`. While the schedule is paused, they are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an expression that this version of the crate cannot read, and for a time zone without
    /// the feature `chrono-tz`.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::models::ProcrastinateSchedule;
    /// fn print(schedule: &ProcrastinateSchedule) -> Result<(), procrastinate::Error> {
    ///     for tick in schedule.next_ticks(3)? {
    ///         println!("{} runs at {tick}", schedule.task_name);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn next_ticks(&self, n: usize) -> Result<Vec<DateTime<Utc>>, Error> {
        let recurrence = self.recurrence()?;
        let after = self.ticks_after.map_or(clock::now(), |ticks_after| ticks_after.max(clock::now()));
        Ok(std::iter::successors(recurrence.next(after), |tick| recurrence.next(*tick)).take(n).collect())
    }

    /// When it ticks.
    pub(crate) fn recurrence(&self) -> Result<Recurrence, Error> {
        match (&self.cron, self.interval_seconds) {
            (Some(cron), _) => Recurrence::cron(cron, self.time_zone.as_deref()),
            (None, seconds) => Recurrence::every_seconds(seconds.unwrap_or_default()),
        }
    }
}
