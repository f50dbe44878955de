//! Runs jobs one at a time for a caller that fetches and stores them. There is no loop, heartbeat or signal handling.

use crate::app::App;
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::job::Job;
use crate::support::panics;
use crate::worker::Worker;
use crate::worker::event_loop::request::add_outcome;
use crate::worker::executor::Execution;
use crate::worker::executor::JobEnvironment;
use crate::worker::outcome::Outcome;
use crate::worker::run::environment;
use crate::worker::settings::Settings;
use crate::worker::unknown_tasks::UnknownTasks;

/// The settings and the environment of a worker's jobs.
#[derive(Debug)]
pub(crate) struct JobRunner {
    settings: Settings,
    environment: JobEnvironment,
}

/// A job that has run.
pub(crate) struct Ran {
    pub(crate) job: Job,
    pub(crate) outcome: Outcome,
    /// The statement that stores the outcome and fetches nothing.
    pub(crate) statement: FinishAndFetchJobs,
}

impl Worker {
    /// Turns the worker into a runner of single jobs.
    pub(crate) fn into_job_runner(mut self) -> Result<JobRunner, Error> {
        // A test should not wait for a task that nobody will add.
        self.settings.unknown_tasks.get_or_insert(UnknownTasks::Fail);
        self.settings.check()?;
        panics::note_locations();
        let environment = environment(&self.app, &self.settings, &self.handle);
        Ok(JobRunner { settings: self.settings, environment })
    }
}

impl JobRunner {
    pub(crate) fn app(&self) -> &App {
        &self.environment.app
    }

    /// Returns the queues to fetch from. `None` means all queues.
    pub(crate) fn queues(&self) -> Option<Vec<String>> {
        self.settings.queue_names().as_deref().map(<[String]>::to_vec)
    }

    /// Whether a job has asked its worker to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.environment.worker.handle.is_stopping()
    }

    /// Runs a job that this worker has fetched.
    pub(crate) async fn run(&self, worker_id: i64, fetched: FetchedJob) -> Ran {
        let execution = Execution::prepare(&self.environment, fetched);
        let job = execution.context.job().clone();
        let finished = execution.run().await;
        let mut statement = FinishAndFetchJobs::new(worker_id, None, 0);
        add_outcome(&mut statement, &finished, &self.settings);
        Ran { job, outcome: finished.outcome, statement }
    }
}
