//! Operations that let priorities age.

use std::time::Duration;

use super::operation;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinatePriorityAgeing;
use crate::database::statements::ageing::{ListPriorityAgeingsQuery, SetAgeingQuery, StopAgeingQuery};
use crate::error::Error;
use crate::validation::{check_age, check_name};

/// Lets the pending jobs of a queue gain priority while they wait, so that a steady stream of jobs with a higher
/// priority cannot hold them back forever.
///
/// For each full period that it has waited, a job gains a step, up to a maximum. Jobs that have the maximum or more
/// stay as they are. A job that is scheduled for later or retried waits since the time that it was scheduled for. The
/// first step follows after one to two periods, because it depends on when the workers look.
///
/// Workers of this crate raise the priorities, whatever queues they serve. The jobs of every other queue pay nothing.
/// See [Flow control](crate::guide::flow_control).
///
/// The operation replaces the former settings of the queue. It returns `false` if they are the same.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::Invalid`]
///
/// - if the period is missing, or shorter than a second
/// - if the step is not between 1 and 2,147,483,647
/// - if the maximum is missing
///
/// # Example
///
/// ```no_run
/// use std::time::Duration;
/// use procrastinate::job_manager::age_priorities;
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// // After ten to eleven minutes, a job with priority 0 has priority 10.
/// age_priorities("reports").every(Duration::from_secs(60)).up_to(10).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn age_priorities(queue: impl Into<String>) -> AgePriorities {
    AgePriorities { queue: queue.into(), every: None, step: 1, max_priority: None }
}

/// The operation of [`age_priorities`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::job_manager::{AgePriorities, age_priorities};
///
/// let operation: AgePriorities = age_priorities("reports").every(Duration::from_secs(60)).up_to(10);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct AgePriorities {
    queue: String,
    every: Option<Duration>,
    step: u32,
    max_priority: Option<i32>,
}

operation!(AgePriorities -> bool);

impl AgePriorities {
    /// Sets the period, at least a second.
    ///
    /// # Example
    ///
    /// See [`age_priorities`].
    pub fn every(mut self, period: Duration) -> Self {
        self.every = Some(period);
        self
    }

    /// Sets how much priority a job gains in a period. Default: 1.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let every_hour = Duration::from_secs(3_600);
    /// let operation = procrastinate::job_manager::age_priorities("reports").every(every_hour).step(10).up_to(50);
    /// ```
    pub fn step(mut self, priority: u32) -> Self {
        self.step = priority;
        self
    }

    /// Sets the highest priority that a job reaches by waiting.
    ///
    /// # Example
    ///
    /// See [`age_priorities`].
    pub fn up_to(mut self, priority: i32) -> Self {
        self.max_priority = Some(priority);
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let Self { queue, every, step, max_priority } = self;
        check_name("queue name", &queue)?;
        let (Some(every), Some(max_priority)) = (every, max_priority) else {
            return Err(Error::invalid("ageing of priorities", queue, "must have a period and a maximum"));
        };
        if every < Duration::from_secs(1) {
            return Err(Error::invalid("period of ageing", format!("{every:?}"), "must be at least a second"));
        }
        check_age("period of ageing", every)?;
        let checked = i32::try_from(step).ok().filter(|step| *step > 0);
        let step = checked
            .ok_or_else(|| Error::invalid("step of ageing", step.to_string(), "must be between 1 and 2,147,483,647"))?;
        run.load_one(SetAgeingQuery { queue, every_seconds: every.as_secs_f64(), step, max_priority }).await
    }
}

/// Ends the ageing of a queue. Its jobs keep their priorities. The operation returns whether they aged.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::stop_ageing("reports").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn stop_ageing(queue: impl Into<String>) -> StopAgeing {
    StopAgeing { queue: queue.into() }
}

/// The operation of [`stop_ageing`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{StopAgeing, stop_ageing};
///
/// let operation: StopAgeing = stop_ageing("reports");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct StopAgeing {
    queue: String,
}

operation!(StopAgeing -> bool);

impl StopAgeing {
    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        check_name("queue name", &self.queue)?;
        run.load_one(StopAgeingQuery { queue: self.queue }).await
    }
}

/// Lists the queues whose priorities age, sorted by name.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// for ageing in app.perform(procrastinate::job_manager::list_priority_ageings()).await? {
///     println!("{}: up to {}", ageing.queue_name, ageing.max_priority);
/// }
/// # Ok(())
/// # }
/// ```
pub fn list_priority_ageings() -> ListPriorityAgeings {
    ListPriorityAgeings {}
}

/// The operation of [`list_priority_ageings`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ListPriorityAgeings, list_priority_ageings};
///
/// let operation: ListPriorityAgeings = list_priority_ageings();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ListPriorityAgeings {}

operation!(ListPriorityAgeings -> Vec<ProcrastinatePriorityAgeing>);

impl ListPriorityAgeings {
    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<ProcrastinatePriorityAgeing>, Error> {
        run.load(ListPriorityAgeingsQuery).await
    }
}
