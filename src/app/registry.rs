//! The tasks of an application, by name and by type.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::iter::once;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::error::Error;
use crate::job::Job;
use crate::periodic::PeriodicTask;
use crate::queue::defer::options::{JobOptions, OptionsOf};
use crate::queue::defer::{JobToDefer, configure_task};
use crate::retry::{Retry, StalledJobPolicy};
use crate::support::extensions::Extensions;
use crate::support::misfit::{self, Misfit};
use crate::task::Task;
use crate::task::context::JobContext;
use crate::task::middleware::Middleware;
use crate::task::output::{CannotRun, TaskError, TaskOutput, TaskResult};
use crate::task::state::RequiredState;
use crate::validation::{check_name, invalid_args};

/// A registered task: its name, settings and code, without its type.
pub(crate) struct RegisteredTask {
    /// The ID of the task's type.
    pub(crate) task: TypeId,
    /// The name of the task's type, for messages.
    pub(crate) type_name: &'static str,
    /// Whether every application has this task.
    pub(crate) is_builtin: bool,
    /// The task name that jobs carry.
    pub(crate) name: &'static str,
    /// Further names of the task.
    pub(crate) aliases: Vec<String>,
    /// The default options of all of its jobs.
    defaults: JobOptions,
    pub(crate) options_of: OptionsOf,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stalled: StalledJobPolicy,
    pub(crate) middleware: Arc<[Middleware]>,
    required_state: Vec<RequiredState>,
    periodic: fn() -> Vec<PeriodicTask>,
    /// Runs the task with the arguments of the context's job.
    pub(crate) run: fn(JobContext) -> BoxFuture<'static, TaskResult>,
}

impl RegisteredTask {
    pub(crate) fn of<T: Task>() -> Self {
        Self {
            task: TypeId::of::<T>(),
            type_name: type_name::<T>(),
            is_builtin: false,
            name: T::NAME,
            aliases: T::aliases().iter().map(|&alias| alias.to_owned()).collect(),
            defaults: T::defaults(),
            options_of: |args| Ok(misfit::read::<T>(args)?.options()),
            retry: T::retry(),
            timeout: T::timeout(),
            stalled: T::stalled(),
            middleware: T::middleware().into(),
            required_state: T::required_state(),
            periodic: T::periodic,
            run: |context| run_task::<T>(context).boxed(),
        }
    }

    /// Checks the name, aliases and settings of the task.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name("task name", self.name)?;
        for alias in &self.aliases {
            check_name("alias of a task", alias)?;
        }
        self.defaults.check()?;
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            let rule = format!("must be greater than zero for the task \"{}\"", self.name);
            return Err(Error::invalid("timeout", "0s", rule));
        }
        Ok(())
    }

    /// Checks that the application has the values that the task needs.
    pub(crate) fn check_state(&self, state: &Extensions) -> Result<(), Error> {
        match self.required_state.iter().find(|required| !state.contains(required.id)) {
            None => Ok(()),
            Some(RequiredState { name, .. }) => {
                let rule = format!("must have a value of the type {name}; add one with App::builder(…).state(…)");
                Err(Error::invalid("state of the task", self.name, rule))
            }
        }
    }

    /// Makes a job with these arguments. They must fit the task, because the options can depend on them.
    pub(crate) fn job(&self, args: impl Serialize) -> Result<JobToDefer, Error> {
        let job = configure_task(self.name, args);
        let options = (self.options_of)(job.checked_args()?)
            .map_err(|misfit| invalid_args(self.name, &format!("must fit the task, and do not{misfit}")))?;
        Ok(job.configure(&options))
    }

    /// Returns the schedules of the task.
    pub(crate) fn periodic(&self) -> Vec<PeriodicTask> {
        (self.periodic)()
    }
}

impl fmt::Debug for RegisteredTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredTask").field("name", &self.name).finish_non_exhaustive()
    }
}

async fn run_task<T: Task>(context: JobContext) -> TaskResult {
    let task: T = misfit::read(&context.job().args).map_err(|misfit| args_error(context.job(), T::NAME, &misfit))?;
    task.run(context).await.into_result()
}

fn args_error(job: &Job, task_name: &str, misfit: &Misfit) -> TaskError {
    tracing::debug!(
        action = "job_args_error",
        job.id = i64::from(job.id),
        "the arguments of job {} do not fit: {}",
        job.id,
        misfit.full_reason,
    );
    CannotRun(format!("the job's arguments do not fit the task \"{task_name}\"{misfit}")).into()
}

/// An alias that was added outside of the task's definition.
#[derive(Debug)]
pub(crate) struct Alias {
    pub(crate) task: TypeId,
    /// The task's name, for messages.
    pub(crate) task_name: &'static str,
    pub(crate) alias: String,
}

/// The tasks of an application, including the built-in ones. No two share a name or an alias.
#[derive(Debug, Default)]
pub(crate) struct TaskRegistry {
    /// By name and by alias.
    by_name: HashMap<String, Arc<RegisteredTask>>,
    by_type: HashMap<TypeId, Arc<RegisteredTask>>,
}

impl TaskRegistry {
    /// Checks each task, and that their names are distinct.
    pub(crate) fn new(
        builtin_tasks: impl IntoIterator<Item = RegisteredTask>,
        mut tasks: Vec<RegisteredTask>,
        aliases: Vec<Alias>,
    ) -> Result<Self, Error> {
        let mut table = Self::default();
        for task in builtin_tasks {
            table.add(RegisteredTask { is_builtin: true, ..task })?;
        }
        let mut without_task = None;
        for Alias { task, task_name, alias } in aliases {
            match tasks.iter_mut().find(|candidate| candidate.task == task) {
                Some(task) => task.aliases.push(alias),
                None => without_task = without_task.or(Some(task_name)),
            }
        }
        for task in tasks {
            task.check()?;
            table.add(task)?;
        }
        match without_task {
            Some(task_name) => Err(table.unknown(task_name)),
            None => Ok(table),
        }
    }

    fn add(&mut self, task: RegisteredTask) -> Result<(), Error> {
        let task = Arc::new(task);
        let duplicate = |name: &str, other: &RegisteredTask| {
            Err(Error::DuplicateTask { name: name.to_owned(), tasks: [other.type_name, task.type_name] })
        };
        if let Some(other) = self.by_type.get(&task.task) {
            return duplicate(task.name, other);
        }
        for name in once(task.name).chain(task.aliases.iter().map(String::as_str)) {
            if let Some(other) = self.by_name.get(name).filter(|other| other.task != task.task) {
                return duplicate(name, other);
            }
            self.by_name.insert(name.to_owned(), task.clone());
        }
        self.by_type.insert(task.task, task);
        Ok(())
    }

    /// Returns the task with this name or alias.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<RegisteredTask>, Error> {
        self.by_name.get(name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// Returns the task with this type, or the one with its name, which another type can have.
    pub(crate) fn find_type(&self, task: TypeId, name: &str) -> Result<Arc<RegisteredTask>, Error> {
        self.by_type.get(&task).cloned().map_or_else(|| self.find(name), Ok)
    }

    /// Returns the names of the application's own tasks, sorted, without aliases.
    pub(crate) fn names(&self) -> Vec<&str> {
        let own_tasks = self.by_type.values().filter(|task| !task.is_builtin);
        let mut names: Vec<_> = own_tasks.map(|task| task.name).collect();
        names.sort_unstable();
        names
    }

    /// Returns the names and aliases of the tasks that match the predicate.
    pub(crate) fn names_where(&self, predicate: impl Fn(&RegisteredTask) -> bool) -> Vec<String> {
        self.by_name.iter().filter(|(_, task)| predicate(task)).map(|(name, _)| name.clone()).collect()
    }

    fn unknown(&self, name: &str) -> Error {
        let known = self.names().into_iter().map(str::to_owned).collect();
        Error::UnknownTask { name: name.to_owned(), known }
    }
}
