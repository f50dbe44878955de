//! The commands about jobs and schedules, for the command line and the queue's shell.

pub(crate) mod act;
pub(crate) mod filter;
pub(crate) mod list;
pub(crate) mod one_job;
mod options;
pub(crate) mod show;
pub(crate) mod why;

use clap::Subcommand;

use crate::cli::commands::ageing::{AgePriorities, ListPriorityAgeings};
use crate::cli::commands::clean::Clean;
use crate::cli::commands::controls::ListFlowControls;
use crate::cli::commands::counts::Counts;
use crate::cli::commands::flow::{Limit, Pause, Resume};
use crate::cli::commands::jobs::act::{Abort, Cancel, Delete, Reschedule, RetryArgs};
use crate::cli::commands::jobs::list::ListJobsArgs;
use crate::cli::commands::jobs::show::Show;
use crate::cli::commands::jobs::why::Why;
use crate::cli::commands::schedules::Schedules;
use crate::cli::commands::watch::Watch;
use crate::cli::commands::workers::ListWorkers;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::database::statements::inspect::CountedColumn;

/// A command about jobs or schedules.
#[derive(Debug, Clone, Subcommand)]
#[command(rename_all = "snake_case")]
pub(crate) enum JobCommand {
    #[command(alias = "list-jobs")]
    ListJobs(ListJobsArgs),
    /// List the queues with their number of jobs by status
    #[command(alias = "list-queues")]
    ListQueues(Counts),
    /// List the tasks with their number of jobs by status
    #[command(alias = "list-tasks")]
    ListTasks(Counts),
    /// List the locks with their number of jobs by status
    #[command(alias = "list-locks")]
    ListLocks(Counts),
    #[command(alias = "list-workers")]
    ListWorkers(ListWorkers),
    Show(Show),
    Why(Why),
    Watch(Watch),
    Retry(RetryArgs),
    Cancel(Cancel),
    Abort(Abort),
    Reschedule(Reschedule),
    Delete(Delete),
    Clean(Clean),
    Pause(Pause),
    Resume(Resume),
    Limit(Limit),
    #[command(alias = "list-flow-controls")]
    ListFlowControls(ListFlowControls),
    #[command(alias = "age-priorities")]
    AgePriorities(AgePriorities),
    #[command(alias = "list-priority-ageings")]
    ListPriorityAgeings(ListPriorityAgeings),
    Schedules(Schedules),
}

impl JobCommand {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::ListJobs(command) => command.run(session).await,
            Self::ListQueues(command) => command.run(CountedColumn::Queue, session).await,
            Self::ListTasks(command) => command.run(CountedColumn::Task, session).await,
            Self::ListLocks(command) => command.run(CountedColumn::Lock, session).await,
            Self::ListWorkers(command) => command.run(session).await,
            Self::Show(command) => command.run(session).await,
            Self::Why(command) => command.run(session).await,
            Self::Watch(command) => command.run(session).await,
            Self::Retry(command) => command.run(session).await,
            Self::Cancel(command) => command.run(session).await,
            Self::Abort(command) => command.run(session).await,
            Self::Reschedule(command) => command.run(session).await,
            Self::Delete(command) => command.run(session).await,
            Self::Clean(command) => command.run(session).await,
            Self::Pause(command) => command.run(session).await,
            Self::Resume(command) => command.run(session).await,
            Self::Limit(command) => command.run(session).await,
            Self::ListFlowControls(command) => command.run(session).await,
            Self::AgePriorities(command) => command.run(session).await,
            Self::ListPriorityAgeings(command) => command.run(session).await,
            Self::Schedules(command) => command.run(session).await,
        }
    }
}
