//! Middleware: code that runs before and after a task.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::task::context::JobContext;
use crate::task::output::{CannotRun, CannotRunYet, TaskResult};
use crate::task::panicked::TaskPanicked;

/// Code that runs around tasks: an `async fn` that takes the job's context and the next step.
///
/// It calls `next.run(context)` and returns the result. It can also add [state](JobContext::with_state) to the context,
/// return a different result, or stop the worker. If a middleware swallows an error, the job succeeds. If it does not
/// call `next`, the job ends without running its task. A panic of the task is an error too: a
/// [`TaskPanicked`](crate::TaskPanicked).
///
/// There are three levels, from the outside in:
///
/// | level | how to add it | runs around |
/// |---|---|---|
/// | worker | [`Worker::worker_middleware`](crate::Worker::worker_middleware) | every job, even if its task is unknown |
/// | all tasks | [`Worker::task_middleware`](crate::Worker::task_middleware) | every task |
/// | one task | `#[task(middleware = [name])]`, [`Task::middleware`](crate::Task::middleware) | this task |
///
/// Within a level, the first one you add is the outermost.
///
/// # Example
///
/// ```
/// use std::time::Instant;
/// use procrastinate::{JobContext, Next, TaskResult, task};
///
/// async fn measured(context: JobContext, next: Next) -> TaskResult {
///     let started = Instant::now();
///     let task = context.task_name().to_owned();
///     let result = next.run(context).await;
///     println!("{task} took {:?}", started.elapsed());
///     result
/// }
///
/// #[task(middleware = [measured])]
/// async fn count(to: u64) {
///     println!("{}", (1..=to).sum::<u64>());
/// }
/// # let job = count(3);
/// # fn example(app: procrastinate::App) {
/// let worker = app.worker().task_middleware(measured);
/// # }
/// ```
#[derive(Clone)]
pub struct Middleware(Arc<dyn Fn(JobContext, Next) -> BoxFuture<'static, TaskResult> + Send + Sync>);

impl<F, Fut> From<F> for Middleware
where
    F: Fn(JobContext, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = TaskResult> + Send + 'static,
{
    fn from(middleware: F) -> Self {
        Self(Arc::new(move |context, next| middleware(context, next).boxed()))
    }
}

impl fmt::Debug for Middleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Middleware").finish_non_exhaustive()
    }
}

/// The next step of a middleware: another middleware, or the task.
///
/// # Example
///
/// ```
/// use procrastinate::{JobContext, Next, TaskResult};
///
/// async fn nothing_more(context: JobContext, next: Next) -> TaskResult {
///     next.run(context).await
/// }
/// # let middleware = procrastinate::Middleware::from(nothing_more);
/// ```
#[derive(Debug)]
#[must_use = "the task does not run unless `next.run(context)` is called"]
pub struct Next {
    levels: [Arc<[Middleware]>; 3],
    level: usize,
    position: usize,
    end: End,
}

/// The innermost step, inside all middleware.
#[derive(Debug)]
pub(crate) enum End {
    Task(fn(JobContext) -> BoxFuture<'static, TaskResult>),
    /// The job cannot run, for this reason.
    Refusal(String),
    /// The job cannot run yet, for this reason, and runs again after this delay.
    NotYet(String, Duration),
}

impl Next {
    /// Creates the chain of the worker's middleware, the middleware of all tasks, and the task's own.
    pub(crate) fn new(levels: [Arc<[Middleware]>; 3], end: End) -> Self {
        Self { levels, level: 0, position: 0, end }
    }

    /// Runs the next step and waits for its result.
    ///
    /// # Errors
    ///
    /// The error of the task or of an inner middleware. It is a [`TaskPanicked`] if the task panicked.
    ///
    /// # Example
    ///
    /// See [`Next`].
    pub async fn run(mut self, context: JobContext) -> TaskResult {
        match self.pop() {
            Some(middleware) => (middleware.0)(context, self).await,
            None => match self.end {
                End::Task(run) => {
                    let caught = AssertUnwindSafe(run(context)).catch_unwind().await;
                    caught.unwrap_or_else(|panic| Err(TaskPanicked::caught(&*panic).into()))
                }
                End::Refusal(reason) => Err(CannotRun(reason).into()),
                End::NotYet(reason, delay) => Err(CannotRunYet::new(reason, delay).into()),
            },
        }
    }

    fn pop(&mut self) -> Option<Middleware> {
        while let Some(middlewares) = self.levels.get(self.level) {
            if let Some(middleware) = middlewares.get(self.position) {
                self.position += 1;
                return Some(middleware.clone());
            }
            self.level += 1;
            self.position = 0;
        }
        None
    }
}
