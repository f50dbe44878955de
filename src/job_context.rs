//! What a task can know of the job it runs for.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::job::Job;

/// What a task can know of the job it runs for, and the application, so that it can defer further jobs.
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
///         context.app().defer(import(page + 1)).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct JobContext {
    shared: Arc<Shared>,
}

struct Shared {
    app: App,
    job: Job,
    worker_name: Arc<str>,
    worker_queues: Option<Arc<[String]>>,
    start_timestamp: DateTime<Utc>,
}

impl JobContext {
    pub(crate) fn new(app: App, job: Job, worker_name: Arc<str>, worker_queues: Option<Arc<[String]>>) -> Self {
        let shared = Shared { app, job, worker_name, worker_queues, start_timestamp: Utc::now() };
        Self { shared: Arc::new(shared) }
    }

    /// The application, for instance to defer a job from within one.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(context: &procrastinate::JobContext) {
    /// let app = context.app().clone();
    /// # }
    /// ```
    #[must_use]
    pub fn app(&self) -> &App {
        &self.shared.app
    }

    /// The job.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(context: &procrastinate::JobContext) {
    /// let last = context.job().attempts + 1 == 5;
    /// # }
    /// ```
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.shared.job
    }

    /// The name of the worker that runs the job; `worker` unless set.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(context: &procrastinate::JobContext) {
    /// println!("{} is at it", context.worker_name());
    /// # }
    /// ```
    #[must_use]
    pub fn worker_name(&self) -> &str {
        &self.shared.worker_name
    }

    /// The queues that the worker serves; `None`: all of them.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(context: &procrastinate::JobContext) {
    /// let serves_all = context.worker_queues().is_none();
    /// # }
    /// ```
    #[must_use]
    pub fn worker_queues(&self) -> Option<&[String]> {
        self.shared.worker_queues.as_deref()
    }

    /// When the worker started the job, by the worker's clock.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(context: &procrastinate::JobContext) {
    /// let so_far = chrono::Utc::now() - context.start_timestamp();
    /// # }
    /// ```
    #[must_use]
    pub fn start_timestamp(&self) -> DateTime<Utc> {
        self.shared.start_timestamp
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("job", &self.shared.job)
            .field("worker_name", &self.shared.worker_name)
            .finish_non_exhaustive()
    }
}
