//! What a task can know of the job it runs for.

use std::any::type_name;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use futures_util::task::AtomicWaker;

use crate::error::Error;
use crate::job::interruption::AbortReason;
use crate::job::{Job, JobId};
use crate::queue::defer::JobToDefer;
use crate::queue::job_manager::manager::JobManager;
use crate::support::clock;
use crate::support::extensions::Extensions;
use crate::task::worker_handle::WorkerHandle;

/// What a task can know of the job it runs for, and the queue, so that it can defer further jobs.
///
/// A hand-written task gets it as an argument; a function with `#[task(pass_context)]` takes it as its first one. It is
/// cheap to clone.
///
/// # Example
///
/// ```
/// use procrastinate::{JobContext, task};
///
/// #[task(pass_context)]
/// async fn import(context: JobContext, page: u32) -> Result<(), procrastinate::Error> {
///     println!("job {} imports page {page}, attempt {}", context.job().id, context.job().attempts + 1);
///     if page < 10 {
///         context.defer(import(page + 1)).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct JobContext {
    shared: Arc<JobParts>,
    state: Extensions,
}

struct JobParts {
    job_manager: JobManager,
    job: Job,
    worker: WorkerOfJob,
    start_timestamp: DateTime<Utc>,
    is_last_attempt: bool,
    /// Written once, by the worker or by the job's own timeout.
    abort_reason: OnceLock<AbortReason>,
    /// Who waits to hear of it: the worker, around the task.
    waits_for_abort: AtomicWaker,
}

/// What a context knows of the worker: the same for all of its jobs.
#[derive(Debug, Clone)]
pub(crate) struct WorkerOfJob {
    pub(crate) name: Arc<str>,
    pub(crate) queues: Option<Arc<[String]>>,
    pub(crate) handle: WorkerHandle,
}

impl JobContext {
    pub(crate) fn new(
        job_manager: JobManager,
        job: Job,
        worker: WorkerOfJob,
        is_last_attempt: bool,
        state: Extensions,
    ) -> Self {
        let shared = JobParts {
            job_manager,
            job,
            worker,
            start_timestamp: clock::now(),
            is_last_attempt,
            abort_reason: OnceLock::new(),
            waits_for_abort: AtomicWaker::new(),
        };
        Self { shared: Arc::new(shared), state }
    }

    /// The queue, on connections from the application's pool.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// use procrastinate::job_manager::list_queues;
    ///
    /// #[task(pass_context)]
    /// async fn count(context: JobContext) -> Result<(), procrastinate::Error> {
    ///     for queue in context.job_manager().execute(list_queues()).await? {
    ///         println!("{}: {} pending jobs", queue.name, queue.todo);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn job_manager(&self) -> &JobManager {
        &self.shared.job_manager
    }

    /// Defers a further job on a connection from the pool: [`JobManager::defer`].
    ///
    /// # Errors
    ///
    /// As [`JobManager::defer`].
    ///
    /// # Example
    ///
    /// See [`JobContext`].
    pub async fn defer(&self, job: JobToDefer) -> Result<JobId, Error> {
        self.job_manager().defer(job).await
    }

    /// The job, as it was when the worker took it: `attempts` does not count the attempt that is running.
    ///
    /// # Example
    ///
    /// See [`JobContext`].
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.shared.job
    }

    /// The name of the task, as the job has it.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// #[task(pass_context)]
    /// async fn speak(context: JobContext) {
    ///     println!("this is {}", context.task_name());
    /// }
    /// ```
    #[must_use]
    pub fn task_name(&self) -> &str {
        &self.shared.job.task_name
    }

    /// The name of the worker that runs the job.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// #[task(pass_context)]
    /// async fn speak(context: JobContext) {
    ///     println!("this is {}", context.worker_name());
    /// }
    /// ```
    #[must_use]
    pub fn worker_name(&self) -> &str {
        &self.shared.worker.name
    }

    /// The queues that the worker serves; `None`: all of them.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// #[task(pass_context)]
    /// async fn speak(context: JobContext) {
    ///     let queues = context.worker_queues().map_or_else(|| "all".to_owned(), |queues| queues.join(", "));
    ///     println!("queues: {queues}");
    /// }
    /// ```
    #[must_use]
    pub fn worker_queues(&self) -> Option<&[String]> {
        self.shared.worker.queues.as_deref()
    }

    /// What stops the worker that runs the job.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobContext, Next, TaskResult};
    ///
    /// /// One job, and no more.
    /// async fn only_one(context: JobContext, next: Next) -> TaskResult {
    ///     context.worker().stop();
    ///     next.run(context).await
    /// }
    /// # let middleware = procrastinate::Middleware::from(only_one);
    /// ```
    #[must_use]
    pub fn worker(&self) -> &WorkerHandle {
        &self.shared.worker.handle
    }

    /// When the job was started, by this machine's clock.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// #[task(pass_context)]
    /// async fn speak(context: JobContext) {
    ///     println!("running since {}", context.start_timestamp());
    /// }
    /// ```
    #[must_use]
    pub fn start_timestamp(&self) -> DateTime<Utc> {
        self.shared.start_timestamp
    }

    /// Whether the job fails for good if this attempt fails: its task is not tried again, or not once more. A strategy of
    /// one's own says so by [`max_attempts`](crate::retry::RetryPolicy::max_attempts).
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// #[task(retry = 5, pass_context)]
    /// async fn call(context: JobContext, number: String) -> Result<(), String> {
    ///     if context.is_last_attempt() {
    ///         println!("somebody has to call {number}");
    ///     }
    ///     Err("no answer".to_owned())
    /// }
    /// # let job = call("1".into());
    /// ```
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.shared.is_last_attempt
    }

    /// Whether the job is to stop. An async task need not ask: it is cancelled at its next await point. Code that blocks
    /// its thread has to, and then returns, with [`JobAborted`](crate::JobAborted) as its error if it is not done.
    ///
    /// # Example
    ///
    /// See [`AbortReason`].
    #[must_use]
    pub fn should_abort(&self) -> bool {
        self.abort_reason().is_some()
    }

    /// Why the job is to stop, if it is.
    ///
    /// # Example
    ///
    /// See [`AbortReason`].
    #[must_use]
    pub fn abort_reason(&self) -> Option<AbortReason> {
        self.shared.abort_reason.get().copied()
    }

    /// The application's value of this type: the one that a [middleware](crate::Middleware) put here, else the worker's
    /// ([`Worker::state`](crate::Worker::state)), else the application's ([`AppBuilder::state`](crate::AppBuilder::state)).
    ///
    /// # Errors
    ///
    /// [`Error::MissingState`], with the types that there are.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobContext, task};
    ///
    /// struct Sender(String);
    ///
    /// #[task(pass_context)]
    /// async fn greet(context: JobContext, name: String) -> Result<(), procrastinate::Error> {
    ///     let Sender(sender) = context.state()?;
    ///     println!("Dear {name}, yours {sender}");
    ///     Ok(())
    /// }
    ///
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector).state(Sender("Ada".into())).task::<greet>().build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, Error> {
        self.state.get().ok_or_else(|| Error::MissingState { wanted: type_name::<T>(), known: self.state.type_names() })
    }

    /// This context with one value more, for a middleware to run the task with. Of two values of one type the task sees
    /// this one.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobContext, Next, TaskResult};
    ///
    /// struct Language(&'static str);
    ///
    /// async fn in_english(context: JobContext, next: Next) -> TaskResult {
    ///     next.run(context.with_state(Language("en"))).await
    /// }
    /// # let middleware = procrastinate::Middleware::from(in_english);
    /// ```
    #[must_use]
    pub fn with_state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Tells the job to stop. The first reason stands. False if it was told already.
    pub(crate) fn abort(&self, reason: AbortReason) -> bool {
        let is_first = self.shared.abort_reason.set(reason).is_ok();
        self.shared.waits_for_abort.wake();
        is_first
    }

    /// Ready when the job is told to stop.
    pub(crate) fn poll_abort(&self, context: &Context<'_>) -> Poll<()> {
        self.shared.waits_for_abort.register(context.waker());
        if self.should_abort() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("job", &self.shared.job)
            .field("worker_name", &self.shared.worker.name)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
