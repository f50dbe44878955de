//! The attributes that turn functions into tasks. Their code is in the crate `procrastinate-macros`. Their examples
//! need types of this crate, so the documentation is here.

/// Turns a function into a task.
///
/// The attribute generates two items with the function's name: a struct of the arguments that implements `Task`, and a
/// function that makes a job from the arguments. `name::body(…)` runs the code itself, without a job. Use it in tests.
///
/// An `async fn` runs on the runtime. A plain `fn` runs on a thread where blocking is allowed. A task returns nothing,
/// or a `Result`. Its error is an error type, a type that converts into `Box<dyn std::error::Error + Send + Sync>`, or
/// any other type that implements `Display`, `Debug`, `Send` and `Sync`. The last becomes a `WrappedError`.
///
/// # Options
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "…"` | the task's name in its jobs; best never changed | the function's name |
/// | `namespace = "…"` | a prefix of the name: `mails` makes `mails:welcome` | none |
/// | `aliases = ["…", …]` | former names, which older jobs may still have | none |
/// | `queue = "…"` | the queue of its jobs | `default` |
/// | `priority = …` | the priority of its jobs; higher ones are fetched first | 0 |
/// | `lock = "…"` | jobs that share a lock run one at a time; may contain arguments | none |
/// | `queueing_lock = "…"` | only one pending job can hold it; may contain arguments | none |
/// | `limit_key = "…"` | the key for limits of each key; may contain arguments | none |
/// | `start_within = "1h"` | how soon its jobs must start; otherwise they end as cancelled; a text or an expression of the type `Duration` | no limit |
/// | `unique = "…"` | only one job can hold the key, until it ends; may contain arguments | none |
/// | `unique_for = "1h"` | for how long after its end a job holds the unique key; a text or an expression of the type `Duration` | 0 |
/// | `if_enqueued = "…"` | what deferring does if the queueing lock is taken: `"fail"`, `"keep"` (keeps the pending job), `"replace"` (replaces it: debounce) or `"replace_except_schedule"` | `"fail"` |
/// | `unless_enqueued` | the same as `if_enqueued = "keep"`: keeps the job with the queueing lock or unique key, and defers none | a taken lock or key is an error |
/// | `retry = …` | when to retry a failed job: `true` (immediately, without a limit), a number of immediate retries, or any `Retry` such as a `RetryStrategy` | not retried |
/// | `timeout = "30s"` | the time limit of each attempt: a text such as `"1h 30min"` or `"500ms"`, or an expression of the type `Duration` | the worker's `timeout`, by default no limit |
/// | `stalled = "…"` | what happens to a job whose worker died: `"retry"`, `"fail"` or `"leave"` | `"retry"` |
/// | `middleware = […]` | the middleware of the task, outermost first | none |
/// | `pass_context` | passes the `JobContext` as the first parameter, which is not an argument of the job | not passed |
/// | `crate = path` | the path of the `procrastinate` crate, if it is imported under another name | `::procrastinate` |
///
/// A lock or key can contain arguments and their fields, with the formats of `format!`:
/// `lock = "customer:{order.customer}"`, `queueing_lock = "import:{page:03}"`. Write `{{` and `}}` for braces.
///
/// Each job can override the options of jobs, from `queue` to `unless_enqueued`. The parameters must be owned values
/// that serialize and deserialize with serde. A parameter of the type `State<T>` is not an argument, but a shared value
/// of the application. Attributes such as `#[serde(default)]` on a parameter are passed on. Use that one for a
/// parameter that older pending jobs lack.
///
/// # Example
///
/// ```
/// use procrastinate::task;
///
/// /// Adds two numbers.
/// #[task(queue = "sums")]
/// async fn sum(a: i64, b: i64) -> Result<i64, std::num::TryFromIntError> {
///     Ok(a + b)
/// }
///
/// let job = sum(3, 5).lock("customer-7");
/// assert_eq!(job.task_name(), "sum");
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// assert_eq!(sum::body(3, 5).await, Ok(8));
/// # });
/// ```
///
/// The same task written without the macro:
///
/// ```
/// use procrastinate::{JobContext, JobOptions, Task};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Sum { a: i64, b: i64 }
///
/// impl Task for Sum {
///     const NAME: &'static str = "sum";
///     type Output = ();
///     fn defaults() -> JobOptions { JobOptions::new().queue("sums") }
///     async fn run(self, _context: JobContext) { println!("{}", self.a + self.b) }
/// }
///
/// let job = Sum { a: 3, b: 5 }.job().lock("customer-7");
/// ```
pub use procrastinate_macros::task;

/// Runs a task on a schedule. Use it together with `#[task]`, above or below it, once for each schedule.
///
/// # Options
///
/// | option | meaning | default |
/// |---|---|---|
/// | `cron = "…"` | five fields, or six with the second last; see `Cron` | this or `every` is required |
/// | `every = "…"` | an interval such as `"10min"`, or an expression of the type `Duration`, in whole seconds; the ticks are its multiples since 1970 | this or `cron` is required |
/// | `periodic_id = "…"` | tells several schedules of one task apart; never change it | empty |
/// | `args(name = …, …)` | the other arguments, checked by the compiler | none |
/// | `queue`, `priority`, `lock`, `queueing_lock`, `limit_key` | options of these jobs | the task's |
/// | `start_within = …` | a `Duration`: how soon the job of a tick must start; otherwise it ends as cancelled | the task's |
/// | `time_zone = "…"` | an IANA name such as `Europe/Vienna`, with the feature `chrono-tz` | UTC |
/// | `max_delay = …` | a `Duration`: how old a tick may be when it is deferred | 10 minutes, or the application's |
/// | `missed = …` | a `MissedTicks`: what to do with missed ticks | Procrastinate's rule |
/// | `overlap = …` | an `Overlap`: what to do with a tick while the last job is pending or running | it becomes a job |
///
/// Each job gets its tick as the argument `timestamp`, in Unix seconds. The task may also have no such parameter.
///
/// # Example
///
/// ```
/// use procrastinate::{periodic, task};
///
/// #[periodic(cron = "0 8 * * mon-fri", periodic_id = "workdays", args(customer = "Ada"))]
/// #[periodic(cron = "0 10 * * sat,sun", periodic_id = "weekends", args(customer = "Grace"), queue = "slow")]
/// #[task]
/// async fn report(timestamp: i64, customer: String) {
///     println!("the report for {customer} at {timestamp}");
/// }
///
/// // You can still defer the task yourself.
/// let job = report(0, "Ada".into());
/// # assert_eq!(job.task_name(), "report");
/// ```
pub use procrastinate_macros::periodic;
