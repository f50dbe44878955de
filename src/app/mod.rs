//! Applications: a connector and the tasks that its workers know.

mod blueprint;
mod builder;
pub mod builtin_tasks;
pub(crate) mod discovery;
pub(crate) mod registry;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::app::registry::{RegisteredTask, TaskRegistry};
use crate::database::connection::Connector;
use crate::error::Error;
use crate::job::JobId;
use crate::periodic::{Schedule, ScheduledTasks};
use crate::queue::defer::JobToDefer;
use crate::queue::defer::if_enqueued::Deferred;
use crate::queue::defer::options::OptionsOf;
use crate::queue::job_manager::Operation;
use crate::queue::job_manager::manager::JobManager;
use crate::queue::listener::Notifications;
use crate::support::extensions::Extensions;

pub use blueprint::Blueprint;
pub use builder::AppBuilder;

/// An application: the connection pool and the tasks.
///
/// [`App::worker`](crate::App::worker) creates workers, and [`App::defer`] defers jobs where you have no connection. To
/// defer inside a transaction you do not need an `App`; see [`JobToDefer::defer`](crate::JobToDefer::defer). It is
/// cheap to clone.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, DieselConnector, task};
///
/// #[task(queue = "sums")]
/// async fn sum(a: i64, b: i64) {
///     println!("{}", a + b);
/// }
///
/// # async fn example(connector: DieselConnector) -> Result<(), procrastinate::Error> {
/// let app = App::builder(connector).task::<sum>().build()?;
/// app.defer(sum(3, 5)).await?;
/// app.worker().queues(["sums"]).stop_when_empty().run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct App {
    job_manager: JobManager,
    shared: Arc<AppParts>,
}

#[derive(Debug)]
struct AppParts {
    tasks: TaskRegistry,
    state: Extensions,
    worker_defaults: Extensions,
    schedules: Vec<Arc<Schedule>>,
    /// The default of `max_delay` for schedules in the database.
    periodic_max_delay: Duration,
}

impl ScheduledTasks for AppParts {
    fn schedules(&self) -> &[Arc<Schedule>] {
        &self.schedules
    }

    fn options_of(&self, task_name: &str) -> Option<OptionsOf> {
        self.tasks.find(task_name).ok().map(|task| task.options_of)
    }

    fn max_delay(&self) -> Duration {
        self.periodic_max_delay
    }
}

impl App {
    /// Creates an application from the checked parts of a builder.
    pub(crate) fn new(
        connector: Connector,
        tasks: TaskRegistry,
        state: Extensions,
        worker_defaults: Extensions,
        schedules: Vec<Schedule>,
        periodic_max_delay: Duration,
    ) -> Self {
        let schedules = schedules.into_iter().map(Arc::new).collect();
        let shared = AppParts { tasks, state, worker_defaults, schedules, periodic_max_delay };
        Self { job_manager: JobManager::new(connector), shared: Arc::new(shared) }
    }

    /// Defers a job on a connection from the pool, outside of your transactions. When it returns, the job is committed.
    ///
    /// Calls that run at the same time share statements. See [`JobManager::defer`] for details.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::defer`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let id = app.defer(sum(3, 5).priority(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer(&self, job: JobToDefer) -> Result<JobId, Error> {
        self.job_manager.defer(job).await
    }

    /// Defers a job like [`defer`](Self::defer), and says whether it was stored, or whether it has replaced or kept a
    /// pending one.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::defer`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{IfEnqueued, task};
    /// # #[task] async fn report() {}
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let job = report().queueing_lock("report").if_enqueued(IfEnqueued::Replace);
    /// println!("{:?}", app.defer_detailed(job).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_detailed(&self, job: JobToDefer) -> Result<Deferred, Error> {
        self.job_manager.defer_detailed(job).await
    }

    /// Defers a job unless its queueing lock is taken, and returns `Ok(None)` in that case.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::defer`], without [`Error::AlreadyEnqueued`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn report() {}
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let deferred = app.defer_unless_enqueued(report().queueing_lock("report")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_unless_enqueued(&self, job: JobToDefer) -> Result<Option<JobId>, Error> {
        self.job_manager.defer_unless_enqueued(job).await
    }

    /// Defers any number of jobs in one statement, all or none. Returns their IDs in the order of the input.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::batch_defer`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let ids = app.batch_defer((0..100).map(|n| sum(n, n))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn batch_defer(&self, jobs: impl IntoIterator<Item = JobToDefer>) -> Result<Vec<JobId>, Error> {
        self.job_manager.batch_defer(jobs).await
    }

    /// Defers any number of jobs like [`batch_defer`](Self::batch_defer), and says for each whether it was stored, or
    /// whether it has replaced a pending one.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::batch_defer`].
    ///
    /// # Example
    ///
    /// See [`JobManager::batch_defer_detailed`].
    pub async fn batch_defer_detailed(
        &self,
        jobs: impl IntoIterator<Item = JobToDefer>,
    ) -> Result<Vec<Deferred>, Error> {
        self.job_manager.batch_defer_detailed(jobs).await
    }

    /// Performs an operation of the [job manager](crate::job_manager) on a connection from the pool.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::perform`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// for queue in app.perform(procrastinate::job_manager::list_queues()).await? {
    ///     println!("{}: {} pending jobs", queue.name, queue.todo);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    // Not `execute`, because `diesel_async::RunQueryDsl` gives each type a method of that name.
    pub async fn perform<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        self.job_manager.perform(operation).await
    }

    /// Subscribes to notifications about new jobs and abort requests in these queues (all queues if empty), on a
    /// dedicated connection.
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::listen_for_jobs`].
    ///
    /// # Example
    ///
    /// See [`JobManager::listen_for_jobs`].
    pub async fn listen_for_jobs(&self, queues: &[&str]) -> Result<Notifications, Error> {
        self.job_manager.listen_for_jobs(queues).await
    }

    /// Creates a job of one of this application's tasks from the task's full name or an alias. The job carries the name
    /// and has the task's options. For a task that this application does not have, use
    /// [`configure_task`](crate::configure_task).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`] if there is no such task. It lists the known names. [`Error::Invalid`] if the arguments
    /// do not fit the task.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let job = app.configure_task("sum", serde_json::json!({ "a": 3, "b": 5 }))?;
    /// app.defer(job).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn configure_task(&self, task_name: &str, args: impl Serialize) -> Result<JobToDefer, Error> {
        self.find_task(task_name)?.job(args)
    }

    /// Returns the connector of the application.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let connector = app.connector().clone();
    /// # }
    /// ```
    #[must_use]
    pub fn connector(&self) -> &Connector {
        self.job_manager.connector()
    }

    /// Returns the job manager, for code that only defers and manages jobs.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let job_manager = app.job_manager().clone();
    /// # }
    /// ```
    #[must_use]
    pub fn job_manager(&self) -> &JobManager {
        &self.job_manager
    }

    /// Returns this application on another connector, with the same tasks, state and schedules. Use it in tests.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App, connector: procrastinate::DieselConnector) {
    /// let on_a_copy = app.replace_connector(connector);
    /// # }
    /// ```
    #[must_use]
    pub fn replace_connector(&self, connector: impl Into<Connector>) -> Self {
        Self { job_manager: JobManager::new(connector.into()), shared: self.shared.clone() }
    }

    /// Returns the full names of its tasks, sorted. Aliases and [built-in tasks](crate::builtin_tasks) are not
    /// included.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// println!("this program runs {}", app.task_names().join(", "));
    /// # }
    /// ```
    #[must_use]
    pub fn task_names(&self) -> Vec<&str> {
        self.shared.tasks.names()
    }

    /// Its tasks, as its schedules need them.
    pub(crate) fn scheduled_tasks(&self) -> Arc<dyn ScheduledTasks> {
        self.shared.clone()
    }

    /// Returns the names and aliases of the tasks that match the predicate.
    pub(crate) fn tasks_with(&self, predicate: impl Fn(&RegisteredTask) -> bool) -> Vec<String> {
        self.shared.tasks.names_where(predicate)
    }

    /// The worker's default settings.
    pub(crate) fn worker_defaults(&self) -> &Extensions {
        &self.shared.worker_defaults
    }

    /// The values that tasks find by type.
    pub(crate) fn state(&self) -> &Extensions {
        &self.shared.state
    }

    /// Returns the task with this name or alias.
    pub(crate) fn find_task(&self, name: &str) -> Result<Arc<RegisteredTask>, Error> {
        self.shared.tasks.find(name)
    }
}
