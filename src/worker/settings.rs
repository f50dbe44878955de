//! The settings of a worker.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::deletion::DeleteJobs;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::RetentionRule;
use crate::support::extensions::Extensions;
use crate::task::middleware::Middleware;
use crate::validation::{check_age, check_name};

/// The settings of a worker.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: Arc<str>,
    pub(super) queues: Option<Arc<[String]>>,
    pub(super) concurrency: usize,
    /// How many jobs more than run at a time are fetched ahead.
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
    /// Which jobs are deleted when they are old: each status once.
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
        if self.concurrency == 0 || i32::try_from(self.concurrency).is_err() {
            let rule = format!("a worker runs at least 1 and at most {} jobs at a time", i32::MAX);
            return Err(Error::invalid("concurrency", self.concurrency.to_string(), rule));
        }
        if self.concurrency.checked_add(self.local_buffer).is_none_or(|most| i32::try_from(most).is_err()) {
            let rule = format!("together with the concurrency it is at most {}", i32::MAX);
            return Err(Error::invalid("local_buffer", self.local_buffer.to_string(), rule));
        }
        if let Some(queues) = &self.queues {
            if queues.is_empty() {
                let rule = "a worker serves at least one queue; without this setting it serves all of them";
                return Err(Error::invalid("queues", "", rule));
            }
            queues.iter().try_for_each(|queue| check_name("queue name", queue))?;
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
                return Err(Error::invalid(what, "0s", "it must be longer than nothing"));
            }
            check_age(what, interval)?;
        }
        for (status, age) in &self.retention {
            RetentionRule::of(status.clone(), *age).check()?;
        }
        if self.stalled_worker_timeout <= self.update_heartbeat_interval {
            let rule = format!(
                "it must be longer than update_heartbeat_interval, {:?}, or workers that are alive are taken for dead",
                self.update_heartbeat_interval
            );
            return Err(Error::invalid("stalled_worker_timeout", format!("{:?}", self.stalled_worker_timeout), rule));
        }
        Ok(())
    }
}

impl Worker {
    /// The name that jobs see in their context, and that stands in the log. Unless set: `worker`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().name("mailer-1");
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Arc::from(name.into());
        self
    }

    /// The queues to serve. Unless set: all of them.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["mails", "invoices"]);
    /// # }
    /// ```
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.settings.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Serves all queues, as unless set: where the application's [defaults](crate::AppBuilder::worker_defaults) say otherwise.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["mails"]).all_queues();
    /// # }
    /// ```
    pub fn all_queues(mut self) -> Self {
        self.settings.queues = None;
        self
    }

    /// The queues that it serves; `None` for all.
    #[cfg(feature = "cli")]
    pub(crate) fn queue_names(&self) -> Option<&[String]> {
        self.settings.queues.as_deref()
    }

    /// The loop comes round more often than this, or it is stuck.
    #[cfg(feature = "cli")]
    pub(crate) fn longest_turn(&self) -> Duration {
        self.settings.fetch_job_polling_interval.saturating_add(self.settings.stalled_worker_timeout)
    }

    /// How many jobs run at a time. Unless set: 1.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().concurrency(10);
    /// # }
    /// ```
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// How many jobs to take ahead, beyond those that run: they wait in the worker until one of its slots is free. Unless
    /// set: none, so that a job is taken by a worker which starts it at once.
    ///
    /// For very many very short jobs: a job that is taken and one that has ended each have to be stored durably, and the more
    /// of them share a transaction the cheaper it is. With few slots a transaction has few jobs, unless there is a buffer.
    ///
    /// What it costs: a job in the buffer is `doing` for everybody else, keeps its lock, and starts after those before it,
    /// although another worker may be idle, and whatever comes in with a higher priority meanwhile. A worker that is told to
    /// stop puts its buffer back into the queue. If it dies, these jobs are rescued like the ones that ran, and the attempt
    /// counts, since nobody knows that it had not begun.
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

    /// Stops when there is no job left that could start now, instead of waiting for more. Default: waits.
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

    /// Undoes [`stop_when_empty`](Self::stop_when_empty), where the application's defaults set it.
    #[cfg(feature = "cli")]
    pub(crate) fn keep_running(mut self) -> Self {
        self.settings.wait = true;
        self
    }

    /// Whether to listen for notifications, on one connection outside of the pool. Unless set: true. Without, new jobs
    /// are found by polling.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// // Behind a pooler that passes no notifications on.
    /// let worker = app.worker().listen_notify(false);
    /// # }
    /// ```
    pub fn listen_notify(mut self, listen_notify: bool) -> Self {
        self.settings.listen_notify = listen_notify;
        self
    }

    /// How long to wait at most before looking for jobs again. Unless set: 5 seconds. It is what finds jobs whose
    /// scheduled time has come.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().fetch_job_polling_interval(std::time::Duration::from_secs(1));
    /// # }
    /// ```
    pub fn fetch_job_polling_interval(mut self, interval: Duration) -> Self {
        self.settings.fetch_job_polling_interval = interval;
        self
    }

    /// How often to look, while jobs run, whether one of them is to be aborted. Unless set: 5 seconds. Requests are heard
    /// at once by notification; this finds those that were not heard.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().abort_job_polling_interval(std::time::Duration::from_secs(1));
    /// # }
    /// ```
    pub fn abort_job_polling_interval(mut self, interval: Duration) -> Self {
        self.settings.abort_job_polling_interval = interval;
        self
    }

    /// How often the worker says that it is alive, from a thread and on a connection of its own. Unless set: 10 seconds.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().update_heartbeat_interval(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn update_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.update_heartbeat_interval = interval;
        self
    }

    /// After how long without a heartbeat this worker takes another one for dead, and its jobs are handled as their tasks'
    /// [`stalled`](crate::Task::stalled) says. A worker that could not beat itself for so long stops its jobs, since
    /// others may have them by then. Unless set: 30 seconds. It should be the same for all workers of a database, and
    /// several times their `update_heartbeat_interval`.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().stalled_worker_timeout(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub fn stalled_worker_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stalled_worker_timeout = timeout;
        self
    }

    /// Which jobs are deleted at their end. Unless set: [none](DeleteJobs::Never).
    ///
    /// # Example
    ///
    /// See [`DeleteJobs`].
    pub fn delete_jobs(mut self, delete_jobs: DeleteJobs) -> Self {
        self.settings.delete_jobs = delete_jobs;
        self
    }

    /// Deletes jobs that ended with this status and whose newest event is longer ago than this, with their events. Unless
    /// set: none. It can be called once for each of `Succeeded`, `Failed`, `Cancelled` and `Aborted`; of two calls for one
    /// status the second counts.
    ///
    /// The worker does it while it runs, in small steps with pauses between them, for the jobs of all queues, whoever ran
    /// them. Several workers may do it on one database; one is enough.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use procrastinate::JobStatus;
    ///
    /// const DAY: Duration = Duration::from_secs(24 * 3_600);
    ///
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app
    ///     .worker()
    ///     .delete_jobs_older_than(JobStatus::Succeeded, 7 * DAY)
    ///     .delete_jobs_older_than(JobStatus::Failed, 90 * DAY);
    /// # }
    /// ```
    pub fn delete_jobs_older_than(mut self, status: JobStatus, age: Duration) -> Self {
        self.settings.retention.retain(|(other, _)| *other != status);
        self.settings.retention.push((status, age));
        self
    }

    /// How long a job may take whose task has no [`timeout`](crate::Task::timeout) of its own. Unless set: without limit.
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

    /// Gives the tasks that this worker runs a value that they find by its type, in place of one of the application's.
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

    /// Adds a [middleware](Middleware) that runs around every job, also one whose task is not known, within those that
    /// were added before.
    ///
    /// # Example
    ///
    /// See [`Middleware`].
    pub fn worker_middleware(mut self, middleware: impl Into<Middleware>) -> Self {
        self.settings.worker_middleware.push(middleware.into());
        self
    }

    /// Adds a [middleware](Middleware) that runs around every task, within those of the worker and those that were added
    /// before.
    ///
    /// # Example
    ///
    /// See [`Middleware`].
    pub fn task_middleware(mut self, middleware: impl Into<Middleware>) -> Self {
        self.settings.task_middleware.push(middleware.into());
        self
    }

    /// How long the jobs that run may go on after the worker was told to stop; then they are
    /// [aborted](crate::AbortReason::Shutdown). Unless set: as long as they take.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().shutdown_graceful_timeout(std::time::Duration::from_secs(20));
    /// # }
    /// ```
    pub fn shutdown_graceful_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_graceful_timeout = Some(timeout);
        self
    }

    /// Whether SIGINT and SIGTERM (elsewhere than on Unix: Ctrl-C) stop the worker as [`WorkerHandle::stop`] does, and a
    /// second one aborts its jobs as [`WorkerHandle::abort`] does. Unless set: true. From then on these signals do not end
    /// the process by themselves, also after the worker has ended. Other parts of the program that wait for a signal hear
    /// it too.
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
