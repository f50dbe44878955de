//! Periodic tasks: their schedules and ticks.
//!
//! | file | purpose |
//! |---|---|
//! | `mod` | the schedule as a user writes it |
//! | `schedule` | the schedule after validation |
//! | `ticks` | which ticks are due, and which were missed |
//! | `timetable` | the schedules of an application, those in the database included, with their ticks |
//! | `deferrer` | reads the schedules, and defers what is due |
//! | `steps` | defers jobs on request and ticks |
//! | `session` | the connection for that |

mod deferrer;
mod schedule;
mod session;
mod steps;
mod ticks;
mod timetable;

use std::any::TypeId;
use std::time::Duration;

use chrono::TimeDelta;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::queue::defer::options::{JobOptions, OptionsOf, option_setters};
use crate::schedule::cron::Cron;
use crate::schedule::recurrence::Recurrence;
use crate::schedule::{MissedTicks, Overlap};
use crate::support::json::to_json;
use crate::validation::{check_args, check_name, unserializable};

pub use self::deferrer::PeriodicDeferrer;
use self::schedule::SAMPLE_TICK;
pub(crate) use self::schedule::{Schedule, check_distinct};
pub(crate) use self::timetable::ScheduledTasks;
#[cfg(feature = "testing")]
pub(crate) use self::timetable::Timetable;

/// The default of `max_delay`, ten minutes.
pub(crate) const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(600);

/// A schedule of a task: a cron expression or an interval, and the arguments and options of its jobs.
///
/// Add it with [`AppBuilder::periodic`](crate::AppBuilder::periodic), or write [`#[periodic]`](macro@crate::periodic)
/// at the task. Every running worker of the application defers the jobs, whichever queues it serves. However many
/// workers there are, including Python's, each tick becomes one job. Each job gets the tick in Unix seconds as the
/// argument `timestamp`.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, PeriodicTask, task};
/// use serde_json::json;
///
/// #[task]
/// async fn report(timestamp: i64, customer: String) {
///     println!("the report for {customer} of {timestamp}");
/// }
///
/// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
/// let morning = PeriodicTask::new::<report>("0 8 * * mon-fri")
///     .periodic_id("morning")
///     .queue("reports")
///     .args(json!({ "customer": "Ada" }));
/// let evening = PeriodicTask::new::<report>("0 18 * * *").periodic_id("evening").arg("customer", "Grace");
/// let app = App::builder(connector).task::<report>().periodic(morning).periodic(evening).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a schedule does nothing until it is added to an application"]
pub struct PeriodicTask {
    task: TypeId,
    /// The name with which the task was declared.
    task_name: &'static str,
    recurrence: WantedRecurrence,
    periodic_id: String,
    args: Result<Map<String, Value>, Error>,
    options: JobOptions,
    #[cfg(feature = "chrono-tz")]
    time_zone: Option<String>,
    max_delay: Option<Duration>,
    missed: MissedTicks,
    overlap: Overlap,
}

/// When a schedule should tick, before validation.
#[derive(Debug)]
pub(crate) enum WantedRecurrence {
    Cron(String),
    Every(Duration),
}

impl PeriodicTask {
    /// A schedule for the task of this type and name.
    pub(crate) fn of(task: TypeId, task_name: &'static str, recurrence: WantedRecurrence) -> Self {
        Self {
            task,
            task_name,
            recurrence,
            periodic_id: String::new(),
            args: Ok(Map::new()),
            options: JobOptions::new(),
            #[cfg(feature = "chrono-tz")]
            time_zone: None,
            max_delay: None,
            missed: MissedTicks::default(),
            overlap: Overlap::default(),
        }
    }

    /// Sets the name that tells several schedules of one task apart, at most 128 bytes. Default: empty.
    ///
    /// Do not change it later, because deferred ticks are recorded under the task and this name.
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
    /// let morning = PeriodicTask::new::<report>("0 8 * * *").periodic_id("morning");
    /// ```
    pub fn periodic_id(mut self, periodic_id: impl Into<String>) -> Self {
        self.periodic_id = periodic_id.into();
        self
    }

    /// Sets all arguments of the jobs except `timestamp`. Default: none.
    ///
    /// They are anything that serializes to a JSON object. `build` checks them against the task.
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64, year: i32) { let _ = (timestamp, year); }
    /// let morning = PeriodicTask::new::<report>("0 8 * * *").args(serde_json::json!({ "year": 2026 }));
    /// ```
    pub fn args(mut self, args: impl Serialize) -> Self {
        self.args =
            check_args(self.task_name, &to_json(&args)).map(|args| args.as_object().cloned().unwrap_or_default());
        self
    }

    /// Adds one argument of the jobs, alongside those set before.
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64, year: i32) { let _ = (timestamp, year); }
    /// let morning = PeriodicTask::new::<report>("0 8 * * *").arg("year", 2026);
    /// ```
    pub fn arg(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        if let Ok(args) = &mut self.args {
            match to_json(&value) {
                Ok(value) => drop(args.insert(name.into(), value)),
                Err(error) => self.args = Err(unserializable(self.task_name, &error)),
            }
        }
        self
    }

    option_setters! {
        /// Sets the queue; see [`JobOptions::queue`].
        ///
        /// ```
        /// # use procrastinate::{PeriodicTask, task};
        /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
        /// let morning = PeriodicTask::new::<report>("0 8 * * *").queue("reports");
        /// ```
        queue(queue: impl Into<String>);

        /// Sets the priority; see [`JobOptions::priority`].
        ///
        /// ```
        /// # use procrastinate::{PeriodicTask, task};
        /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
        /// let morning = PeriodicTask::new::<report>("0 8 * * *").priority(10);
        /// ```
        priority(priority: i32);

        /// Sets the lock; see [`JobOptions::lock`].
        ///
        /// ```
        /// # use procrastinate::{PeriodicTask, task};
        /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
        /// let morning = PeriodicTask::new::<report>("0 8 * * *").lock("reports");
        /// ```
        lock(lock: impl Into<String>);

        /// Sets the queueing lock; see [`JobOptions::queueing_lock`].
        ///
        /// A tick is skipped while another pending job holds the lock.
        ///
        /// ```
        /// # use procrastinate::{PeriodicTask, task};
        /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
        /// let often = PeriodicTask::new::<report>("* * * * *").queueing_lock("report");
        /// ```
        queueing_lock(queueing_lock: impl Into<String>);

        /// Sets how soon the job of a tick must start, from when it is deferred. Otherwise it ends as cancelled. See
        /// [`JobOptions::start_within`].
        ///
        /// ```
        /// # use procrastinate::{PeriodicTask, task};
        /// # use std::time::Duration;
        /// # #[task] async fn sweep() {}
        /// let schedule = PeriodicTask::new::<sweep>("0 * * * *").start_within(Duration::from_secs(3_600));
        /// ```
        start_within(period: Duration);

        /// Sets the key for limits of each key; see [`JobOptions::limit_key`].
        ///
        /// ```
        /// # use procrastinate::{PeriodicTask, task};
        /// # #[task] async fn sweep() {}
        /// let schedule = PeriodicTask::new::<sweep>("0 * * * *").limit_key("tenant-7");
        /// ```
        limit_key(limit_key: impl Into<String>);
    }

    /// Sets the time zone of the expression. Default: UTC, as in Procrastinate.
    ///
    /// [`Cron::in_time_zone`] explains the names, and what happens when the clock changes.
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
    /// let morning = PeriodicTask::new::<report>("0 8 * * *").time_zone("Europe/Vienna");
    /// ```
    #[cfg(feature = "chrono-tz")]
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.time_zone = Some(name.into());
        self
    }

    /// Sets how old a tick may be when it is deferred. Default: ten minutes, or the value of
    /// [`AppBuilder::periodic_max_delay`](crate::AppBuilder::periodic_max_delay).
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
    /// let morning = PeriodicTask::new::<report>("0 8 * * *").max_delay(std::time::Duration::from_secs(3600));
    /// ```
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = Some(max_delay);
        self
    }

    /// Sets what to do with missed ticks. Default: Procrastinate's rule.
    ///
    /// ```
    /// # use procrastinate::{MissedTicks, PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
    /// let morning = PeriodicTask::new::<report>("0 8 * * *").missed(MissedTicks::Last);
    /// ```
    pub fn missed(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Sets what to do with a tick while the last job of the schedule is pending or running. Default: it becomes a job.
    ///
    /// ```
    /// # use procrastinate::{Overlap, PeriodicTask, task};
    /// # #[task] async fn report(timestamp: i64) { let _ = timestamp; }
    /// let often = PeriodicTask::new::<report>("* * * * *").overlap(Overlap::Skip);
    /// ```
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Validates when it ticks.
    fn recurrence(&self) -> Result<Recurrence, Error> {
        let recurrence = match &self.recurrence {
            WantedRecurrence::Cron(expression) => Recurrence::Cron(Cron::new(expression)?),
            WantedRecurrence::Every(interval) => Recurrence::every(*interval)?,
        };
        #[cfg(feature = "chrono-tz")]
        if let Some(name) = &self.time_zone {
            let Recurrence::Cron(cron) = recurrence else {
                let rule = "must not be set for a schedule with an interval, which counts seconds";
                return Err(Error::invalid("time zone", name.clone(), rule));
            };
            return Ok(Recurrence::Cron(cron.in_time_zone(name)?));
        }
        Ok(recurrence)
    }

    /// The type of the task.
    pub(crate) fn task(&self) -> TypeId {
        self.task
    }

    /// The name with which the task was declared.
    pub(crate) fn task_name(&self) -> &'static str {
        self.task_name
    }

    /// Validates the schedule. The application provides the task's full name, the options of its jobs and the default
    /// `max_delay`.
    pub(crate) fn check(self, task_name: &str, options_of: OptionsOf, max_delay: Duration) -> Result<Schedule, Error> {
        let recurrence = self.recurrence()?;
        if !self.periodic_id.is_empty() {
            check_name("periodic_id", &self.periodic_id)?;
        }
        let max_delay = self.max_delay.unwrap_or(max_delay);
        let schedule = Schedule {
            recurrence,
            periodic_id: self.periodic_id,
            task_name: task_name.to_owned(),
            args: self.args?,
            options: self.options,
            options_of,
            max_delay: TimeDelta::from_std(max_delay).unwrap_or(TimeDelta::MAX),
            missed: self.missed,
            overlap: self.overlap,
            version: None,
        };
        // Checks the arguments and options now, rather than when the first tick is due.
        schedule.job(SAMPLE_TICK)?;
        Ok(schedule)
    }
}
