//! Discovery of the functions with `#[task]` that are linked into a program.
//!
//! The attribute writes `__private::discover!(name);` after each task. The macro expands to nothing unless the feature
//! `discovery` is enabled. The attribute itself cannot see the features of this crate, but a macro of this crate can.

#[cfg(feature = "discovery")]
use crate::app::registry::RegisteredTask;
#[cfg(feature = "discovery")]
use crate::task::Task;

/// A task that is registered at link time.
#[cfg(feature = "discovery")]
#[derive(Debug)]
pub struct DiscoverableTask {
    /// The module that contains the task.
    module: &'static str,
    register: fn() -> RegisteredTask,
}

#[cfg(feature = "discovery")]
impl DiscoverableTask {
    /// Creates the entry of a task in this module.
    #[must_use]
    pub const fn new<T: Task>(module: &'static str) -> Self {
        Self { module, register: RegisteredTask::of::<T> }
    }
}

#[cfg(feature = "discovery")]
inventory::collect!(DiscoverableTask);

/// Returns the tasks of the modules that match the predicate.
#[cfg(feature = "discovery")]
pub(crate) fn discovered_tasks(predicate: impl Fn(&str) -> bool) -> impl Iterator<Item = RegisteredTask> {
    inventory::iter::<DiscoverableTask>
        .into_iter()
        .filter(move |task| predicate(task.module))
        .map(|task| (task.register)())
}

/// Whether the path is the module itself or inside it.
#[cfg(feature = "discovery")]
pub(crate) fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Registers the task for discovery.
#[cfg(feature = "discovery")]
#[doc(hidden)]
#[macro_export]
macro_rules! __discover {
    ($task:ident) => {
        $crate::__private::inventory::submit! {
            $crate::__private::DiscoverableTask::new::<$task>(::core::module_path!())
        }
    };
}

/// Does nothing, because discovery is disabled.
#[cfg(not(feature = "discovery"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __discover {
    ($task:ident) => {};
}
