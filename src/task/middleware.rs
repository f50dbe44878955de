//! Code around tasks: what sees a job before and after its task.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::task::context::JobContext;
use crate::task::output::{CannotRun, TaskResult};

/// Code around tasks: an `async fn` of two arguments, the job's context and what is to be run next.
///
/// It calls `next.run(context)` and returns the result. It may look at both, put [state](JobContext::with_state) into the
/// context, return another result, or stop the worker. A middleware that swallows an error has the job succeed, and one
/// that does not call `next` has it end without its task.
///
/// There are three levels, the outermost first:
///
/// | level | given by | runs around |
/// |---|---|---|
/// | of the worker | [`Worker::worker_middleware`](crate::Worker::worker_middleware) | every job, also one whose task is not known |
/// | of its tasks | [`Worker::task_middleware`](crate::Worker::task_middleware) | every task |
/// | of one task | `#[task(middleware = [name])]`, [`Task::middleware`](crate::Task::middleware) | this task |
///
/// Within a level the first one given is the outermost.
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

/// What a middleware runs: the next one, or the task.
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

/// What stands within all middlewares.
#[derive(Debug)]
pub(crate) enum End {
    Task(fn(JobContext) -> BoxFuture<'static, TaskResult>),
    /// A job that cannot be run, and why.
    Refusal(String),
}

impl Next {
    /// A job's way through the middleware of the worker, of its tasks, and of the task.
    pub(crate) fn new(levels: [Arc<[Middleware]>; 3], end: End) -> Self {
        Self { levels, level: 0, position: 0, end }
    }

    /// Runs what is next, to its end.
    ///
    /// # Errors
    ///
    /// The task's own, or that of a middleware further in.
    ///
    /// # Example
    ///
    /// See [`Next`].
    pub async fn run(mut self, context: JobContext) -> TaskResult {
        match self.pop() {
            Some(middleware) => (middleware.0)(context, self).await,
            None => match self.end {
                End::Task(run) => run(context).await,
                End::Refusal(reason) => Err(CannotRun(reason).into()),
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
