//! Which jobs a worker deletes when they finish.

use super::outcome::Outcome;

/// Which jobs a worker deletes when they finish, instead of keeping them with their status.
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
#[doc(alias = "DeleteJobCondition")]
pub enum DeleteJobs {
    /// Deletes no jobs.
    #[default]
    Never,
    /// Deletes jobs that succeeded.
    Successful,
    /// Deletes all jobs that finish, including failed and aborted ones and their stored errors, and those of dead
    /// workers. A job that will be retried has not finished.
    Always,
}

impl DeleteJobs {
    /// Whether to delete a job with this outcome. A job that will be retried has not finished.
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
