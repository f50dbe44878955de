//! Operations that count jobs.

use std::fmt;

use super::find::check_filters;
use super::{filters, operation};
use crate::error::Error;
use crate::job::JobStatus;
use crate::queries::Run;
use crate::queries::inspect::{CountJobs, CountedColumn, CountedJobs, JobFilter};

/// How many jobs a queue, a task or a lock has, in all and by status.
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::JobCounts;
///
/// fn waiting(queues: &[JobCounts]) -> i64 {
///     queues.iter().map(|queue| queue.todo).sum()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobCounts {
    /// The queue, task or lock.
    pub name: String,
    /// How many jobs it has in all.
    pub jobs_count: i64,
    /// How many of them wait.
    pub todo: i64,
    /// How many of them a worker has taken.
    pub doing: i64,
    /// How many of them have succeeded.
    pub succeeded: i64,
    /// How many of them have failed.
    pub failed: i64,
    /// How many of them were cancelled.
    pub cancelled: i64,
    /// How many of them were aborted.
    pub aborted: i64,
}

impl JobCounts {
    fn from_row((name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted): CountedJobs) -> Self {
        Self { name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted }
    }
}

/// `mails: 3 jobs (todo: 2, doing: 0, succeeded: 1, failed: 0, cancelled: 0, aborted: 0)`: how Procrastinate writes it.
impl fmt::Display for JobCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted } = self;
        write!(
            f,
            "{name}: {jobs_count} jobs (todo: {todo}, doing: {doing}, succeeded: {succeeded}, failed: {failed}, \
             cancelled: {cancelled}, aborted: {aborted})"
        )
    }
}

/// The one body behind the three.
async fn count<R: Run>(
    column: CountedColumn,
    filter: JobFilter,
    action: &'static str,
    run: &mut R,
) -> Result<Vec<JobCounts>, Error> {
    check_filters(&filter)?;
    let rows = run.load(CountJobs { column, filter }).await.map_err(|source| Error::database(action, source))?;
    Ok(rows.into_iter().map(JobCounts::from_row).collect())
}

/// Declares one of the three: the function, the operation, its filters and its body.
macro_rules! counting {
    ($(#[$attribute:meta])* $function:ident -> $operation:ident by $column:ident) => {
        $(#[$attribute])*
        ///
        /// # Errors
        ///
        /// Those of [every operation](crate::job_manager).
        ///
        /// # Example
        ///
        /// ```no_run
        #[doc = concat!("use procrastinate::job_manager::", stringify!($function), ";")]
        ///
        /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
        #[doc = concat!("for counts in app.execute(", stringify!($function), "()).await? {")]
        ///     println!("{counts}");
        /// }
        /// # Ok(())
        /// # }
        /// ```
        pub fn $function() -> $operation {
            $operation { filter: JobFilter::default() }
        }

        #[doc = concat!("Made by [`", stringify!($function), "`].")]
        ///
        /// # Example
        ///
        /// ```
        #[doc = concat!("use procrastinate::job_manager::{", stringify!($operation), ", ", stringify!($function), "};")]
        ///
        #[doc = concat!("let operation: ", stringify!($operation), " = ", stringify!($function), "().queue(\"mails\");")]
        /// ```
        #[derive(Debug, Clone)]
        #[must_use = "an operation does nothing until it is executed on a connection"]
        pub struct $operation {
            filter: JobFilter,
        }

        operation!($operation -> Vec<JobCounts>);

        filters!($operation:
            /// Counts only jobs of this queue.
            queue(String),
            /// Counts only jobs of the task of this name.
            task(String),
            /// Counts only jobs that stand so.
            status(JobStatus),
            /// Counts only jobs with this lock.
            lock(String),
        );

        impl $operation {
            async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<JobCounts>, Error> {
                count(CountedColumn::$column, self.filter, concat!("count the jobs by ", stringify!($column)), run).await
            }
        }
    };
}

counting!(
    /// The queues that have jobs, by name, and how many each of them has.
    ///
    /// It reads the whole table of jobs unless a filter is set; on millions of jobs that takes a while.
    list_queues -> ListQueues by Queue
);

counting!(
    /// The tasks that have jobs, by name, and how many each of them has.
    ///
    /// It reads the whole table of jobs unless a filter is set; on millions of jobs that takes a while.
    list_tasks -> ListTasks by Task
);

counting!(
    /// The locks that jobs have, by name, and how many each of them has. Jobs without a lock are not counted.
    ///
    /// It reads the whole table of jobs unless a filter is set; on millions of jobs that takes a while.
    list_locks -> ListLocks by Lock
);
