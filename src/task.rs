//! What a task is, and how a worker comes from a job's name and arguments to running code.

use std::any::{TypeId, type_name};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::CannotRun;
use crate::checks::check_name;
use crate::error::Error;
use crate::job_context::JobContext;
use crate::job_options::JobOptions;
use crate::job_to_defer::JobToDefer;
use crate::middleware::{Middleware, TaskResult};
use crate::periodic::PeriodicTask;
use crate::retry::{Retry, StalledJobPolicy};
use crate::task_name::{NamedTask, name_of};

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
    /// since jobs that wait carry it. In a [`Blueprint`](crate::Blueprint) it has the namespaces before it.
    const NAME: &'static str;

    /// What `run` returns: nothing, or a `Result` whose error says why the task failed.
    type Output: TaskOutput;

    /// Further names under which a worker finds this task, each at most 128 bytes: those it had once, which jobs may still
    /// carry. In a [`Blueprint`](crate::Blueprint) they have the namespaces before them, too. Unless written: none.
    fn aliases() -> &'static [&'static str] {
        &[]
    }

    /// The options of its jobs where none are given. Unless written: none, so queue `default` and priority 0.
    fn defaults() -> JobOptions {
        JobOptions::new()
    }

    /// What happens when it fails. Unless written: it is not tried again.
    fn retry() -> Retry {
        Retry::default()
    }

    /// How long it may take. Unless written: as long as the worker's [`timeout`](crate::Worker::timeout) lets it, which
    /// unless set is without limit. An async task is cancelled then, and code within [`blocking`](crate::blocking) should
    /// ask whether to [abort](JobContext::should_abort); the attempt has failed with [`TimedOut`](crate::TimedOut).
    fn timeout() -> Option<Duration> {
        None
    }

    /// What becomes of a job whose worker died while it ran. Unless written: it is tried again.
    fn stalled() -> StalledJobPolicy {
        StalledJobPolicy::default()
    }

    /// What runs around the task, the outermost first. Unless written: nothing.
    fn middleware() -> Vec<Middleware> {
        Vec::new()
    }

    /// When it comes round by itself, with which arguments. Unless written: never.
    fn periodic() -> Vec<PeriodicTask> {
        Vec::new()
    }

    /// Does the work.
    ///
    /// Code that blocks the thread belongs into [`blocking`](crate::blocking), which plain `fn` tasks of the macro use.
    fn run(self, context: JobContext) -> impl Future<Output = Self::Output> + Send;

    /// A job of this task with these arguments, to be deferred. There is no need to write this one.
    fn job(self) -> JobToDefer {
        JobToDefer::new(task_name::<Self>(), self, Self::defaults())
    }
}

/// What a task may return.
///
/// | returned | the job |
/// |---|---|
/// | `()` | succeeds |
/// | `Ok(…)` | succeeds; the value is dropped |
/// | `Err(…)` | is tried again if the task's [`retry`](Task::retry) says so, else fails; the error with all its sources goes to the log |
/// | `Err(…)` with a [`TaskAnswer`](crate::TaskAnswer) or [`JobAborted`](crate::JobAborted) in it | what that says: again at a time, again without counting this attempt, not again, aborted |
/// | nothing, it panics | as after an error; the message of the panic and its place are kept |
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

/// The name of a task in this process, with the namespaces that it was added in.
fn task_name<T: Task>() -> String {
    name_of(TypeId::of::<T>(), T::NAME)
}

/// A task as an application keeps it: its type is gone, its name, its settings and its code are left.
pub(crate) struct RegisteredTask {
    /// The type that it was.
    pub(crate) task: TypeId,
    /// The name of that type, for messages.
    pub(crate) type_name: &'static str,
    /// The name that it was declared with.
    pub(crate) own_name: &'static str,
    /// The name of its jobs, with the namespaces.
    pub(crate) name: String,
    /// Its further names, with the namespaces.
    pub(crate) aliases: Vec<String>,
    /// The options of its jobs where none are given.
    pub(crate) defaults: JobOptions,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stalled: StalledJobPolicy,
    pub(crate) middleware: Arc<[Middleware]>,
    periodic: fn() -> Vec<PeriodicTask>,
    run: fn(JobContext) -> BoxFuture<'static, TaskResult>,
}

impl RegisteredTask {
    pub(crate) fn of<T: Task>() -> Self {
        Self {
            task: TypeId::of::<T>(),
            type_name: type_name::<T>(),
            own_name: T::NAME,
            name: T::NAME.to_owned(),
            aliases: T::aliases().iter().map(|&alias| alias.to_owned()).collect(),
            defaults: T::defaults(),
            retry: T::retry(),
            timeout: T::timeout(),
            stalled: T::stalled(),
            middleware: T::middleware().into(),
            periodic: T::periodic,
            run: |context| run_task::<T>(context).boxed(),
        }
    }

    /// Checks what the task was declared with.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name("task name", &self.name)?;
        for alias in &self.aliases {
            check_name("alias of a task", alias)?;
        }
        self.defaults.check()?;
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            let rule = format!("the task \"{}\" needs longer than nothing", self.name);
            return Err(Error::invalid("timeout", "0s", rule));
        }
        Ok(())
    }

    /// What it is called here.
    pub(crate) fn named(&self) -> NamedTask {
        let Self { task, type_name, own_name, ref name, .. } = *self;
        NamedTask { task, type_name, own_name, name: name.clone() }
    }

    /// When the task comes round by itself.
    pub(crate) fn periodic(&self) -> Vec<PeriodicTask> {
        (self.periodic)()
    }

    /// Runs the task with the arguments of the context's job.
    pub(crate) fn run(&self, context: JobContext) -> BoxFuture<'static, TaskResult> {
        (self.run)(context)
    }
}

impl fmt::Debug for RegisteredTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredTask").field("name", &self.name).finish_non_exhaustive()
    }
}

async fn run_task<T: Task>(context: JobContext) -> TaskResult {
    let task: T =
        serde_path_to_error::deserialize(&context.job().args).map_err(|error| misfit(&task_name::<T>(), &error))?;
    task.run(context).await.into_result()
}

fn misfit(task_name: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> TaskError {
    let path = error.path().to_string();
    let place = if path == "." { String::new() } else { format!(" at {path}") };
    CannotRun(format!("the job's arguments do not fit the task \"{task_name}\"{place}: {}", error.inner())).into()
}
