//! Builds an application from a connector and tasks.

use std::time::Duration;

use crate::app::App;
use crate::app::blueprint::{Blueprint, Contents};
use crate::app::builtin_tasks::builtin_tasks;
#[cfg(feature = "discovery")]
use crate::app::discovery::{discovered_tasks, is_within};
use crate::app::registry::{RegisteredTask, TaskRegistry};
use crate::database::connection::Connector;
use crate::error::Error;
use crate::periodic::{DEFAULT_MAX_DELAY, PeriodicTask, Schedule, check_distinct};
use crate::support::extensions::Extensions;
use crate::task::Task;

impl App {
    /// Starts to build an application on this connector: a [`DieselConnector`](crate::DieselConnector), or an in-memory
    /// connector in tests.
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
}

/// Builds an [`App`] from a connector, tasks and settings.
///
/// # Example
///
/// ```no_run
/// # use procrastinate::task;
/// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
/// # #[task] async fn product(a: i64, b: i64) { let _ = a * b; }
/// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
/// let app = procrastinate::App::builder(connector).task::<sum>().task::<product>().build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "call `build` to get the application"]
pub struct AppBuilder {
    connector: Connector,
    blueprint: Blueprint,
    /// Tasks from discovery. Those that are also in the blueprint are skipped in the end.
    discovered: Vec<RegisteredTask>,
    state: Extensions,
    /// The worker's default settings. This module does not depend on the worker.
    worker_defaults: Extensions,
    periodic_max_delay: Duration,
}

impl AppBuilder {
    /// Gives higher modules access to the worker's default settings.
    pub(crate) fn worker_defaults_mut(&mut self) -> &mut Extensions {
        &mut self.worker_defaults
    }

    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            blueprint: Blueprint::new(),
            discovered: Vec::new(),
            state: Extensions::default(),
            worker_defaults: Extensions::default(),
            periodic_max_delay: DEFAULT_MAX_DELAY,
        }
    }

    /// Adds a task: a struct that implements [`Task`], such as the one that `#[task]` generates under the function's
    /// name.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector).task::<sum>().build()?;
    /// assert_eq!(app.task_names(), ["sum"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn task<T: Task>(mut self) -> Self {
        self.blueprint = self.blueprint.task::<T>();
        self
    }

    /// Adds the tasks, schedules and aliases of a [`Blueprint`]. All of its tasks must have this namespace.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{App, Blueprint, task};
    /// # #[task(namespace = "mails")] async fn welcome(customer: i64) { let _ = customer; }
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let mails = Blueprint::new().task::<welcome>();
    /// let app = App::builder(connector).add_tasks_from(mails, "mails").build()?;
    /// assert_eq!(app.task_names(), ["mails:welcome"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_tasks_from(mut self, blueprint: Blueprint, namespace: impl Into<String>) -> Self {
        self.blueprint = self.blueprint.add_tasks_from(blueprint, namespace);
        self
    }

    /// Adds an alias: a further name under which workers find the task, at most 128 bytes.
    ///
    /// Use it for the name that a task had before it was renamed or moved into a namespace. If you can change the task,
    /// prefer [`#[task(aliases = ["…"])]`](macro@crate::task).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{App, task};
    /// # #[task(namespace = "mails")] async fn welcome(customer: i64) { let _ = customer; }
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// // Runs jobs that were deferred before the task had a namespace.
    /// let app = App::builder(connector).task::<welcome>().add_task_alias::<welcome>("welcome").build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_task_alias<T: Task>(mut self, alias: impl Into<String>) -> Self {
        self.blueprint = self.blueprint.add_task_alias::<T>(alias);
        self
    }

    /// Adds every task that was written with [`#[task]`](macro@crate::task) and is linked into this program, from all
    /// crates. A task that you also add in another way is added only once.
    ///
    /// Some tasks are not found:
    ///
    /// - tasks in a crate from which nothing is used, because it is not linked; write `use mails as _;` to link it
    /// - implementations of [`Task`] without the macro
    /// - tasks in a library that is loaded at run time
    /// - tasks on platforms that [`inventory`](https://docs.rs/inventory) does not support
    ///
    /// Tasks inside functions are found too, for example in tests, so a test binary can contain two tasks with one
    /// name. Use [`discover_tasks_in`](Self::discover_tasks_in) there.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::{App, task};
    ///
    /// #[task]
    /// async fn welcome(customer: i64) {
    ///     println!("Welcome, {customer}!");
    /// }
    ///
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = App::builder(connector).discover_tasks().build()?;
    /// assert_eq!(app.task_names(), ["welcome"]);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "discovery")]
    #[doc(alias = "import_paths")]
    pub fn discover_tasks(mut self) -> Self {
        self.discovered.extend(discovered_tasks(|_| true));
        self
    }

    /// Adds the tasks of one crate or module and of its submodules, such as `shop::mails`. Adds nothing if there are
    /// none. See [`discover_tasks`](Self::discover_tasks).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector).discover_tasks_in(module_path!()).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "discovery")]
    pub fn discover_tasks_in(mut self, module: &str) -> Self {
        self.discovered.extend(discovered_tasks(|path| is_within(path, module)));
        self
    }

    /// Adds a value that tasks find by its type: a pool, an HTTP client, settings. A later value of the same type
    /// replaces an earlier one. See [`State`](crate::State) and [`JobContext::state`](crate::JobContext::state).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # struct Settings { sender: String }
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector).state(Settings { sender: "Ada".into() }).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Adds a schedule for one of the tasks. Schedules from [`#[periodic]`](macro@crate::periodic) are added together
    /// with their task.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::{App, PeriodicTask, task};
    ///
    /// #[task]
    /// async fn clean_up(timestamp: i64) {
    ///     println!("it is {timestamp}");
    /// }
    ///
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let nightly = PeriodicTask::new::<clean_up>("0 3 * * *");
    /// let app = App::builder(connector).task::<clean_up>().periodic(nightly).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn periodic(mut self, periodic_task: PeriodicTask) -> Self {
        self.blueprint = self.blueprint.periodic(periodic_task);
        self
    }

    /// Sets how old a missed tick of a periodic task may be for a worker to still defer it. Default: ten minutes. See
    /// [`MissedTicks`](crate::MissedTicks) for older ticks.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(connector: procrastinate::DieselConnector) {
    /// let builder = procrastinate::App::builder(connector).periodic_max_delay(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    #[doc(alias = "periodic_defaults")]
    pub fn periodic_max_delay(mut self, max_delay: Duration) -> Self {
        self.periodic_max_delay = max_delay;
        self
    }

    /// Builds the application and checks its tasks and schedules.
    ///
    /// # Errors
    ///
    /// - [`Error::DuplicateTask`] if two tasks share a name or an alias, or if a task was added twice
    /// - [`Error::Invalid`] if the name, alias or namespace of a task is empty or longer than 128 bytes
    /// - [`Error::Invalid`] if the default options of a task are invalid
    /// - [`Error::Invalid`] if a task needs a [`State`](crate::State) of a type of which there is no value
    /// - [`Error::Invalid`] if a schedule is invalid, or has the same `periodic_id` as another schedule of its task
    /// - [`Error::UnknownTask`] if a schedule or an alias belongs to a task that was not added
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector).task::<sum>().build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(self) -> Result<App, Error> {
        let Contents { mut tasks, aliases, periodic } = self.blueprint.into_contents()?;
        for discovered in self.discovered {
            if tasks.iter().all(|task| task.task != discovered.task) {
                tasks.push(discovered);
            }
        }
        let mut schedules: Vec<PeriodicTask> = tasks.iter().flat_map(RegisteredTask::periodic).collect();
        schedules.extend(periodic);
        let state_check = tasks.iter().try_for_each(|task| task.check_state(&self.state));
        let tasks = TaskRegistry::new(builtin_tasks(), tasks, aliases)?;
        state_check?;
        let schedules = check_schedules(schedules, &tasks, self.periodic_max_delay)?;
        Ok(App::new(self.connector, tasks, self.state, self.worker_defaults, schedules, self.periodic_max_delay))
    }
}

fn check_schedules(
    periodic: Vec<PeriodicTask>,
    tasks: &TaskRegistry,
    max_delay: Duration,
) -> Result<Vec<Schedule>, Error> {
    let mut schedules = Vec::with_capacity(periodic.len());
    for periodic_task in periodic {
        let task = tasks.find_type(periodic_task.task(), periodic_task.task_name())?;
        schedules.push(periodic_task.check(task.name, task.options_of, max_delay)?);
    }
    check_distinct(&schedules)?;
    Ok(schedules)
}
