//! Which jobs a worker deletes when they finish.

use super::outcome::Outcome;

/// Which jobs a worker deletes at their end, instead of keeping them with their status.
///
/// # Example
///
/// ```no_run
/// use procrastinate::DeleteJobs;
///
/// # fn example(app: &procrastinate::App) {
/// let worker = app.worker().delete_jobs(DeleteJobs::Successful);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeleteJobs {
    /// None.
    #[default]
    Never,
    /// Those that succeeded.
    Successful,
    /// All: also those that failed or were aborted, and with them the errors that were kept. One that is to be tried again
    /// has not come to its end.
    Always,
}

impl DeleteJobs {
    /// Whether a job with this outcome is deleted. One that will be retried has not finished.
    pub(super) fn deletes(self, outcome: &Outcome) -> bool {
        match self {
            Self::Never => false,
            Self::Successful => *outcome == Outcome::Succeeded,
            Self::Always => {
                matches!(outcome, Outcome::Succeeded | Outcome::Failed { .. } | Outcome::Aborted { .. })
            }
        }
    }
}
