//! Tasks that are put together apart from an application, and added to one under a namespace.

use std::any::TypeId;

use crate::app::registry::{Alias, RegisteredTask};
use crate::error::Error;
use crate::periodic::PeriodicTask;
use crate::task::Task;
use crate::validation::check_name;

/// What stands between a namespace and a name, as in `mails:welcome`: Procrastinate's.
const SEPARATOR: char = ':';

/// Tasks that belong together, with their schedules and aliases: what a part of an application, or a crate of its own,
/// hands out for an [`App`](crate::App) to add under a namespace.
///
/// A task in a namespace is known by the namespace, a colon and its name, `mails:welcome` for instance, and no more by its
/// name alone. Its jobs carry that name whichever way they are deferred, its function included, from the moment the
/// application is built; so a program that only defers has to build the application, too. Where that is too much, write
/// `#[task(name = "mails:welcome")]` and add the task without a blueprint. Within a process a task is in one namespace.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, Blueprint, DieselConnector, Error, PeriodicTask, task};
///
/// #[task]
/// async fn welcome(customer: i64) {
///     println!("Welcome, {customer}!");
/// }
///
/// #[task]
/// async fn newsletter() {}
///
/// fn mails() -> Blueprint {
///     Blueprint::new().task::<welcome>().task::<newsletter>().periodic(PeriodicTask::new::<newsletter>("0 8 * * mon"))
/// }
///
/// # fn example(connector: DieselConnector) -> Result<(), Error> {
/// let app = App::builder(connector).add_tasks_from(mails(), "mails").build()?;
/// assert_eq!(app.task_names(), ["mails:newsletter", "mails:welcome"]);
/// assert_eq!(welcome(7).task_name(), "mails:welcome");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a blueprint does nothing until an application has its tasks"]
pub struct Blueprint {
    tasks: Vec<RegisteredTask>,
    aliases: Vec<Alias>,
    periodic: Vec<PeriodicTask>,
    /// Other blueprints, and their namespaces.
    parts: Vec<(Self, String)>,
}

/// What is in a blueprint and its parts, under the names that it has by all their namespaces.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) tasks: Vec<RegisteredTask>,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) periodic: Vec<PeriodicTask>,
}

impl Blueprint {
    /// No tasks.
    ///
    /// # Example
    ///
    /// See [`Blueprint`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task: a struct that implements [`Task`], such as the one that `#[task]` makes under the function's name.
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

    /// Adds a schedule of a task. Those that are written at a task with [`#[periodic]`](macro@crate::periodic) come with
    /// the task.
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

    /// Lets workers find a task under a further name, which a job may still carry. Where this blueprint is added in a
    /// namespace, the alias has it before it, as the names of tasks have; an alias that was given to the application
    /// stays as it is. At most 128 bytes.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{Blueprint, task};
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    /// let mails = Blueprint::new().task::<welcome>().add_task_alias::<welcome>("greet");
    /// ```
    pub fn add_task_alias<T: Task>(mut self, alias: impl Into<String>) -> Self {
        self.aliases.push(Alias { task: TypeId::of::<T>(), own_name: T::NAME, alias: alias.into() });
        self
    }

    /// Adds the tasks, schedules and aliases of another blueprint. All of its names get the namespace and a colon before
    /// them: a task `b` that is added in `a` is `a:b`, and if that blueprint is added in `c` it is `c:a:b`.
    ///
    /// Two blueprints may have one namespace.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{Blueprint, task};
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    /// let mails = Blueprint::new().task::<welcome>();
    /// let shop = Blueprint::new().add_tasks_from(mails, "mails");
    /// ```
    pub fn add_tasks_from(mut self, blueprint: Self, namespace: impl Into<String>) -> Self {
        self.parts.push((blueprint, namespace.into()));
        self
    }

    /// What is in it and its parts, under their namespaces.
    pub(crate) fn into_contents(self) -> Result<Contents, Error> {
        let mut contents = Contents { tasks: self.tasks, aliases: self.aliases, periodic: self.periodic };
        for (part, namespace) in self.parts {
            check_name("namespace", &namespace)?;
            let mut part = part.into_contents()?;
            part.add_namespace(&namespace);
            contents.tasks.append(&mut part.tasks);
            contents.aliases.append(&mut part.aliases);
            contents.periodic.append(&mut part.periodic);
        }
        Ok(contents)
    }
}

impl Contents {
    fn add_namespace(&mut self, namespace: &str) {
        let names = self.tasks.iter_mut().flat_map(|task| std::iter::once(&mut task.name).chain(&mut task.aliases));
        for name in names.chain(self.aliases.iter_mut().map(|alias| &mut alias.alias)) {
            *name = format!("{namespace}{SEPARATOR}{name}");
        }
    }
}
