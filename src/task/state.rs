//! Shared values as parameters of tasks.

use std::any::{TypeId, type_name};
use std::ops::Deref;
use std::sync::Arc;

use crate::error::Error;
use crate::task::context::JobContext;

/// A shared value as a parameter of a function with [`#[task]`](macro@crate::task). It is not an argument of the job.
///
/// The parameter can have any position, and there can be several. [`AppBuilder::build`](crate::AppBuilder::build)
/// returns an error if the application has no value of the type. A value that a [worker](crate::Worker::state) or a
/// [middleware](JobContext::with_state) adds takes precedence. If only they have one, use [`JobContext::state`].
///
/// The macro recognises the type by its name. So write `State<…>` in the signature rather than an alias.
///
/// # Example
///
/// ```
/// use procrastinate::{State, task};
///
/// struct Settings {
///     sender: String,
/// }
///
/// #[task]
/// async fn greet(settings: State<Settings>, name: String) {
///     println!("Dear {name}, yours {}", settings.sender);
/// }
///
/// let job = greet("Grace".into());
/// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
/// let settings = Settings { sender: "Ada".into() };
/// let app = procrastinate::App::builder(connector).state(settings).task::<greet>().build()?;
/// # Ok(())
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// // In a unit test of the code alone:
/// greet::body(State::new(Settings { sender: "Ada".into() }), "Grace".into()).await;
/// # });
/// ```
#[derive(Debug)]
pub struct State<T>(Arc<T>);

impl<T: Send + Sync + 'static> State<T> {
    /// Makes the parameter from a value, for a call of `name::body(…)` in a test.
    ///
    /// # Example
    ///
    /// See [`State`].
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// Returns the shared value of this type from the context of a job, as the macro does.
    ///
    /// # Errors
    ///
    /// [`Error::MissingState`] if there is no such value.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobContext, State};
    ///
    /// struct Settings { sender: String }
    ///
    /// fn settings_of(context: &JobContext) -> Result<State<Settings>, procrastinate::Error> {
    ///     State::of(context)
    /// }
    /// ```
    pub fn of(context: &JobContext) -> Result<Self, Error> {
        context.shared_state().map(Self)
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A type of which a task needs a shared value. See [`Task::required_state`](crate::Task::required_state).
///
/// # Example
///
/// ```
/// use procrastinate::RequiredState;
///
/// struct Settings;
///
/// let required = vec![RequiredState::of::<Settings>()];
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequiredState {
    pub(crate) id: TypeId,
    /// The name of the type, for messages.
    pub(crate) name: &'static str,
}

impl RequiredState {
    /// Requires a value of this type.
    ///
    /// # Example
    ///
    /// See [`RequiredState`].
    #[must_use]
    pub fn of<T: Send + Sync + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}
