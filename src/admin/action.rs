//! What an operator can do.

/// Something that an operator can do on the [admin pages](crate::admin). [`Access`](crate::admin::Access) says which of
/// them a visitor may do.
///
/// # Example
///
/// ```
/// use procrastinate::admin::Action;
///
/// assert_eq!(Action::RunNow.as_str(), "run_now");
/// assert!(Action::ALL.contains(&Action::Pause));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Retries failed jobs.
    Retry,
    /// Cancels pending jobs.
    Cancel,
    /// Requests the abort of running jobs.
    Abort,
    /// Lets scheduled jobs start now.
    RunNow,
    /// Sets the earliest start of pending jobs.
    Reschedule,
    /// Sets the priority of pending jobs.
    ChangePriority,
    /// Moves pending jobs to another queue.
    ChangeQueue,
    /// Deletes jobs that are not running.
    Delete,
    /// Pauses queues and tasks.
    Pause,
    /// Resumes queues and tasks.
    Resume,
    /// Defers jobs.
    Defer,
    /// Creates schedules.
    CreateSchedule,
    /// Changes schedules of the database.
    ChangeSchedule,
    /// Removes schedules.
    RemoveSchedule,
    /// Pauses schedules.
    PauseSchedule,
    /// Resumes schedules.
    ResumeSchedule,
    /// Lets workers defer a job of a schedule now.
    RunSchedule,
    /// Sets the limits of queues and tasks.
    SetLimit,
    /// Removes the limits of queues and tasks.
    RemoveLimit,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 19] = [
        Self::Retry,
        Self::Cancel,
        Self::Abort,
        Self::RunNow,
        Self::Reschedule,
        Self::ChangePriority,
        Self::ChangeQueue,
        Self::Delete,
        Self::Pause,
        Self::Resume,
        Self::Defer,
        Self::CreateSchedule,
        Self::ChangeSchedule,
        Self::RemoveSchedule,
        Self::PauseSchedule,
        Self::ResumeSchedule,
        Self::RunSchedule,
        Self::SetLimit,
        Self::RemoveLimit,
    ];

    /// What it does, as in *you cannot …*, and on a button.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::RunNow => "run now",
            Self::Reschedule => "reschedule",
            Self::ChangePriority => "change the priority",
            Self::ChangeQueue => "change the queue",
            Self::Delete => "delete",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Defer => "defer jobs",
            Self::CreateSchedule => "create a schedule",
            Self::ChangeSchedule => "edit",
            Self::RemoveSchedule => "remove",
            Self::PauseSchedule => "pause",
            Self::ResumeSchedule => "resume",
            Self::RunSchedule => "run now",
            Self::SetLimit => "limit",
            Self::RemoveLimit => "remove the limit",
        }
    }

    /// Whether the action makes sense for a job with this status.
    pub(crate) fn suits(self, status: &str) -> bool {
        match self {
            Self::Retry => matches!(status, "failed" | "doing"),
            Self::Cancel | Self::RunNow | Self::Reschedule | Self::ChangePriority | Self::ChangeQueue => {
                status == "todo"
            }
            Self::Abort => status == "doing",
            Self::Delete => status != "doing",
            _ => false,
        }
    }

    /// Whether it changes jobs that are there, so that its record says how many.
    fn is_of_jobs(self) -> bool {
        matches!(
            self,
            Self::Retry
                | Self::Cancel
                | Self::Abort
                | Self::RunNow
                | Self::Reschedule
                | Self::ChangePriority
                | Self::ChangeQueue
                | Self::Delete
        )
    }

    /// The name under which the action is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::RunNow => "run_now",
            Self::Reschedule => "reschedule",
            Self::ChangePriority => "priority",
            Self::ChangeQueue => "queue",
            Self::Delete => "delete",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Defer => "defer",
            Self::CreateSchedule => "create_schedule",
            Self::ChangeSchedule => "change_schedule",
            Self::RemoveSchedule => "remove_schedule",
            Self::PauseSchedule => "pause_schedule",
            Self::ResumeSchedule => "resume_schedule",
            Self::RunSchedule => "run_schedule",
            Self::SetLimit => "limit",
            Self::RemoveLimit => "remove_limit",
        }
    }
}

/// Whether the record of an action with this name counts the jobs that it has changed.
pub(crate) fn counts_jobs(name: &str) -> bool {
    Action::ALL.into_iter().find(|action| action.as_str() == name).is_none_or(Action::is_of_jobs)
}
