//! The attributes of the `procrastinate` crate. Use them from there: `procrastinate::task`, `procrastinate::periodic`.

mod argument;
mod options;
mod periodic;
mod task;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a task of a function.
///
/// Under the function's name it writes a struct of the arguments with an implementation of `Task`, and a function that
/// makes a job to defer from the arguments. The code stays callable as `name::body(…)`, for tests of the code alone.
///
/// An `async fn` runs on the runtime; a plain `fn` runs on a thread where blocking is allowed. It returns nothing, or a
/// `Result` whose error turns into `Box<dyn std::error::Error + Send + Sync>`.
///
/// # Options
///
/// | option | meaning | unless given |
/// |---|---|---|
/// | `name = "…"` | the name under which jobs ask for the task: best never changed | the function's name |
/// | `namespace = "…"` | a prefix of the name: `mails` makes `mails:welcome` | none |
/// | `aliases = ["…", …]` | further names under which workers find it: those it had once, which jobs may still carry | none |
/// | `queue = "…"` | the queue of its jobs | `default` |
/// | `priority = …` | the priority of its jobs, higher ones first | 0 |
/// | `lock = "…"` | of the jobs with one lock one runs at a time | none |
/// | `queueing_lock = "…"` | of the jobs with one queueing lock one waits at a time | none |
/// | `retry = …` | what happens when it fails: `true` (again at once, for ever), a number (again, that many times), or any `Retry` such as a `RetryStrategy` | not tried again |
/// | `timeout = "30s"` | how long it may take: a duration written as `"1h 30min"`, `"500ms"` and so on, or an expression of the type `Duration` | the worker's `timeout`, which unless set is without limit |
/// | `stalled = "…"` | what becomes of a job whose worker died: `"retry"`, `"fail"` or `"leave"` | `"retry"` |
/// | `middleware = […]` | what runs around it, the outermost first | nothing |
/// | `pass_context` | the first parameter is the `JobContext`, which is no argument of the job | |
/// | `crate = path` | where the `procrastinate` crate is, if it is imported under another name | `::procrastinate` |
///
/// The queue, the priority, the lock and the queueing lock can be chosen anew for each job. The parameters own their values, and serialize and
/// deserialize with serde; `#[serde(…)]` on a parameter is passed on, such as `#[serde(default)]` on one that was added
/// while jobs without it wait.
///
/// # Example
///
/// ```
/// use procrastinate::task;
///
/// /// Adds.
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
/// By hand it is:
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
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let options = syn::parse_macro_input!(attribute as options::Options);
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    task::expand(&options, function).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a task come round, beside `#[task]`, above or below it. It can stand there several times.
///
/// # Options
///
/// | option | meaning | unless given |
/// |---|---|---|
/// | `cron = "…"` | when: five columns, or six with seconds last; see `Cron` | it must be given |
/// | `periodic_id = "…"` | tells apart several schedules of a task: best never changed | empty |
/// | `args(name = …, …)` | the arguments of the jobs beside `timestamp`, checked by the compiler | none |
/// | `queue`, `priority`, `lock`, `queueing_lock` | of these jobs | the task's |
/// | `time_zone = "…"` | by whose clock, with the feature `chrono-tz` | UTC |
/// | `max_delay = …` | a `Duration`: how old a tick may be to be deferred still | the application's |
/// | `missed = …` | a `MissedTicks`: what happens to ticks for which no worker was there | as Procrastinate does |
///
/// The jobs have the tick as the argument `timestamp`, in Unix seconds; a task that has no such parameter does without.
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
///     println!("the report for {customer} of {timestamp}");
/// }
///
/// // By hand it works as ever.
/// let job = report(0, "Ada".into());
/// # assert_eq!(job.task_name(), "report");
/// ```
#[proc_macro_attribute]
pub fn periodic(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    periodic::leave_to_task(&attribute.into(), function).unwrap_or_else(syn::Error::into_compile_error).into()
}
