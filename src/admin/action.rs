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
    /// Deletes jobs that are not running.
    Delete,
    /// Pauses queues and tasks.
    Pause,
    /// Resumes queues and tasks.
    Resume,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 7] =
        [Self::Retry, Self::Cancel, Self::Abort, Self::RunNow, Self::Delete, Self::Pause, Self::Resume];

    /// The name under which the action is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::RunNow => "run_now",
            Self::Delete => "delete",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}
