//! Which name each task has in this process.
//!
//! A job can be made without an application at hand, and has to carry the name that its task has there, namespace and all.
//! So each application that is built writes down here what it calls its tasks.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::error::Error;

/// The names of the tasks of all applications that were built. Written by [`claim_names`].
static NAMES: RwLock<BTreeMap<TypeId, String>> = RwLock::new(BTreeMap::new());

/// Whether one of them is another than its task's own: unless it is, nobody need look.
static ANY_NAMESPACE: AtomicBool = AtomicBool::new(false);

/// What an application calls a task.
#[derive(Debug)]
pub(crate) struct NamedTask {
    pub(crate) task: TypeId,
    /// The name of the type, for messages.
    pub(crate) type_name: &'static str,
    /// The name that the task was declared with.
    pub(crate) own_name: &'static str,
    /// The same with the namespaces before it.
    pub(crate) name: String,
}

/// The name under which jobs of this task are deferred: its own, unless an application was built that has it in a
/// namespace.
pub(crate) fn name_of(task: TypeId, own_name: &'static str) -> String {
    if ANY_NAMESPACE.load(Ordering::Acquire) {
        let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(&task) {
            return name.clone();
        }
    }
    own_name.to_owned()
}

/// Writes down the names of an application's tasks: all, or none when one of them has another name already.
pub(crate) fn claim_names(tasks: &[NamedTask]) -> Result<(), Error> {
    let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
    if let Some((task, other)) = tasks
        .iter()
        .find_map(|task| names.get(&task.task).filter(|other| **other != task.name).map(|other| (task, other)))
    {
        return Err(Error::TaskWithTwoNames { task: task.type_name, names: [other.clone(), task.name.clone()] });
    }
    for task in tasks {
        if let Entry::Vacant(place) = names.entry(task.task) {
            place.insert(task.name.clone());
        }
        if task.name != task.own_name {
            ANY_NAMESPACE.store(true, Ordering::Release);
        }
    }
    Ok(())
}
