//! The context of a running job.

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
use crate::queue::defer::if_enqueued::Deferred;
use crate::queue::job_manager::manager::JobManager;
use crate::support::clock;
use crate::support::extensions::Extensions;
use crate::task::worker_handle::WorkerHandle;

/// The context of a running job: the job, its worker, shared state, and access to the queue.
///
/// An implementation of [`Task`](crate::Task) receives it as an argument. A function with `#[task(pass_context)]`
/// receives it as its first parameter. It is cheap to clone.
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
    /// Wakes the worker's future around the task.
    abort_waker: AtomicWaker,
}

/// The part of a context that is the same for all jobs of a worker.
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
            abort_waker: AtomicWaker::new(),
        };
        Self { shared: Arc::new(shared), state }
    }

    /// Returns the job manager, which runs operations on connections from the application's pool.
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// use procrastinate::job_manager::list_queues;
    ///
    /// #[task(pass_context)]
    /// async fn count(context: JobContext) -> Result<(), procrastinate::Error> {
    ///     for queue in context.job_manager().perform(list_queues()).await? {
    ///         println!("{}: {} pending jobs", queue.name, queue.todo);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    #[doc(alias = "app")]
    pub fn job_manager(&self) -> &JobManager {
        &self.shared.job_manager
    }

    /// Defers another job on a connection from the pool. See [`JobManager::defer`].
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::defer`].
    ///
    /// # Example
    ///
    /// See [`JobContext`].
    pub async fn defer(&self, job: JobToDefer) -> Result<JobId, Error> {
        self.job_manager().defer(job).await
    }

    /// Defers another job like [`defer`](Self::defer), and says whether it was stored, or whether it has replaced a
    /// pending one. See [`JobManager::defer_detailed`].
    ///
    /// # Errors
    ///
    /// The same as [`JobManager::defer`].
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{Deferred, Error, IfEnqueued, JobContext, task};
    ///
    /// #[task(queueing_lock = "index-{page}")]
    /// async fn index(page: i64) {
    ///     println!("the index of page {page}");
    /// }
    ///
    /// #[task(pass_context)]
    /// async fn edit(context: JobContext, page: i64) -> Result<(), Error> {
    ///     let deferred = context.defer_detailed(index(page).if_enqueued(IfEnqueued::Replace)).await?;
    ///     if let Deferred::Replaced(id) = deferred {
    ///         println!("job {id} was still pending");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn defer_detailed(&self, job: JobToDefer) -> Result<Deferred, Error> {
        self.job_manager().defer_detailed(job).await
    }

    /// Returns the job as it was when the worker fetched it. `attempts` does not count the running attempt.
    ///
    /// # Example
    ///
    /// See [`JobContext`].
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.shared.job
    }

    /// Returns the task name that the job carries.
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

    /// Returns the name of the worker that runs the job.
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

    /// Returns the queues that the worker serves. `None` means all queues.
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

    /// Returns a handle to the worker that runs the job, for example to stop it.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::{JobContext, Next, TaskResult};
    ///
    /// /// Runs one job and stops the worker.
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

    /// Returns when the job started, by the clock of this machine.
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

    /// Whether the job will not be retried if this attempt fails. A custom retry policy decides it with
    /// [`max_attempts`](crate::retry::RetryPolicy::max_attempts).
    ///
    /// # Example
    ///
    /// ```
    /// # use procrastinate::{JobContext, task};
    /// #[task(retry = 5, pass_context)]
    /// async fn call(context: JobContext, number: String) -> Result<(), String> {
    ///     if context.is_last_attempt() {
    ///         println!("{number} needs a call from a person");
    ///     }
    ///     Err("no answer".to_owned())
    /// }
    /// # let job = call("1".into());
    /// ```
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.shared.is_last_attempt
    }

    /// Whether the job should abort.
    ///
    /// An async task does not have to check this, because it is cancelled at its next await point. Blocking code must
    /// check it and return. It returns [`JobAborted`](crate::JobAborted) as its error if its work is not done.
    ///
    /// # Example
    ///
    /// See [`AbortReason`].
    #[must_use]
    pub fn should_abort(&self) -> bool {
        self.abort_reason().is_some()
    }

    /// Returns why the job should abort. `None` if it should not.
    ///
    /// # Example
    ///
    /// See [`AbortReason`].
    #[must_use]
    pub fn abort_reason(&self) -> Option<AbortReason> {
        self.shared.abort_reason.get().copied()
    }

    /// Returns the shared value of this type. A task that always needs one can have a parameter
    /// [`State<T>`](crate::State) instead.
    ///
    /// A value from a [middleware](crate::Middleware) takes precedence over the worker's
    /// ([`Worker::state`](crate::Worker::state)), and the worker's over the application's
    /// ([`AppBuilder::state`](crate::AppBuilder::state)).
    ///
    /// # Errors
    ///
    /// [`Error::MissingState`] if there is no such value. It lists the types that exist.
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
    #[doc(alias = "additional_context")]
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, Error> {
        self.state.get().ok_or_else(|| self.missing_state::<T>())
    }

    /// Does the same as [`state`](Self::state), and returns a share of the value.
    pub(crate) fn shared_state<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, Error> {
        self.state.get_shared().ok_or_else(|| self.missing_state::<T>())
    }

    fn missing_state<T>(&self) -> Error {
        Error::MissingState { wanted: type_name::<T>(), known: self.state.type_names() }
    }

    /// Adds a value to this context, with which a middleware can run the task. It replaces a value of the same type.
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

    /// Asks the job to abort. Only the first reason counts. Returns false if the job was asked before.
    pub(crate) fn abort(&self, reason: AbortReason) -> bool {
        let is_first = self.shared.abort_reason.set(reason).is_ok();
        self.shared.abort_waker.wake();
        is_first
    }

    /// Ready when the job is asked to abort.
    pub(crate) fn poll_abort(&self, context: &Context<'_>) -> Poll<()> {
        self.shared.abort_waker.register(context.waker());
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
