//! The tasks of an application, by name and by type.

use std::any::TypeId;
use std::collections::HashMap;
use std::iter::once;
use std::sync::Arc;

use crate::blueprint::Alias;
use crate::builtin_tasks::{builtin_tasks, is_builtin};
use crate::error::Error;
use crate::task::RegisteredTask;
use crate::task_name::NamedTask;

/// The tasks of an application and the built-in ones. No two share a name or an alias.
#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    /// By their names and their aliases.
    by_name: HashMap<String, Arc<RegisteredTask>>,
    by_type: HashMap<TypeId, Arc<RegisteredTask>>,
}

impl TaskTable {
    /// Checks the tasks, each by itself and all of them together.
    pub(crate) fn new(mut tasks: Vec<RegisteredTask>, aliases: Vec<Alias>) -> Result<Self, Error> {
        let mut table = Self::default();
        for task in builtin_tasks() {
            table.add(task)?;
        }
        let mut without_task = None;
        for Alias { task, own_name, alias } in aliases {
            match tasks.iter_mut().find(|candidate| candidate.task == task) {
                Some(task) => task.aliases.push(alias),
                None => without_task = without_task.or(Some(own_name)),
            }
        }
        for task in tasks {
            task.check()?;
            table.add(task)?;
        }
        match without_task {
            Some(own_name) => Err(table.unknown(own_name)),
            None => Ok(table),
        }
    }

    fn add(&mut self, task: RegisteredTask) -> Result<(), Error> {
        let task = Arc::new(task);
        let duplicate = |name: &str, other: &RegisteredTask| {
            Err(Error::DuplicateTask { name: name.to_owned(), tasks: [other.type_name, task.type_name] })
        };
        match self.by_type.get(&task.task) {
            Some(other) if other.name == task.name => return duplicate(&task.name, other),
            Some(other) => {
                let names = [other.name.clone(), task.name.clone()];
                return Err(Error::TaskWithTwoNames { task: task.type_name, names });
            }
            None => {}
        }
        for name in once(&task.name).chain(&task.aliases) {
            if let Some(other) = self.by_name.get(name).filter(|other| other.task != task.task) {
                return duplicate(name, other);
            }
            self.by_name.insert(name.clone(), task.clone());
        }
        self.by_type.insert(task.task, task);
        Ok(())
    }

    /// The task of this name or alias.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<RegisteredTask>, Error> {
        self.by_name.get(name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// The task of this type, in whichever namespace; else the one of this name, which another type has declared.
    pub(crate) fn find_type(&self, task: TypeId, own_name: &str) -> Result<Arc<RegisteredTask>, Error> {
        self.by_type.get(&task).cloned().map_or_else(|| self.find(own_name), Ok)
    }

    /// The names of the application's own tasks, sorted, without aliases.
    pub(crate) fn names(&self) -> Vec<&str> {
        let own_tasks = self.by_type.values().filter(|task| !is_builtin(task));
        let mut names: Vec<_> = own_tasks.map(|task| task.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The names and aliases of those tasks for which this is true.
    pub(crate) fn names_where(&self, is_meant: impl Fn(&RegisteredTask) -> bool) -> Vec<String> {
        self.by_name.iter().filter(|(_, task)| is_meant(task)).map(|(name, _)| name.clone()).collect()
    }

    /// What the tasks are called here.
    pub(crate) fn named(&self) -> Vec<NamedTask> {
        self.by_type.values().map(|task| task.named()).collect()
    }

    fn unknown(&self, name: &str) -> Error {
        let known = self.names().into_iter().map(str::to_owned).collect();
        Error::UnknownTask { name: name.to_owned(), known }
    }
}
