//! The schedules of an application with their ticks: those in its code, and those in the database whose task it has.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::schedule::Schedule;
use super::ticks::Ticks;
use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::database::statements::schedules::ScheduleKey;
use crate::error::Error;
use crate::queue::defer::options::OptionsOf;

/// The tasks of an application, as its schedules need them.
pub(crate) trait ScheduledTasks: Debug + Send + Sync {
    /// The schedules in the code.
    fn schedules(&self) -> &[Arc<Schedule>];

    /// Returns the options of a task's jobs, if the application has the task.
    fn options_of(&self, task_name: &str) -> Option<OptionsOf>;

    /// How old a tick may be when it is deferred, if its schedule does not say.
    fn max_delay(&self) -> Duration;
}

/// The schedules of an application with their ticks.
#[derive(Debug)]
pub(crate) struct Timetable {
    tasks: Arc<dyn ScheduledTasks>,
    in_code: Vec<Entry>,
    in_database: BTreeMap<ScheduleKey, Entry>,
    /// Versions of rows that cannot be used, each of which was logged.
    unusable: BTreeMap<ScheduleKey, i64>,
}

/// A schedule with its ticks.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) ticks: Ticks,
    /// Whether it is paused, or replaced by a schedule in the database.
    is_inactive: bool,
    run_requested_at: Option<DateTime<Utc>>,
}

impl Entry {
    fn new(schedule: Arc<Schedule>) -> Self {
        Self { schedule, ticks: Ticks::default(), is_inactive: false, run_requested_at: None }
    }

    /// Applies the state of its row.
    fn set_state(&mut self, row: &ProcrastinateSchedule) {
        self.is_inactive = row.is_paused();
        self.run_requested_at = row.run_requested_at;
        self.ticks.skip_until(row.ticks_after);
    }

    /// Follows the clock.
    pub(crate) fn follow(&mut self, now: DateTime<Utc>) {
        if self.is_inactive {
            self.ticks = Ticks::default();
        } else {
            self.ticks.follow(&self.schedule, now);
        }
    }

    /// Follows the clock for the first time, without the ticks before.
    #[cfg(feature = "testing")]
    pub(crate) fn start_at(&mut self, now: DateTime<Utc>) {
        if !self.ticks.has_started() {
            self.follow(now);
            while self.ticks.first().is_some() {
                self.ticks.forget_first();
            }
        }
    }

    /// The job that was requested, if any.
    pub(crate) fn requested_job(&self, now: DateTime<Utc>) -> Option<Result<DeferPeriodicJob, Error>> {
        self.run_requested_at.map(|requested_at| self.schedule.on_request(now, requested_at))
    }

    /// Forgets the request for a job.
    pub(crate) fn forget_request(&mut self) {
        self.run_requested_at = None;
    }
}

impl Timetable {
    pub(crate) fn new(tasks: Arc<dyn ScheduledTasks>) -> Self {
        let in_code = tasks.schedules().iter().cloned().map(Entry::new).collect();
        Self { tasks, in_code, in_database: BTreeMap::new(), unusable: BTreeMap::new() }
    }

    /// The schedules in the code, as rows. `None` if there are none.
    pub(crate) fn rows_of_code(&self) -> Option<Value> {
        let rows: Vec<_> = self.in_code.iter().map(|entry| entry.schedule.to_row()).collect();
        (!rows.is_empty()).then_some(Value::Array(rows))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.in_code.iter().chain(self.in_database.values())
    }

    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.in_code.iter_mut().chain(self.in_database.values_mut())
    }

    /// Takes over the rows of the database. Ticks of schedules that are the same as before stay.
    pub(crate) fn update(&mut self, rows: impl IntoIterator<Item = ProcrastinateSchedule>) {
        let mut before = std::mem::take(&mut self.in_database);
        let logged_before = std::mem::take(&mut self.unusable);
        for entry in &mut self.in_code {
            entry.is_inactive = false;
            entry.run_requested_at = None;
        }
        for row in rows {
            let key = ScheduleKey { task_name: row.task_name.clone(), periodic_id: row.periodic_id.clone() };
            let in_code =
                self.in_code.iter_mut().find(|entry| entry.schedule.key() == (&*key.task_name, &*key.periodic_id));
            if row.is_in_code() {
                if let Some(entry) = in_code {
                    entry.set_state(&row);
                }
                continue;
            }
            let mut problem = None;
            if let Some(entry) = in_code {
                entry.is_inactive = true;
                problem = Some(Problem::Conflict);
            }
            let known = before.remove(&key).filter(|entry| entry.schedule.version == Some(row.version));
            match known.map_or_else(|| self.read(&row), Ok) {
                Ok(mut entry) => {
                    entry.set_state(&row);
                    self.in_database.insert(key.clone(), entry);
                }
                Err(unusable) => problem = Some(unusable),
            }
            if let Some(problem) = problem {
                if logged_before.get(&key) != Some(&row.version) {
                    problem.log(&row);
                }
                self.unusable.insert(key, row.version);
            }
        }
    }

    fn read(&self, row: &ProcrastinateSchedule) -> Result<Entry, Problem> {
        let options_of = self.tasks.options_of(&row.task_name).ok_or(Problem::UnknownTask)?;
        let schedule = Schedule::from_row(row, options_of, self.tasks.max_delay()).map_err(Problem::Invalid)?;
        Ok(Entry::new(Arc::new(schedule)))
    }
}

/// Why a row cannot be used, or hides a schedule in the code.
#[derive(Debug)]
enum Problem {
    UnknownTask,
    Invalid(Error),
    Conflict,
}

impl Problem {
    fn log(&self, row: &ProcrastinateSchedule) {
        let ProcrastinateSchedule { task_name, periodic_id, .. } = row;
        match self {
            Self::UnknownTask => tracing::warn!(
                action = "schedule_without_task",
                job.task_name = task_name,
                periodic_id,
                "this worker leaves the schedule \"{periodic_id}\" of the task {task_name} to others: this program has \
                 no such task",
            ),
            Self::Invalid(error) => tracing::error!(
                action = "schedule_invalid",
                job.task_name = task_name,
                periodic_id,
                "could not use the schedule \"{periodic_id}\" of the task {task_name}: {error}",
            ),
            Self::Conflict => tracing::error!(
                action = "schedule_conflict",
                job.task_name = task_name,
                periodic_id,
                "could not use the schedule \"{periodic_id}\" of the task {task_name} in the code: the database has \
                 one of the same task and periodic_id; remove it, or give the one in the code another periodic_id",
            ),
        }
    }
}
