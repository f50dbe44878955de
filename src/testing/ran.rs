//! The jobs that a test worker has run.

use std::fmt;
use std::ops::Deref;

use crate::job::Job;
use crate::retry::RetryDecision;

/// The outcome of an attempt.
///
/// # Example
///
/// ```
/// use procrastinate::testing::JobOutcome;
///
/// let outcome = JobOutcome::Failed { error: "no paper".into() };
/// assert_eq!(outcome.to_string(), "failed: no paper");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobOutcome {
    /// The task succeeded.
    Succeeded,
    /// The task failed with this error and will not be retried.
    Failed {
        /// The error with all its sources.
        error: String,
    },
    /// The job was asked to abort, or aborted itself.
    Aborted {
        /// The reason.
        error: String,
    },
    /// The job is pending again.
    Retried {
        /// The error with all its sources, or the reason for which the task requested a retry or a snooze.
        error: String,
        /// When it is retried, and with which changes.
        decision: RetryDecision,
    },
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::Aborted { error } => write!(f, "was aborted: {error}"),
            Self::Retried { error, decision } => write!(f, "will be retried {decision}: {error}"),
        }
    }
}

/// A job that a test worker has run.
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// let ran = app.test_worker()?.run_one().await?.expect("a job waits");
/// println!("{ran}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobRun {
    /// The job as it was when it was fetched. `attempts` does not count this attempt.
    pub job: Job,
    /// The outcome of the attempt.
    pub ending: JobOutcome,
}

impl fmt::Display for JobRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.job, self.ending)
    }
}

/// The attempts that a test worker has made, in their order. It dereferences to a slice.
///
/// # Example
///
/// See [`TestWorker`](super::TestWorker).
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "a failed job does not fail the test unless `expect_success` is called"]
pub struct JobRuns(pub(super) Vec<JobRun>);

impl JobRuns {
    /// Returns the attempts if all of them succeeded.
    ///
    /// # Panics
    ///
    /// Panics if an attempt did not succeed. The message lists all attempts.
    ///
    /// # Example
    ///
    /// See [`TestWorker`](super::TestWorker).
    #[track_caller]
    #[allow(clippy::panic, reason = "it is an assertion")]
    pub fn expect_success(self) -> Self {
        if self.iter().any(|ran| ran.ending != JobOutcome::Succeeded) {
            panic!("not every job succeeded:\n{self}");
        }
        self
    }

    /// Returns the names of the tasks, in the order in which they ran.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::testing::JobRuns;
    /// assert!(JobRuns::default().task_names().is_empty());
    /// ```
    #[must_use]
    pub fn task_names(&self) -> Vec<&str> {
        self.iter().map(|ran| ran.job.task_name.as_str()).collect()
    }
}

impl Deref for JobRuns {
    type Target = [JobRun];

    fn deref(&self) -> &[JobRun] {
        &self.0
    }
}

impl IntoIterator for JobRuns {
    type Item = JobRun;
    type IntoIter = std::vec::IntoIter<JobRun>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for JobRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("  no jobs were run");
        }
        for (position, ran) in self.iter().enumerate() {
            let line_break = if position == 0 { "" } else { "\n" };
            write!(f, "{line_break}  {ran}")?;
        }
        Ok(())
    }
}
