//! When a schedule ticks, and which ticks it leaves out. There is no database and no clock: every time is a parameter.
//!
//! | file | purpose |
//! |---|---|
//! | `mod` | what to do with missed ticks, and with ticks while the last job runs |
//! | `recurrence` | when a schedule ticks: by a cron expression, or at an interval |
//! | `cron` | cron expressions |

pub(crate) mod cron;
pub(crate) mod recurrence;

use serde_json::Value;

use crate::error::Error;
use crate::validation::invalid_args;

/// The argument that contains the tick of a job, in Unix seconds.
pub(crate) const TIMESTAMP: &str = "timestamp";

/// Checks that the arguments of a schedule leave room for the tick.
pub(crate) fn check_has_no_tick(task_name: &str, args: &Value) -> Result<(), Error> {
    match args.get(TIMESTAMP) {
        None => Ok(()),
        Some(_) => {
            let rule = format!("must not contain \"{TIMESTAMP}\", which is the tick of the periodic task");
            Err(invalid_args(task_name, &rule))
        }
    }
}

/// What to do with ticks missed while no worker was running, or while the machine was suspended.
///
/// Default: [`Procrastinate`](Self::Procrastinate). A tick is deferred only once, and not after a later tick of the
/// same schedule. A worker defers at most the last thousand missed ticks of a schedule.
///
/// If the database is away when a tick is due, the worker retries until the tick is `max_delay` old. This does not
/// count as missed.
///
/// # Example
///
/// ```
/// use procrastinate::{MissedTicks, PeriodicTask, task};
///
/// #[task]
/// async fn wake_up() {}
///
/// let punctual = PeriodicTask::new::<wake_up>("0 7 * * *").missed(MissedTicks::Skip);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedTicks {
    /// Uses Procrastinate's rule. A worker that starts defers the latest missed tick if it is no older than
    /// `max_delay`. A worker that was suspended defers all ticks it missed, however old.
    #[default]
    Procrastinate,
    /// Skips ticks that are more than a minute late.
    Skip,
    /// Defers the latest missed tick if it is no older than `max_delay`.
    Last,
    /// Defers all missed ticks that are no older than `max_delay`, oldest first. This includes the very first start.
    All,
}

impl MissedTicks {
    /// The name in the table of schedules.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Procrastinate => "procrastinate",
            Self::Skip => "skip",
            Self::Last => "last",
            Self::All => "all",
        }
    }

    /// Reads a name from the table of schedules. `None` if a later version of this crate has written it.
    pub(crate) fn read(name: &str) -> Option<Self> {
        [Self::Procrastinate, Self::Skip, Self::Last, Self::All].into_iter().find(|missed| missed.as_str() == name)
    }
}

/// What to do with a tick of a schedule while its last job is pending or running.
///
/// Default: [`Allow`](Self::Allow).
///
/// # Example
///
/// ```
/// use procrastinate::Overlap;
/// use procrastinate::job_manager::create_schedule;
///
/// let import = create_schedule("import", "*/5 * * * *").overlap(Overlap::Skip);
/// ```
///
/// In code it is [`PeriodicTask::overlap`](crate::PeriodicTask::overlap), or `#[periodic(overlap = Overlap::Skip)]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// Defers a job for each tick.
    #[default]
    Allow,
    /// Skips the tick.
    Skip,
}

impl Overlap {
    /// The name in the table of schedules.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_from_its_name() {
        for missed in [MissedTicks::Procrastinate, MissedTicks::Skip, MissedTicks::Last, MissedTicks::All] {
            assert_eq!(MissedTicks::read(missed.as_str()), Some(missed));
        }
        assert_eq!(MissedTicks::read("sometimes"), None);
    }
}
