//! What a task is.

pub(crate) mod blocking;
pub(crate) mod context;
pub(crate) mod middleware;
pub(crate) mod output;
pub(crate) mod worker_handle;

use std::any::TypeId;
use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::periodic::PeriodicTask;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::options::JobOptions;
use crate::retry::{Retry, StalledJobPolicy};
use crate::task::context::JobContext;
use crate::task::middleware::Middleware;
use crate::task::output::TaskOutput;

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
    /// The name under which jobs ask for this task: at most 128 bytes, and unique in an application. Do not change it
    /// while jobs carry it; add an [alias](Self::aliases) instead. A namespace is a part of it, as in `mails:welcome`.
    const NAME: &'static str;

    /// What `run` returns: nothing, or a `Result` whose error says why the task failed.
    type Output: TaskOutput;

    /// Further names under which a worker finds this task, each at most 128 bytes: its former names, which jobs may still
    /// carry. Default: none.
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
        JobToDefer::new(Self::NAME, self, Self::defaults())
    }
}

impl PeriodicTask {
    /// The task, on the schedule of this cron expression: five fields, or six with seconds last. See
    /// [`Cron`](crate::Cron).
    ///
    /// An invalid expression is an error when the application is built.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn clean_up(timestamp: i64) { let _ = timestamp; }
    /// let nightly = PeriodicTask::new::<clean_up>("0 3 * * *");
    /// ```
    pub fn new<T: Task>(cron: impl Into<String>) -> Self {
        Self::of(TypeId::of::<T>(), T::NAME, cron.into(), |args| T::deserialize(args).map(drop))
    }
}
