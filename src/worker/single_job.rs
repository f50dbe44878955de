//! Jobs one at a time, for whoever fetches and stores by itself: no loop, no heartbeat, no signals.

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

/// What a worker's jobs run in, with its settings.
#[derive(Debug)]
pub(crate) struct JobRunner {
    settings: Settings,
    environment: JobEnvironment,
}

/// A job that has run.
pub(crate) struct Ran {
    pub(crate) job: Job,
    pub(crate) outcome: Outcome,
    /// What stores how it ended, and fetches nothing.
    pub(crate) ending: FinishAndFetchJobs,
}

impl Worker {
    /// This worker's way of running a job, without the worker.
    pub(crate) fn into_job_runner(self) -> Result<JobRunner, Error> {
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

    /// The queues to fetch from; `None`: all.
    pub(crate) fn queues(&self) -> Option<Vec<String>> {
        self.settings.queues.as_deref().map(<[String]>::to_vec)
    }

    /// Whether a job has told its worker to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.environment.worker.handle.is_stopping()
    }

    /// Runs a job that this worker has taken.
    pub(crate) async fn run(&self, worker_id: i64, fetched: FetchedJob) -> Ran {
        let execution = Execution::prepare(&self.environment, fetched);
        let job = execution.context.job().clone();
        let finished = execution.run().await;
        let mut ending = FinishAndFetchJobs::new(worker_id, None, 0);
        add_outcome(&mut ending, &finished, &self.settings);
        Ran { job, outcome: finished.outcome, ending }
    }
}
