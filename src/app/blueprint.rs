//! Groups of tasks that are added to an application together.

use std::any::TypeId;

use crate::app::registry::{Alias, RegisteredTask};
use crate::error::Error;
use crate::periodic::PeriodicTask;
use crate::task::Task;
use crate::validation::check_name;

/// Separates a namespace from a name, as in `mails:welcome`. It is Procrastinate's separator.
const SEPARATOR: char = ':';

/// A group of tasks with their schedules and aliases, for one part of an application or a separate crate. Add it to an
/// application with [`AppBuilder::add_tasks_from`](crate::AppBuilder::add_tasks_from).
///
/// A namespace is part of the name of a task: `#[task(namespace = "mails")]` on `welcome` makes `mails:welcome`. A
/// blueprint is added with a namespace, and all of its tasks must have that namespace. So two parts cannot use the same
/// name by accident.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, Blueprint, DieselConnector, Error, PeriodicTask, task};
///
/// #[task(namespace = "mails")]
/// async fn welcome(customer: i64) {
///     println!("Welcome, {customer}!");
/// }
///
/// #[task(namespace = "mails")]
/// async fn newsletter() {}
///
/// fn mails() -> Blueprint {
///     Blueprint::new().task::<welcome>().task::<newsletter>().periodic(PeriodicTask::new::<newsletter>("0 8 * * mon"))
/// }
///
/// # fn example(connector: DieselConnector) -> Result<(), Error> {
/// let app = App::builder(connector).add_tasks_from(mails(), "mails").build()?;
/// assert_eq!(app.task_names(), ["mails:newsletter", "mails:welcome"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a blueprint does nothing until it is added to an application"]
pub struct Blueprint {
    tasks: Vec<RegisteredTask>,
    aliases: Vec<Alias>,
    periodic: Vec<PeriodicTask>,
    /// Nested blueprints and their namespaces.
    parts: Vec<(Self, String)>,
}

/// The contents of a blueprint and its nested blueprints.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) tasks: Vec<RegisteredTask>,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) periodic: Vec<PeriodicTask>,
}

impl Blueprint {
    /// Creates an empty blueprint.
    ///
    /// # Example
    ///
    /// See [`Blueprint`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task: a struct that implements [`Task`], such as the one that `#[task]` generates under the function's
    /// name.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{Blueprint, task};
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    /// let mails = Blueprint::new().task::<welcome>();
    /// ```
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks.push(RegisteredTask::of::<T>());
        self
    }

    /// Adds a schedule for a task. Schedules from [`#[periodic]`](macro@crate::periodic) are added together with their
    /// task.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{Blueprint, PeriodicTask, task};
    /// # #[task] async fn newsletter() {}
    /// let mails = Blueprint::new().task::<newsletter>().periodic(PeriodicTask::new::<newsletter>("0 8 * * mon"));
    /// ```
    pub fn periodic(mut self, periodic_task: PeriodicTask) -> Self {
        self.periodic.push(periodic_task);
        self
    }

    /// Adds an alias: a further name under which workers find the task, at most 128 bytes. Use it for a former name
    /// that jobs can still carry.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{Blueprint, task};
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    /// let mails = Blueprint::new().task::<welcome>().add_task_alias::<welcome>("greet");
    /// ```
    pub fn add_task_alias<T: Task>(mut self, alias: impl Into<String>) -> Self {
        self.aliases.push(Alias { task: TypeId::of::<T>(), task_name: T::NAME, alias: alias.into() });
        self
    }

    /// Adds the tasks, schedules and aliases of another blueprint. The names of all its tasks must begin with this
    /// namespace and a colon.
    ///
    /// If one does not, [`AppBuilder::build`](crate::AppBuilder::build) returns an error.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{Blueprint, task};
    /// # #[task(namespace = "shop:mails")] async fn welcome(customer: i64) { let _ = customer; }
    /// let mails = Blueprint::new().task::<welcome>();
    /// let shop = Blueprint::new().add_tasks_from(mails, "shop:mails");
    /// ```
    pub fn add_tasks_from(mut self, blueprint: Self, namespace: impl Into<String>) -> Self {
        self.parts.push((blueprint, namespace.into()));
        self
    }

    /// Returns the contents, including nested blueprints, after checking the names.
    pub(crate) fn into_contents(self) -> Result<Contents, Error> {
        let mut contents = Contents { tasks: self.tasks, aliases: self.aliases, periodic: self.periodic };
        for (part, namespace) in self.parts {
            check_name("namespace", &namespace)?;
            let mut part = part.into_contents()?;
            part.tasks.iter().try_for_each(|task| check_namespace(task.name, &namespace))?;
            contents.tasks.append(&mut part.tasks);
            contents.aliases.append(&mut part.aliases);
            contents.periodic.append(&mut part.periodic);
        }
        Ok(contents)
    }
}

fn check_namespace(task_name: &str, namespace: &str) -> Result<(), Error> {
    if task_name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with(SEPARATOR)) {
        return Ok(());
    }
    let rule = format!(
        "must begin with \"{namespace}:\", because its blueprint is added with the namespace \"{namespace}\"; add \
         #[task(namespace = \"{namespace}\")]"
    );
    Err(Error::invalid("task name", task_name, rule))
}
