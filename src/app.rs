//! An application: a connector and the tasks that its workers know.

use std::sync::Arc;

use serde::Serialize;

use crate::app_builder::AppBuilder;
use crate::app_connector::Connector;
use crate::batch::{batch_defer_or_fail, new_jobs};
use crate::checks::check_name;
use crate::defer_in_company::{DefersUnderWay, store_and_announce};
use crate::error::Error;
use crate::job::JobId;
use crate::job_manager::Operation;
use crate::job_to_defer::{DEFER_THE_JOB, JobToDefer, configure_task, defer_or_fail, none_if_enqueued};
use crate::notifications::Notifications;
use crate::periodic::Schedule;
use crate::state::State;
use crate::task::RegisteredTask;
use crate::task_table::TaskTable;

/// The application's pool and its tasks.
///
/// Workers are started from it ([`App::worker`](crate::App::worker)), and jobs can be deferred through it where there is
/// no connection at hand. Deferring inside of a transaction needs no `App`: see
/// [`JobToDefer::defer`](crate::JobToDefer::defer). It is cheap to clone.
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
/// app.worker().queues(["sums"]).wait(false).run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct App {
    connector: Connector,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tasks: TaskTable,
    state: State,
    worker_defaults: State,
    schedules: Vec<Schedule>,
    defers: DefersUnderWay,
}

impl App {
    /// Starts an application on this connector: a [`DieselConnector`](crate::DieselConnector), or what stands for one in a
    /// test.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(connector: impl Into<Connector>) -> AppBuilder {
        AppBuilder::new(connector.into())
    }

    /// What a builder has put together and checked.
    pub(crate) fn new(
        connector: Connector,
        tasks: TaskTable,
        state: State,
        worker_defaults: State,
        schedules: Vec<Schedule>,
    ) -> Self {
        let defers = DefersUnderWay::default();
        Self { connector, shared: Arc::new(Shared { tasks, state, worker_defaults, schedules, defers }) }
    }

    /// Defers a job on a connection from the pool, at once and on its own.
    ///
    /// While several of these are under way in the program, each job is stored in one transaction and announced in another:
    /// PostgreSQL makes transactions that notify durable one after the other. A process that is killed between the two
    /// leaves a job that workers find when they next look, within their `fetch_job_polling_interval`.
    ///
    /// # Errors
    ///
    /// As [`JobToDefer::defer`], and [`Error::Pool`] when there is no connection to be had. After an [`Error::Database`]
    /// that says the connection broke, the job may have been stored.
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
        let job = job.into_new_job()?;
        let company = self.shared.defers.join();
        let mut connection = self.connector().get(DEFER_THE_JOB).await?;
        if company.is_there() && connection.commits_each_statement() {
            store_and_announce(job, connection).await
        } else {
            defer_or_fail(job, &mut connection).await
        }
    }

    /// As [`defer`](Self::defer), for callers to whom a taken queueing lock is good news: `None` then.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer), without [`Error::AlreadyEnqueued`].
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
        none_if_enqueued(self.defer(job).await)
    }

    /// Defers any number of jobs in one statement on a connection from the pool, all or none, and returns their numbers
    /// in the order of the input.
    ///
    /// # Errors
    ///
    /// As [`batch_defer`](crate::batch_defer()), and [`Error::Pool`] when there is no connection to be had.
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
        let jobs = new_jobs(jobs)?;
        let mut connection = self.connector().get("defer the jobs").await?;
        batch_defer_or_fail(jobs, &mut connection).await
    }

    /// Executes an operation of the [job manager](crate::job_manager) on a connection from the pool.
    ///
    /// # Errors
    ///
    /// Those of the operation, and [`Error::Pool`] when there is no connection to be had.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// for queue in app.execute(procrastinate::job_manager::list_queues()).await? {
    ///     println!("{} jobs wait in {}", queue.todo, queue.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        let mut connection = self.connector().get("execute the operation").await?;
        operation.execute_pooled(&mut connection).await
    }

    /// Hears of jobs of these queues that are deferred or are to be aborted, on a connection of its own outside of the
    /// pool. An empty list is all queues.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Listening`] when the connection cannot be had.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::Notification;
    ///
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let mut notifications = app.listen_for_jobs(&["mails"]).await?;
    /// while let Notification::JobInserted(id) = notifications.next().await? {
    ///     println!("job {id} was deferred");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen_for_jobs(&self, queues: &[&str]) -> Result<Notifications, Error> {
        queues.iter().try_for_each(|queue| check_name("queue name", queue))?;
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        Notifications::listen(self.connector(), (!queues.is_empty()).then_some(&queues)).await
    }

    /// A job of one of this application's tasks, by the task's name, with its namespaces, or by an alias; the job then
    /// carries the name. For a task that this application does not know there is
    /// [`configure_task`](crate::configure_task).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`], with the names that are known.
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
        let task = self.find_task(task_name)?;
        Ok(configure_task(&task.name, args).configure(&task.defaults))
    }

    /// The connector it was built with.
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
        &self.connector
    }

    /// This application on another connector: the same tasks, state and schedules on another database, in a test say.
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
        Self { connector: connector.into(), shared: self.shared.clone() }
    }

    /// The names of its tasks, with their namespaces, sorted. Aliases are not among them, nor are the
    /// [built-in tasks](crate::builtin_tasks), which it knows too.
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

    /// When which of its tasks come round.
    pub(crate) fn schedules(&self) -> &[Schedule] {
        &self.shared.schedules
    }

    /// The names and aliases of those of its tasks for which this is true.
    pub(crate) fn tasks_with(&self, is_meant: impl Fn(&RegisteredTask) -> bool) -> Vec<String> {
        self.shared.tasks.names_where(is_meant)
    }

    /// What the worker keeps here.
    pub(crate) fn worker_defaults(&self) -> &State {
        &self.shared.worker_defaults
    }

    /// What its tasks find by type.
    pub(crate) fn state(&self) -> &State {
        &self.shared.state
    }

    /// The task of this name or alias.
    pub(crate) fn find_task(&self, name: &str) -> Result<Arc<RegisteredTask>, Error> {
        self.shared.tasks.find(name)
    }
}
