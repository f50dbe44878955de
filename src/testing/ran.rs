//! What a test worker has run.

use std::fmt;
use std::ops::Deref;

use crate::job::Job;
use crate::retry::RetryDecision;

/// How an attempt at a job ended: a closed list.
///
/// # Example
///
/// ```
/// use procrastinate::testing::JobOutcome;
///
/// let ending = JobOutcome::Failed { error: "no paper".into() };
/// assert_eq!(ending.to_string(), "failed: no paper");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// Its task ended well.
    Succeeded,
    /// Its task ended with this error, and is not tried again.
    Failed {
        /// The error with all its sources.
        error: String,
    },
    /// It called itself off, or its task was told to stop.
    Aborted {
        /// Why.
        error: String,
    },
    /// It waits for another attempt.
    Retried {
        /// The error with all its sources, or what the task said when it asked to be run again.
        error: String,
        /// When, and with what.
        decision: RetryDecision,
    },
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::Aborted { error } => write!(f, "was aborted: {error}"),
            Self::Retried { error, decision } => write!(f, "is to be tried again {decision}: {error}"),
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
    /// The job as it was when it was taken: `attempts` does not count this attempt.
    pub job: Job,
    /// How the attempt ended.
    pub ending: JobOutcome,
}

impl fmt::Display for JobRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.job, self.ending)
    }
}

/// The attempts that a test worker has made, in their order. It derefs to a slice.
///
/// # Example
///
/// See [`TestWorker`](super::TestWorker).
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "a job that failed does not fail the test by itself: see `expect_success`"]
pub struct JobRuns(pub(super) Vec<JobRun>);

impl JobRuns {
    /// These, if each of them succeeded.
    ///
    /// # Panics
    ///
    /// Fails the test if one did not, with a list of all of them.
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

    /// The names of the tasks, in the order in which they ran.
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
            return f.write_str("  no job was run");
        }
        for (position, ran) in self.iter().enumerate() {
            let line_break = if position == 0 { "" } else { "\n" };
            write!(f, "{line_break}  {ran}")?;
        }
        Ok(())
    }
}
