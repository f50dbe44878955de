//! Operations on the schedules of periodic tasks.
//!
//! | file | purpose |
//! |---|---|
//! | `mod` | what identifies a schedule, and the errors |
//! | `define` | creates and changes schedules |
//! | `settings` | the values that a schedule can have, and their rules |
//! | `control` | pauses, resumes, removes and runs schedules |
//! | `list` | lists schedules |

mod control;
mod define;
mod list;
mod settings;

use super::operation;
use crate::database::connection::run::Run;
use crate::database::statements::schedules::{ListSchedulesQuery, ScheduleKey};
use crate::error::Error;
use crate::validation::check_name;

pub use control::{
    PauseSchedule, RemoveSchedule, ResumeSchedule, RunScheduleNow, pause_schedule, remove_schedule, resume_schedule,
    run_schedule_now,
};
pub use define::{ChangeSchedule, CreateSchedule, change_schedule, create_schedule};
pub use list::{ListSchedules, ListedSchedule, list_schedules};

/// The key of a schedule. It is checked when the operation is executed.
fn key(task_name: impl Into<String>, periodic_id: impl Into<String>) -> ScheduleKey {
    ScheduleKey { task_name: task_name.into(), periodic_id: periodic_id.into() }
}

fn check_key(key: &ScheduleKey) -> Result<(), Error> {
    check_name("task name", &key.task_name)?;
    if key.periodic_id.is_empty() { Ok(()) } else { check_name("periodic_id", &key.periodic_id) }
}

/// The error of a schedule that does not exist.
fn not_found(action: &'static str, key: ScheduleKey) -> Error {
    let ScheduleKey { task_name, periodic_id } = key;
    Error::ScheduleNotFound { action, task_name, periodic_id }
}

/// Finds out why a schedule was not changed or removed.
async fn refusal<R: Run>(action: &'static str, key: ScheduleKey, run: &mut R) -> Error {
    match run.load(ListSchedulesQuery { key: Some(key.clone()) }).await {
        Err(error) => error,
        Ok(rows) => match rows.into_iter().next().and_then(|(schedule, _)| schedule.seen_in_code_at) {
            None => not_found(action, key),
            Some(seen_at) => {
                let ScheduleKey { task_name, periodic_id } = key;
                Error::ScheduleInCode { action, task_name, periodic_id, seen_at }
            }
        },
    }
}
