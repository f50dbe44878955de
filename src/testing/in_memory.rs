//! An in-memory queue for tests.

use std::fmt;

use super::expected::{NotDeferred, find_in};
use crate::database::connection::Connector;
use crate::database::in_memory::Memory;
use crate::database::models::{
    ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinateJobOptions, ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
};
use crate::job::{JobEventType, JobId, JobStatus};
use crate::queue::defer::JobToDefer;

pub use crate::database::in_memory::ExecutedQuery;

/// A connector for tests that keeps the queue's tables in memory, where tests can read them.
///
/// Give it to an [`App`](crate::App) in place of a [`DieselConnector`](crate::DieselConnector). Everything that goes
/// through the application works: deferring jobs, real [workers](crate::Worker), [`TestWorker`](super::TestWorker), the
/// operations of the [job manager](crate::job_manager), and notifications. Locks, queueing locks, priorities,
/// schedules, periodic tasks, retries, aborts and events work as in PostgreSQL. One test suite of this crate runs
/// against both.
///
/// Clones share the tables. Each call of [`new`](Self::new) creates separate tables, so tests do not affect each other.
///
/// # Differences from PostgreSQL
///
/// - There is no Diesel connection and no transaction. Code that defers on a connection, such as [`sum(3,
///   5).defer(connection)`](crate::JobToDefer::defer), needs a database. See [`test_pool`](super::test_pool).
/// - Each statement is a separate transaction, and statements run one after the other.
/// - Its clock is the time that [`testing::at`](super::at) or a [`TestWorker`](super::TestWorker) sets. A real worker
///   uses its own tasks and threads, so it sees the real time.
/// - Names are sorted by their bytes, whatever the collation of the database is.
/// - It keeps all [queries](Self::queries), so it grows until it is [reset](Self::reset).
///
/// # Example
///
/// ```
/// use procrastinate::testing::InMemoryConnector;
/// use procrastinate::{App, JobEventType, JobStatus, task};
///
/// #[task(queue = "sums")]
/// async fn sum(a: i64, b: i64) {
///     println!("{}", a + b);
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = InMemoryConnector::new();
/// let app = App::builder(memory.clone()).task::<sum>().build()?;
///
/// let id = app.defer(sum(3, 5)).await?;
/// assert_eq!(memory.find_deferred(sum(3, 5))?.id, i64::from(id));
///
/// app.worker().stop_when_empty().run().await?;
/// assert_eq!(memory.jobs()[0].status, JobStatus::Succeeded);
/// assert_eq!(memory.event_types(id), [JobEventType::Deferred, JobEventType::Started, JobEventType::Succeeded]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct InMemoryConnector {
    memory: Memory,
}

impl InMemoryConnector {
    /// Creates empty tables. The first job has the ID 1.
    ///
    /// # Example
    ///
    /// See [`InMemoryConnector`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the tables and the list of queries. The next job has the ID 1 again. A worker that is running
    /// re-registers.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{App, Error, configure_task, testing::InMemoryConnector};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).build()?;
    /// app.defer(configure_task("bill", serde_json::json!({ "order": 7 }))).await?;
    /// memory.reset();
    /// assert!(memory.jobs().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset(&self) {
        self.memory.lock().reset();
    }

    /// Returns all jobs by ID, including finished ones.
    ///
    /// # Example
    ///
    /// See [`InMemoryConnector`].
    #[must_use]
    pub fn jobs(&self) -> Vec<ProcrastinateJob> {
        self.memory.lock().jobs().cloned().collect()
    }

    /// Returns the pending jobs by ID. For a database, see [`deferred_jobs`](super::deferred_jobs).
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{App, Error, configure_task, testing::InMemoryConnector};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).build()?;
    /// app.defer(configure_task("bill", serde_json::json!({ "order": 7 }))).await?;
    /// assert_eq!(memory.deferred_jobs()[0].task_name, "bill");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn deferred_jobs(&self) -> Vec<ProcrastinateJob> {
        self.memory.lock().jobs().filter(|job| job.status == JobStatus::Todo).cloned().collect()
    }

    /// Returns the pending job that is like this one, by the rules of [`assert_deferred!`](crate::assert_deferred). If
    /// there are several, returns the newest.
    ///
    /// # Errors
    ///
    /// [`NotDeferred`] if there is no such job. It lists the pending jobs.
    ///
    /// # Example
    ///
    /// See [`InMemoryConnector`].
    pub fn find_deferred(&self, expected: JobToDefer) -> Result<ProcrastinateJob, NotDeferred> {
        let waiting: Vec<_> = self.deferred_jobs().into_iter().rev().collect();
        find_in(&waiting, &expected).cloned()
    }

    /// Returns all events, in the order in which they were written.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{App, Error, JobEventType, configure_task, testing::InMemoryConnector};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).build()?;
    /// app.defer(configure_task("bill", serde_json::json!({ "order": 7 }))).await?;
    /// assert_eq!(memory.events()[0].event_type, Some(JobEventType::Deferred));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Vec<ProcrastinateEvent> {
        self.memory.lock().events()
    }

    /// Returns the types of a job's events, oldest first.
    ///
    /// # Example
    ///
    /// See [`InMemoryConnector`].
    #[must_use]
    pub fn event_types(&self, id: JobId) -> Vec<JobEventType> {
        self.memory.lock().events_of(id.into()).iter().filter_map(|event| event.event_type.clone()).collect()
    }

    /// Returns the errors of failed attempts, by job and attempt.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{App, task, testing::InMemoryConnector};
    ///
    /// #[task]
    /// async fn divide(by: i64) -> Result<(), String> {
    ///     if by == 0 { Err("division by zero".into()) } else { Ok(()) }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procrastinate::Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).task::<divide>().build()?;
    /// app.defer(divide(0)).await?;
    /// app.worker().stop_when_empty().run().await?;
    /// assert_eq!(memory.job_errors()[0].error, "division by zero");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn job_errors(&self) -> Vec<ProcrastinateJobError> {
        self.memory.lock().errors().cloned().collect()
    }

    /// Returns the options that few jobs have, by the ID of the job.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::testing::InMemoryConnector;
    /// use procrastinate::{App, configure_task};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procrastinate::Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).build()?;
    /// app.defer(configure_task("bill", serde_json::json!({})).limit_key("tenant-7")).await?;
    /// assert_eq!(memory.job_options()[0].limit_key.as_deref(), Some("tenant-7"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn job_options(&self) -> Vec<ProcrastinateJobOptions> {
        self.memory.lock().options().cloned().collect()
    }

    /// Returns the registered workers by ID. A worker that has stopped is not registered.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{App, Error, job_manager, testing::InMemoryConnector};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).build()?;
    /// let worker_id = app.perform(job_manager::register_worker()).await?;
    /// assert_eq!(memory.workers()[0].id, worker_id);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn workers(&self) -> Vec<ProcrastinateWorker> {
        self.memory.lock().workers().cloned().collect()
    }

    /// Returns the deferred ticks of periodic tasks: the last one of each schedule.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{App, periodic, task, testing::InMemoryConnector};
    ///
    /// #[periodic(cron = "0 3 * * *")]
    /// #[task]
    /// async fn clean_up(timestamp: i64) {
    ///     println!("it is {timestamp}");
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).task::<clean_up>().build()?;
    /// let mut worker = app.test_worker()?.at("2030-01-01T02:59:00Z".parse()?);
    /// worker.advance(std::time::Duration::from_secs(60));
    /// worker.run_until_empty().await?.expect_success();
    /// assert_eq!(memory.periodic_defers()[0].task_name, "clean_up");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn periodic_defers(&self) -> Vec<ProcrastinatePeriodicDefer> {
        self.memory.lock().periodic_defers().cloned().collect()
    }

    /// Returns all statements in the order in which they ran, including failed ones.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{App, Error, configure_task, testing::InMemoryConnector};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let memory = InMemoryConnector::new();
    /// let app = App::builder(memory.clone()).build()?;
    /// let jobs = (0..100).map(|order| configure_task("bill", serde_json::json!({ "order": order })));
    /// app.batch_defer(jobs).await?;
    /// // One statement for a hundred jobs.
    /// assert_eq!(memory.queries().len(), 1);
    /// assert_eq!(memory.queries()[0].name, "InsertJobs");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn queries(&self) -> Vec<ExecutedQuery> {
        self.memory.lock().queries().to_vec()
    }
}

impl From<InMemoryConnector> for Connector {
    fn from(connector: InMemoryConnector) -> Self {
        Self::from(connector.memory)
    }
}

impl fmt::Debug for InMemoryConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryConnector").finish_non_exhaustive()
    }
}
