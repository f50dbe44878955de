//! The settings of a worker.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::Cleaning;
use crate::support::extensions::State;
use crate::task::middleware::Middleware;
use crate::validation::{check_age, check_name};

/// Which jobs a worker deletes at their end, instead of keeping them with their status.
///
/// # Example
///
/// ```no_run
/// use procrastinate::DeleteJobs;
///
/// # fn example(app: &procrastinate::App) {
/// let worker = app.worker().delete_jobs(DeleteJobs::Successful);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeleteJobs {
    /// None.
    #[default]
    Never,
    /// Those that succeeded.
    Successful,
    /// All: also those that failed or were aborted, and with them the errors that were kept. One that is to be tried again
    /// has not come to its end.
    Always,
}

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
    pub(super) state: State,
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
            state: State::default(),
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
            Cleaning::of(status.clone(), *age).check()?;
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
