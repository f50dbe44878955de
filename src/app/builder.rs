//! From a connector and tasks to an application.

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
}

/// Collects the tasks of an [`App`].
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
#[must_use = "an application does nothing before it is built"]
pub struct AppBuilder {
    connector: Connector,
    blueprint: Blueprint,
    /// Tasks that were found. Those that are in the blueprint, too, are left out in the end.
    discovered: Vec<RegisteredTask>,
    state: Extensions,
    /// What the worker, which this floor does not know, keeps here.
    worker_defaults: Extensions,
    periodic_max_delay: Duration,
}

impl AppBuilder {
    /// For what stands on a floor above this one.
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

    /// Adds a task: a struct that implements [`Task`], such as the one that `#[task]` makes under the function's name.
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

    /// Adds the tasks, schedules and aliases of a blueprint, whose tasks all have this namespace; see [`Blueprint`].
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

    /// Lets workers find a task under a further name, which a job may still carry: the one that it had before it was
    /// renamed, or moved into a namespace. At most 128 bytes. An alias that belongs to the task is better written there, as
    /// [`#[task(aliases = ["…"])]`](macro@crate::task).
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

    /// Adds every task that was written with [`#[task]`](macro@crate::task) and is linked into this program, in whichever
    /// crate. A task that is added in another way, too, is added that way: by its name, or in the namespace of a
    /// [`Blueprint`].
    ///
    /// A crate of which nothing is used is not linked, and its tasks are not found: `use mails as _;` makes sure of it. A
    /// task that is written by hand, as an implementation of [`Task`], is not found; nor is one in a library that is
    /// loaded at run time, or on a platform which [`inventory`](https://docs.rs/inventory) does not know. Tasks that stand
    /// in functions, in tests for instance, are found like all others, so in a test binary there may well be two of one
    /// name: [`discover_tasks_in`](Self::discover_tasks_in) looks at a part.
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
    pub fn discover_tasks(mut self) -> Self {
        self.discovered.extend(discovered_tasks(|_| true));
        self
    }

    /// As [`discover_tasks`](Self::discover_tasks), for the tasks of one crate or module, and of the modules in it, by its
    /// path: `shop::mails`. With no task there it adds none.
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

    /// Gives the tasks a value that they find by its type: a pool, an HTTP client, settings. See
    /// [`JobContext::state`](crate::JobContext::state). Of two of one type the later one stands.
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

    /// Adds a schedule of one of its tasks. Those that are written at a task with
    /// [`#[periodic]`](macro@crate::periodic) come with the task.
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

    /// How old a tick of a periodic task may be when a worker finds it not deferred. Unless set: ten minutes. What happens
    /// to older ones, see [`MissedTicks`](crate::MissedTicks).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(connector: procrastinate::DieselConnector) {
    /// let builder = procrastinate::App::builder(connector).periodic_max_delay(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub fn periodic_max_delay(mut self, max_delay: Duration) -> Self {
        self.periodic_max_delay = max_delay;
        self
    }

    /// The application.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateTask`] when two tasks share a name or an alias, or a task was added twice;
    /// [`Error::Invalid`] when a task's name, alias or namespace is empty or longer than 128 bytes, its default
    /// options cannot be, or a periodic task has a cron expression, arguments or options that cannot be, or the
    /// `periodic_id` of another schedule of its task; [`Error::UnknownTask`] for a periodic task or an alias of a task that
    /// was not added.
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
        let tasks = TaskRegistry::new(builtin_tasks(), tasks, aliases)?;
        let schedules = check_schedules(schedules, &tasks, self.periodic_max_delay)?;
        Ok(App::new(self.connector, tasks, self.state, self.worker_defaults, schedules))
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
        schedules.push(periodic_task.check(task.name, task.defaults.clone(), max_delay)?);
    }
    check_distinct(&schedules)?;
    Ok(schedules)
}
