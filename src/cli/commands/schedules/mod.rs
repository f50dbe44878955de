//! `schedules`: lists, creates, changes, pauses, resumes, removes and runs schedules of periodic tasks.
//!
//! | file | purpose |
//! |---|---|
//! | `mod` | the subcommands |
//! | `values` | the values that a schedule can have |
//! | `list` | lists schedules |

mod list;
mod values;

use chrono::Utc;
use clap::Subcommand;
use serde_json::{Value, json};

use self::list::List;
use self::values::Values;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::error::Error;
use crate::queue::defer::JobToDefer;
use crate::queue::job_manager::{
    change_schedule, create_schedule, pause_schedule, remove_schedule, resume_schedule, run_schedule_now,
};
use crate::schedule::TIMESTAMP;

/// List, create, change, pause and run the schedules of periodic tasks
///
/// Workers use each change within a second. Schedules in the code of a program can be paused and run, but not changed
/// or removed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Schedules {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    List(List),
    /// Create a schedule in the database
    #[command(after_help = "Example:\n  schedules create report '0 8 * * mon-fri' --id workdays --queue reports")]
    Create {
        #[command(flatten)]
        key: Key,
        /// The cron expression
        cron: String,
        #[command(flatten)]
        values: Box<Values>,
    },
    /// Change a schedule in the database; what is not given stays
    #[command(after_help = "Example:\n  schedules change report --id workdays --cron '0 9 * * mon-fri'")]
    Change {
        #[command(flatten)]
        key: Key,
        /// The cron expression
        #[arg(long)]
        cron: Option<String>,
        /// Reset queue, priority, lock and queueing lock to those of the task, except the ones that are given
        #[arg(long)]
        reset_options: bool,
        #[command(flatten)]
        values: Box<Values>,
    },
    /// Pause a schedule; ticks during the pause are skipped
    #[command(after_help = "Example:\n  schedules pause report --by Ada --reason 'the mail server is moving'")]
    Pause {
        #[command(flatten)]
        key: Key,
        /// Who pauses it. Default: the user of the operating system
        #[arg(long)]
        by: Option<String>,
        /// Why it is paused
        #[arg(long)]
        reason: Option<String>,
    },
    /// Resume a paused schedule
    Resume {
        #[command(flatten)]
        key: Key,
    },
    /// Remove a schedule from the database
    Remove {
        #[command(flatten)]
        key: Key,
        /// Skip the confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Let a running worker defer a job of a schedule now
    Run {
        #[command(flatten)]
        key: Key,
    },
}

/// What identifies a schedule.
#[derive(Debug, Clone, clap::Args)]
struct Key {
    /// The task name
    task: String,

    /// The periodic_id, if the task has several schedules
    #[arg(long = "id", value_name = "ID", default_value = "", hide_default_value = true)]
    periodic_id: String,
}

impl Key {
    fn shown(&self) -> String {
        let Self { task, periodic_id } = self;
        if periodic_id.is_empty() { format!("of {task}") } else { format!("\"{periodic_id}\" of {task}") }
    }
}

/// Refuses arguments that do not fit the task, if the program has it: workers would defer nothing.
fn check_arguments(session: &Session<'_>, key: &Key, args: &Value) -> Result<(), Failure> {
    match configure_tick(session, &key.task, args) {
        Ok(_) | Err(Error::UnknownTask { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the job of a tick, which is an argument of its own.
fn configure_tick(session: &Session<'_>, task: &str, args: &Value) -> Result<JobToDefer, Error> {
    let mut args = args.clone();
    if let Some(args) = args.as_object_mut() {
        args.insert(TIMESTAMP.to_owned(), Utc::now().timestamp().into());
    }
    session.app.configure_task(task, args)
}

impl Schedules {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let app = session.app.clone();
        let done = match self.action {
            Action::List(list) => return list.run(session).await,
            Action::Create { key, cron, values } => {
                check_arguments(session, &key, values.args().unwrap_or(&json!({})))?;
                let create = create_schedule(&key.task, cron).periodic_id(&key.periodic_id);
                app.perform(values.apply_to_create(create)).await?;
                if session.has_tasks && !app.tasks_with(|_| true).contains(&key.task) {
                    session
                        .output
                        .note(format!("this program has no task {}, so its workers do not defer it", key.task));
                }
                format!("created the schedule {}", key.shown())
            }
            Action::Change { key, cron, reset_options, values } => {
                if let Some(args) = values.args() {
                    check_arguments(session, &key, args)?;
                }
                let mut change = values.apply_to_change(change_schedule(&key.task, &key.periodic_id));
                if let Some(cron) = cron {
                    change = change.cron(cron);
                }
                app.perform(if reset_options { change.reset_options() } else { change }).await?;
                format!("changed the schedule {}", key.shown())
            }
            Action::Pause { key, by, reason } => {
                let mut pause = pause_schedule(&key.task, &key.periodic_id);
                if let Some(by) = by.or_else(|| std::env::var("USER").ok().filter(|user| !user.is_empty())) {
                    pause = pause.by(by);
                }
                if let Some(reason) = reason {
                    pause = pause.reason(reason);
                }
                let is_new = app.perform(pause).await?;
                format!("the schedule {} is {}paused", key.shown(), if is_new { "" } else { "already " })
            }
            Action::Resume { key } => {
                let is_resumed = app.perform(resume_schedule(&key.task, &key.periodic_id)).await?;
                format!("the schedule {} {}", key.shown(), if is_resumed { "is resumed" } else { "is not paused" })
            }
            Action::Remove { key, yes } => {
                if !session.confirm(yes, &format!("Remove the schedule {}?", key.shown()))? {
                    return Ok(());
                }
                app.perform(remove_schedule(&key.task, &key.periodic_id)).await?;
                format!("removed the schedule {}", key.shown())
            }
            Action::Run { key } => {
                app.perform(run_schedule_now(&key.task, &key.periodic_id)).await?;
                format!("a worker with the task will defer a job of the schedule {} now", key.shown())
            }
        };
        session.output.line(done)
    }
}
