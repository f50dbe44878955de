//! Tasks: functions that can run later, in another process.

pub(crate) mod attributes;
pub(crate) mod blocking;
pub(crate) mod context;
pub(crate) mod middleware;
pub(crate) mod output;
pub(crate) mod panicked;
pub mod returned;
pub(crate) mod state;
pub(crate) mod worker_handle;
pub(crate) mod wrapped_error;

use std::any::TypeId;
use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::periodic::{PeriodicTask, WantedRecurrence};
use crate::queue::defer::JobToDefer;
use crate::queue::defer::options::JobOptions;
use crate::retry::{Retry, StalledJobPolicy};
use crate::task::context::JobContext;
use crate::task::middleware::Middleware;
use crate::task::output::TaskOutput;
use crate::task::state::RequiredState;

/// A function that can run later and in another process: its arguments, and the code that runs with them.
///
/// The struct holds the arguments. It is stored as a JSON object with the names of its fields, which are the keyword
/// arguments of a Python task. [`#[task]`](macro@crate::task) on a function writes this implementation for you. Write
/// it yourself if you need full control.
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
    /// The task name that jobs carry: at most 128 bytes, and unique in an application. A namespace is part of it, as in
    /// `mails:welcome`. Do not change the name while jobs carry it. Add an [alias](Self::aliases) instead.
    const NAME: &'static str;

    /// The return type of `run`: `()`, or a `Result` whose error says why the task failed.
    type Output: TaskOutput;

    /// Returns further names under which workers find this task, each at most 128 bytes. Default: none. Use it for
    /// former names that jobs can still carry.
    fn aliases() -> &'static [&'static str] {
        &[]
    }

    /// Returns the default options of all of the task's jobs. Default: none, which means the queue `default` and
    /// priority
    /// 0. For options that depend on the arguments, see [`options`](Self::options).
    fn defaults() -> JobOptions {
        JobOptions::new()
    }

    /// Returns the default options of a job with these arguments. Default: [`defaults`](Self::defaults). Implement it
    /// for a lock that depends on the arguments.
    ///
    /// It applies to each job that this program makes: by [`job`](Self::job), by
    /// [`App::configure_task`](crate::App::configure_task), and on a schedule. Other programs do not know it.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobContext, JobOptions, Task};
    /// # use serde::{Deserialize, Serialize};
    ///
    /// # #[derive(Serialize, Deserialize)]
    /// struct Charge {
    ///     customer: i64,
    /// }
    ///
    /// impl Task for Charge {
    ///     const NAME: &'static str = "charge";
    ///     type Output = ();
    ///
    ///     fn options(&self) -> JobOptions {
    ///         Self::defaults().lock(format!("customer:{}", self.customer))
    ///     }
    ///
    ///     async fn run(self, _context: JobContext) {
    ///         println!("charging customer {}", self.customer);
    ///     }
    /// }
    /// # let job = Charge { customer: 7 }.job();
    /// ```
    fn options(&self) -> JobOptions {
        Self::defaults()
    }

    /// Returns the retry policy for failed attempts. Default: no retry.
    fn retry() -> Retry {
        Retry::default()
    }

    /// Returns how long an attempt may take. Default: the worker's [`timeout`](crate::Worker::timeout), which is
    /// unlimited by default.
    ///
    /// After that time an async task is cancelled. Code inside [`blocking`](crate::blocking) must check
    /// [`JobContext::should_abort`]. The attempt fails with [`TimedOut`](crate::TimedOut).
    fn timeout() -> Option<Duration> {
        None
    }

    /// Returns what happens to a job whose worker died while it ran. Default: the job is retried.
    fn stalled() -> StalledJobPolicy {
        StalledJobPolicy::default()
    }

    /// Returns the types of which the application must have a shared value. Default: none.
    ///
    /// [`AppBuilder::build`](crate::AppBuilder::build) checks it. The macro lists the types of the parameters
    /// [`State<…>`](crate::State).
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{Error, JobContext, RequiredState, Task};
    /// # use serde::{Deserialize, Serialize};
    ///
    /// struct Settings {
    ///     sender: String,
    /// }
    ///
    /// # #[derive(Serialize, Deserialize)]
    /// struct Greet {
    ///     name: String,
    /// }
    ///
    /// impl Task for Greet {
    ///     const NAME: &'static str = "greet";
    ///     type Output = Result<(), Error>;
    ///
    ///     fn required_state() -> Vec<RequiredState> {
    ///         vec![RequiredState::of::<Settings>()]
    ///     }
    ///
    ///     async fn run(self, context: JobContext) -> Result<(), Error> {
    ///         println!("Dear {}, yours {}", self.name, context.state::<Settings>()?.sender);
    ///         Ok(())
    ///     }
    /// }
    /// # let job = Greet { name: "Grace".into() }.job();
    /// ```
    fn required_state() -> Vec<RequiredState> {
        Vec::new()
    }

    /// Returns the middleware of this task, the outermost first. Default: none.
    fn middleware() -> Vec<Middleware> {
        Vec::new()
    }

    /// Returns the schedules on which the task is deferred automatically. Default: none.
    fn periodic() -> Vec<PeriodicTask> {
        Vec::new()
    }

    /// Runs the task.
    ///
    /// Put blocking code into [`blocking`](crate::blocking). The macro does that for a plain `fn`.
    fn run(self, context: JobContext) -> impl Future<Output = Self::Output> + Send;

    /// Returns a job of this task with these arguments, ready to be deferred. You do not have to implement this method.
    fn job(self) -> JobToDefer {
        let options = self.options();
        JobToDefer::new(Self::NAME, self, options)
    }
}

impl PeriodicTask {
    /// Creates a schedule of the task from a cron expression: five fields, or six with seconds last. See
    /// [`Cron`](crate::Cron).
    ///
    /// If the expression is invalid, [`AppBuilder::build`](crate::AppBuilder::build) returns an error.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn clean_up(timestamp: i64) { let _ = timestamp; }
    /// let nightly = PeriodicTask::new::<clean_up>("0 3 * * *");
    /// ```
    pub fn new<T: Task>(cron: impl Into<String>) -> Self {
        Self::of(TypeId::of::<T>(), T::NAME, WantedRecurrence::Cron(cron.into()))
    }

    /// Creates a schedule of the task with an interval: a whole number of seconds, at least 1.
    ///
    /// The ticks are the multiples of the interval since the beginning of 1970 in UTC, so that all programs agree on
    /// them. With ten minutes, they are at 0:00, 0:10 and so on. To run a task once a day at a certain time, use
    /// [`new`](Self::new).
    ///
    /// If the interval is invalid, [`AppBuilder::build`](crate::AppBuilder::build) returns an error.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{PeriodicTask, task};
    /// # #[task] async fn clean_up(timestamp: i64) { let _ = timestamp; }
    /// let often = PeriodicTask::every::<clean_up>(std::time::Duration::from_secs(600));
    /// ```
    pub fn every<T: Task>(interval: Duration) -> Self {
        Self::of(TypeId::of::<T>(), T::NAME, WantedRecurrence::Every(interval))
    }
}
