//! Finding the functions with `#[task]` that are linked into a program.
//!
//! The attribute writes `__private::discover!(name);` below each task, which is nothing unless the feature `discovery` is
//! on: an attribute cannot see the features of the crate that its output refers to, a macro of that crate can.

#[cfg(feature = "discovery")]
use crate::app::registry::RegisteredTask;
#[cfg(feature = "discovery")]
use crate::task::Task;

/// A task as the program carries it from its start.
#[cfg(feature = "discovery")]
#[derive(Debug)]
pub struct DiscoverableTask {
    /// The module in which it is written.
    module: &'static str,
    register: fn() -> RegisteredTask,
}

#[cfg(feature = "discovery")]
impl DiscoverableTask {
    /// The task of this type, which is written in this module.
    #[must_use]
    pub const fn new<T: Task>(module: &'static str) -> Self {
        Self { module, register: RegisteredTask::of::<T> }
    }
}

#[cfg(feature = "discovery")]
inventory::collect!(DiscoverableTask);

/// The tasks of the modules for which this is true.
#[cfg(feature = "discovery")]
pub(crate) fn discovered_tasks(predicate: impl Fn(&str) -> bool) -> impl Iterator<Item = RegisteredTask> {
    inventory::iter::<DiscoverableTask>
        .into_iter()
        .filter(move |task| predicate(task.module))
        .map(|task| (task.register)())
}

/// Whether the path is that of the module, or of one in it.
#[cfg(feature = "discovery")]
pub(crate) fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Lets the task be found.
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

/// Nobody looks for the task.
#[cfg(not(feature = "discovery"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __discover {
    ($task:ident) => {};
}
