//! What a task is, and how a worker comes from a job's name and arguments to running code.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job_context::JobContext;
use crate::job_options::JobOptions;
use crate::job_to_defer::JobToDefer;
use crate::retry::Retry;

/// Why a task failed: any error.
pub type TaskError = Box<dyn StdError + Send + Sync>;

/// A piece of work that can be deferred: its arguments, and the code that runs with them.
///
/// The struct is the arguments; it travels as a JSON object with the fields' names, which for a task that is called from
/// Python are the keyword arguments. [`#[task]`](macro@crate::task) on a function writes this implementation; by hand it
/// is the same in ten lines.
///
/// # Example
///
/// ```
/// use procrastinate::{JobContext, JobOptions, Task};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendInvoice {
///     order: i64,
/// }
///
/// impl Task for SendInvoice {
///     const NAME: &'static str = "send_invoice";
///     type Output = Result<(), std::io::Error>;
///
///     fn defaults() -> JobOptions {
///         JobOptions::new().queue("invoices")
///     }
///
///     async fn run(self, _context: JobContext) -> Self::Output {
///         println!("the invoice of order {}", self.order);
///         Ok(())
///     }
/// }
///
/// let job = SendInvoice { order: 7 }.job().lock("order-7");
/// assert_eq!(job.task_name(), "send_invoice");
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name under which jobs ask for this task: at most 128 bytes, unique in an application, and best never changed,
    /// since jobs that wait carry it.
    const NAME: &'static str;

    /// What `run` returns: nothing, or a `Result` whose error says why the task failed.
    type Output: TaskOutput;

    /// The options of its jobs where none are given. Unless written: none, so queue `default` and priority 0.
    fn defaults() -> JobOptions {
        JobOptions::new()
    }

    /// What happens when it fails. Unless written: it is not tried again.
    fn retry() -> Retry {
        Retry::default()
    }

    /// Does the work.
    ///
    /// Code that blocks the thread belongs into [`blocking`], which plain `fn` tasks of the macro use.
    fn run(self, context: JobContext) -> impl Future<Output = Self::Output> + Send;

    /// A job of this task with these arguments, to be deferred. There is no need to write this one.
    fn job(self) -> JobToDefer {
        JobToDefer::new(Self::NAME, self, Self::defaults())
    }
}

/// What a task may return.
///
/// | returned | the job |
/// |---|---|
/// | `()` | succeeds |
/// | `Ok(…)` | succeeds; the value is dropped |
/// | `Err(…)` | is tried again if the task's [`retry`](Task::retry) says so, else fails; the error with all its sources goes to the log |
/// | nothing, it panics | the same, with the panic's message |
///
/// The error is anything that turns into a `Box<dyn Error + Send + Sync>`: an error type, `anyhow::Error`, a `String`.
///
/// # Example
///
/// ```
/// use procrastinate::TaskOutput;
///
/// assert!(Ok::<i64, String>(8).into_result().is_ok());
/// assert_eq!(Err::<(), _>("no paper").into_result().unwrap_err().to_string(), "no paper");
/// ```
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    note = "it returns nothing, or a `Result` whose error turns into `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait TaskOutput: Send {
    /// Whether the task ended well.
    ///
    /// # Errors
    ///
    /// The task's own.
    fn into_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), TaskError> {
        Ok(())
    }
}

impl<T: Send, E: Into<TaskError> + Send> TaskOutput for Result<T, E> {
    fn into_result(self) -> Result<(), TaskError> {
        self.map(drop).map_err(Into::into)
    }
}

/// Runs code that blocks its thread on one of the runtime's threads for that, and waits for it. A panic comes through.
///
/// # Example
///
/// ```
/// use procrastinate::{JobContext, Task};
/// # use serde::{Deserialize, Serialize};
///
/// # #[derive(Serialize, Deserialize)]
/// struct Resize { picture: i64 }
///
/// impl Task for Resize {
///     const NAME: &'static str = "resize";
///     type Output = ();
///
///     async fn run(self, _context: JobContext) {
///         procrastinate::blocking(move || println!("resizing picture {}", self.picture)).await
///     }
/// }
/// ```
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels blocking work, and it polls nothing any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A task as an application keeps it: its type is gone, its name and its code are left.
#[derive(Clone, Copy)]
pub(crate) struct RegisteredTask {
    pub(crate) name: &'static str,
    defaults: fn() -> JobOptions,
    retry: fn() -> Retry,
    run: fn(JobContext) -> BoxFuture<'static, Result<(), TaskError>>,
}

impl RegisteredTask {
    pub(crate) fn of<T: Task>() -> Self {
        Self { name: T::NAME, defaults: T::defaults, retry: T::retry, run: |context| run_task::<T>(context).boxed() }
    }

    /// The options of the task's jobs where none are given.
    pub(crate) fn defaults(&self) -> JobOptions {
        (self.defaults)()
    }

    /// What happens when the task fails.
    pub(crate) fn retry(&self) -> Retry {
        (self.retry)()
    }

    /// Runs the task with the arguments of the context's job.
    pub(crate) fn run(&self, context: JobContext) -> BoxFuture<'static, Result<(), TaskError>> {
        (self.run)(context)
    }
}

impl fmt::Debug for RegisteredTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredTask").field("name", &self.name).finish_non_exhaustive()
    }
}

async fn run_task<T: Task>(context: JobContext) -> Result<(), TaskError> {
    let task = T::deserialize(&context.job().args)
        .map_err(|error| format!("the job's arguments do not fit the task \"{}\": {error}", T::NAME))?;
    task.run(context).await.into_result()
}
