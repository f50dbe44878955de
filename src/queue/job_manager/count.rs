//! Operations that count jobs.

use std::collections::BTreeMap;
use std::fmt;

use super::list::check_filters;
use super::{filters, operation};
use crate::database::connection::run::Run;
use crate::database::statements::inspect::{CountJobs, CountedColumn, CountedJobs, JOBS_IN_STEP, JobFilter};
use crate::error::Error;
use crate::job::JobStatus;

/// The number of jobs of a queue, task or lock, in total and by status.
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::JobCounts;
///
/// fn pending(queues: &[JobCounts]) -> i64 {
///     queues.iter().map(|queue| queue.todo).sum()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobCounts {
    /// The queue, task or lock.
    pub name: String,
    /// The number of all its jobs.
    pub jobs_count: i64,
    /// The number of pending jobs.
    pub todo: i64,
    /// The number of running jobs.
    pub doing: i64,
    /// The number of succeeded jobs.
    pub succeeded: i64,
    /// The number of failed jobs.
    pub failed: i64,
    /// The number of cancelled jobs.
    pub cancelled: i64,
    /// The number of aborted jobs.
    pub aborted: i64,
}

impl JobCounts {
    fn none_of(name: String) -> Self {
        Self { name, jobs_count: 0, todo: 0, doing: 0, succeeded: 0, failed: 0, cancelled: 0, aborted: 0 }
    }

    fn add(&mut self, counted: &CountedJobs) {
        self.jobs_count += counted.jobs_count;
        self.todo += counted.todo;
        self.doing += counted.doing;
        self.succeeded += counted.succeeded;
        self.failed += counted.failed;
        self.cancelled += counted.cancelled;
        self.aborted += counted.aborted;
    }
}

/// Writes the counts like Procrastinate, as in `mails: 3 jobs (todo: 2, doing: 0, succeeded: 1, failed: 0, cancelled:
/// 0, aborted: 0)`.
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

/// The common implementation of the three operations.
///
/// It counts in steps, so that no statement takes long. One statement is enough if an index finds the jobs.
pub(crate) async fn count_jobs<R: Run>(
    column: CountedColumn,
    filter: JobFilter,
    run: &mut R,
) -> Result<Vec<JobCounts>, Error> {
    let mut after = if is_found_by_index(&filter) { None } else { Some(i64::MIN) };
    let mut counts: BTreeMap<String, JobCounts> = BTreeMap::new();
    loop {
        let mut looked_at = 0;
        let mut last = after;
        for counted in run.load(CountJobs { column, filter: filter.clone(), after }).await? {
            looked_at += counted.looked_at;
            last = last.max(Some(counted.last_id));
            let Some(name) = counted.name.as_ref().filter(|_| counted.jobs_count > 0) else { continue };
            counts.entry(name.clone()).or_insert_with(|| JobCounts::none_of(name.clone())).add(&counted);
        }
        if after.is_none() || looked_at < JOBS_IN_STEP {
            return Ok(counts.into_values().collect());
        }
        after = last;
    }
}

/// Whether an index covers only the jobs with this status. Such an index is small.
fn is_found_by_index(filter: &JobFilter) -> bool {
    use JobStatus::{Aborted, Cancelled, Doing, Failed, Todo};
    matches!(filter.status, Some(Todo | Doing | Failed | Cancelled | Aborted))
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
        #[doc = concat!("for counts in app.perform(", stringify!($function), "()).await? {")]
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
            /// Counts only jobs of the task with this name.
            task(String),
            /// Counts only jobs with this status.
            status(JobStatus),
            /// Counts only jobs with this lock.
            lock(String),
        );

        impl $operation {
            async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<JobCounts>, Error> {
                check_filters(&self.filter)?;
                count_jobs(CountedColumn::$column, self.filter, run).await
            }
        }
    };
}

counting!(
    /// Counts the jobs of each queue, sorted by name.
    ///
    /// With a status other than `succeeded`, an index finds the jobs. Otherwise the operation reads all jobs in
    /// statements of 50,000 each. Several statements can see different states of the table, unless they run in a
    /// repeatable read transaction.
    list_queues -> ListQueues by Queue
);

counting!(
    /// Counts the jobs of each task, sorted by name.
    ///
    /// With a status other than `succeeded`, an index finds the jobs. Otherwise the operation reads all jobs in
    /// statements of 50,000 each. Several statements can see different states of the table, unless they run in a
    /// repeatable read transaction.
    list_tasks -> ListTasks by Task
);

counting!(
    /// Counts the jobs of each lock, sorted by name. Jobs without a lock are not counted.
    ///
    /// With a status other than `succeeded`, an index finds the jobs. Otherwise the operation reads all jobs in
    /// statements of 50,000 each. Several statements can see different states of the table, unless they run in a
    /// repeatable read transaction.
    list_locks -> ListLocks by Lock
);
