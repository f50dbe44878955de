//! The settings of a worker.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::deletion::DeleteJobs;
use super::unknown_tasks::UnknownTasks;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::RetentionRule;
use crate::support::extensions::Extensions;
use crate::task::middleware::Middleware;
use crate::validation::check_age;

/// The settings of a worker.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: Arc<str>,
    /// The queues that share `concurrency`. `None` means all queues, or none if `own_queues` is not empty.
    pub(super) queues: Option<Arc<[String]>>,
    pub(super) concurrency: usize,
    /// Queues with a concurrency of their own. Each queue occurs once.
    pub(super) own_queues: Vec<(String, usize)>,
    /// How many more jobs are fetched ahead.
    pub(super) local_buffer: usize,
    pub(super) wait: bool,
    pub(super) listen_notify: bool,
    pub(super) fetch_job_polling_interval: Duration,
    pub(super) abort_job_polling_interval: Duration,
    pub(super) update_heartbeat_interval: Duration,
    pub(super) stalled_worker_timeout: Duration,
    pub(super) shutdown_graceful_timeout: Option<Duration>,
    pub(super) install_signal_handlers: bool,
    pub(super) delete_jobs: DeleteJobs,
    pub(super) unknown_tasks: Option<UnknownTasks>,
    /// Which old jobs are deleted. Each status occurs once.
    pub(super) retention: Vec<(JobStatus, Duration)>,
    pub(super) timeout: Option<Duration>,
    pub(super) state: Extensions,
    pub(super) worker_middleware: Vec<Middleware>,
    pub(super) task_middleware: Vec<Middleware>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: Arc::from("worker"),
            queues: None,
            concurrency: 1,
            own_queues: Vec::new(),
            local_buffer: 0,
            wait: true,
            listen_notify: true,
            fetch_job_polling_interval: Duration::from_secs(5),
            abort_job_polling_interval: Duration::from_secs(5),
            update_heartbeat_interval: Duration::from_secs(10),
            stalled_worker_timeout: Duration::from_secs(30),
            shutdown_graceful_timeout: None,
            install_signal_handlers: true,
            delete_jobs: DeleteJobs::Never,
            unknown_tasks: None,
            retention: Vec::new(),
            timeout: None,
            state: Extensions::default(),
            worker_middleware: Vec::new(),
            task_middleware: Vec::new(),
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.check_queues()?;
        let most = self.concurrencies().fold(0, usize::max);
        if most.checked_add(self.local_buffer).is_none_or(|most| i32::try_from(most).is_err()) {
            let rule = format!("must be at most {} together with the concurrency", i32::MAX);
            return Err(Error::invalid("local_buffer", self.local_buffer.to_string(), rule));
        }
        for (what, interval) in [
            ("fetch_job_polling_interval", Some(self.fetch_job_polling_interval)),
            ("abort_job_polling_interval", Some(self.abort_job_polling_interval)),
            ("update_heartbeat_interval", Some(self.update_heartbeat_interval)),
            ("stalled_worker_timeout", Some(self.stalled_worker_timeout)),
            ("timeout", self.timeout),
        ] {
            let Some(interval) = interval else { continue };
            if interval.is_zero() {
                return Err(Error::invalid(what, "0s", "must be greater than zero"));
            }
            check_age(what, interval)?;
        }
        for (status, age) in &self.retention {
            RetentionRule::of(status.clone(), *age).check()?;
        }
        if self.stalled_worker_timeout <= self.update_heartbeat_interval {
            let rule = format!(
                "must be longer than update_heartbeat_interval ({:?}); otherwise live workers are considered stalled",
                self.update_heartbeat_interval
            );
            return Err(Error::invalid("stalled_worker_timeout", format!("{:?}", self.stalled_worker_timeout), rule));
        }
        Ok(())
    }
}

impl Worker {
    /// Sets the name of the worker in job contexts and logs. Default: `worker`.
    ///
    /// # Example
    ///
    /// See [`Worker`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Arc::from(name.into());
        self
    }

    /// If the loop has not run for this long, it is stuck.
    #[cfg(feature = "probe")]
    pub(crate) fn longest_turn(&self) -> Duration {
        self.settings.fetch_job_polling_interval.saturating_add(self.settings.stalled_worker_timeout)
    }

    /// Sets how many jobs run at the same time. Default: 1. Jobs of a queue with a concurrency of its own, by
    /// [`queue`](Self::queue), do not count.
    ///
    /// # Example
    ///
    /// See [`Worker`].
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// Sets how many more jobs the worker fetches ahead. They start when a slot is free. Default: 0.
    ///
    /// Use it for very many very short jobs, because more jobs then share a transaction. It has a price:
    ///
    /// - A buffered job has the status `doing` and keeps its lock, although it has not started.
    /// - It starts after the jobs before it, even if another worker is idle or a job with a higher priority arrives.
    /// - If the worker dies, its buffered jobs are rescued like running ones, and the attempt counts.
    ///
    /// A worker that shuts down requeues its buffered jobs.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["clicks"]).concurrency(10).local_buffer(500);
    /// # }
    /// ```
    pub fn local_buffer(mut self, jobs: usize) -> Self {
        self.settings.local_buffer = jobs;
        self
    }

    /// Stops the worker when there is no job left to start. Default: the worker waits for more jobs.
    ///
    /// It does not wait for jobs that a pause or limit holds back. If other workers have locked jobs with a limit for
    /// each key, it tries again for about a second.
    ///
    /// Such a worker also defers the periodic tasks that are due when it starts.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: &procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.worker().stop_when_empty().run().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "wait")]
    pub fn stop_when_empty(mut self) -> Self {
        self.settings.wait = false;
        self
    }

    /// Undoes [`stop_when_empty`](Self::stop_when_empty) from the application's defaults.
    #[cfg(feature = "cli")]
    pub(crate) fn keep_running(mut self) -> Self {
        self.settings.wait = true;
        self
    }

    /// Whether to listen for notifications, on one connection outside of the pool. Default: true. Without them, the
    /// worker only polls for new jobs.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// // Behind a pooler that does not forward notifications.
    /// let worker = app.worker().listen_notify(false);
    /// # }
    /// ```
    pub fn listen_notify(mut self, listen_notify: bool) -> Self {
        self.settings.listen_notify = listen_notify;
        self
    }

    /// Sets how often the worker polls for jobs. Default: 5 seconds. Polling finds jobs whose scheduled time has come.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let seconds = std::time::Duration::from_secs;
    /// let worker = app
    ///     .worker()
    ///     .fetch_job_polling_interval(seconds(2))
    ///     .abort_job_polling_interval(seconds(2))
    ///     .update_heartbeat_interval(seconds(5))
    ///     .stalled_worker_timeout(seconds(20));
    /// # }
    /// ```
    pub fn fetch_job_polling_interval(mut self, interval: Duration) -> Self {
        self.settings.fetch_job_polling_interval = interval;
        self
    }

    /// Sets how often the worker polls for abort requests while jobs run. Default: 5 seconds. Usually a notification
    /// reports them immediately.
    ///
    /// # Example
    ///
    /// See [`fetch_job_polling_interval`](Self::fetch_job_polling_interval).
    pub fn abort_job_polling_interval(mut self, interval: Duration) -> Self {
        self.settings.abort_job_polling_interval = interval;
        self
    }

    /// Sets how often the worker sends a heartbeat, from a dedicated thread and connection. Default: 10 seconds.
    ///
    /// # Example
    ///
    /// See [`fetch_job_polling_interval`](Self::fetch_job_polling_interval).
    pub fn update_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.update_heartbeat_interval = interval;
        self
    }

    /// Sets after how long without a heartbeat the worker considers another one stalled. Default: 30 seconds.
    ///
    /// The [`stalled`](crate::Task::stalled) option of a task decides what happens to the jobs of a stalled worker. A
    /// worker that could not send a heartbeat for this long aborts its own jobs. Use the same value for all workers of
    /// a database, several times their `update_heartbeat_interval`.
    ///
    /// # Example
    ///
    /// See [`fetch_job_polling_interval`](Self::fetch_job_polling_interval).
    pub fn stalled_worker_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stalled_worker_timeout = timeout;
        self
    }

    /// Sets which jobs are deleted when they finish. Default: [none](DeleteJobs::Never).
    ///
    /// # Example
    ///
    /// See [`DeleteJobs`].
    pub fn delete_jobs(mut self, delete_jobs: DeleteJobs) -> Self {
        self.settings.delete_jobs = delete_jobs;
        self
    }

    /// Deletes jobs that finished with this status once their latest event is older than this. Default: none.
    ///
    /// Call it once for each status: `Succeeded`, `Failed`, `Cancelled`, `Aborted`. A second call for a status replaces
    /// the first one. The worker deletes in small steps while it runs, in all queues. One worker per database is
    /// enough.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let week = std::time::Duration::from_secs(7 * 24 * 3_600);
    /// let worker = app.worker().delete_jobs_older_than(procrastinate::JobStatus::Succeeded, week);
    /// # }
    /// ```
    pub fn delete_jobs_older_than(mut self, status: JobStatus, age: Duration) -> Self {
        self.settings.retention.retain(|(other, _)| *other != status);
        self.settings.retention.push((status, age));
        self
    }

    /// Sets the time limit of jobs whose task has no [`timeout`](crate::Task::timeout). Default: no limit.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().timeout(std::time::Duration::from_secs(600));
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Adds a value that the tasks of this worker find by its type. It takes precedence over the application's value.
    /// See [`JobContext::state`](crate::JobContext::state).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # struct Region(&'static str);
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().state(Region("north"));
    /// # }
    /// ```
    #[doc(alias = "additional_context")]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.settings.state.insert(value);
        self
    }

    /// Adds a [middleware](Middleware) that runs around every job, even if its task is unknown. It runs inside those
    /// added before.
    ///
    /// # Example
    ///
    /// See [`Middleware`].
    pub fn worker_middleware(mut self, middleware: impl Into<Middleware>) -> Self {
        self.settings.worker_middleware.push(middleware.into());
        self
    }

    /// Adds a [middleware](Middleware) that runs around every task. It runs inside the worker's middleware and those
    /// added before.
    ///
    /// # Example
    ///
    /// See [`Middleware`].
    pub fn task_middleware(mut self, middleware: impl Into<Middleware>) -> Self {
        self.settings.task_middleware.push(middleware.into());
        self
    }

    /// Sets how long running jobs may continue after the worker was asked to stop. Then they are asked to
    /// [abort](crate::AbortReason::Shutdown). Default: no limit.
    ///
    /// # Example
    ///
    /// See [`Worker`].
    pub fn shutdown_graceful_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_graceful_timeout = Some(timeout);
        self
    }

    /// Whether SIGINT and SIGTERM (Ctrl-C on other systems than Unix) stop the worker like
    /// [`WorkerHandle::stop`](crate::WorkerHandle::stop). Default: true. A second signal aborts its jobs like
    /// [`WorkerHandle::abort`](crate::WorkerHandle::abort).
    ///
    /// From then on these signals do not end the process, not even after the worker has stopped. Other parts of the
    /// program can wait for the same signals.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().install_signal_handlers(false);
    /// # }
    /// ```
    pub fn install_signal_handlers(mut self, install_signal_handlers: bool) -> Self {
        self.settings.install_signal_handlers = install_signal_handlers;
        self
    }
}
