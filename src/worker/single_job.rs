//! Jobs one at a time, for whoever fetches and stores by itself: no loop, no heartbeat, no signals.

use crate::app::App;
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::job::Job;
use crate::support::panics;
use crate::worker::Worker;
use crate::worker::event_loop::request::add_ending;
use crate::worker::executor::Execution;
use crate::worker::executor::Surroundings;
use crate::worker::outcome::Outcome;
use crate::worker::run::surroundings;
use crate::worker::settings::Options;

/// What a worker's jobs run in, with its settings.
#[derive(Debug)]
pub(crate) struct SingleJobs {
    options: Options,
    surroundings: Surroundings,
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
    pub(crate) fn into_single_jobs(self) -> Result<SingleJobs, Error> {
        self.options.check()?;
        panics::note_places();
        let surroundings = surroundings(&self.app, &self.options, &self.handle);
        Ok(SingleJobs { options: self.options, surroundings })
    }
}

impl SingleJobs {
    pub(crate) fn app(&self) -> &App {
        &self.surroundings.app
    }

    /// The queues to fetch from; `None`: all.
    pub(crate) fn queues(&self) -> Option<Vec<String>> {
        self.options.queues.as_deref().map(<[String]>::to_vec)
    }

    /// Whether a job has told its worker to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.surroundings.worker.handle.is_stopping()
    }

    /// Runs a job that this worker has taken.
    pub(crate) async fn run(&self, worker_id: i64, fetched: FetchedJob) -> Ran {
        let execution = Execution::prepare(&self.surroundings, fetched);
        let job = execution.context.job().clone();
        let finished = execution.run().await;
        let mut ending = FinishAndFetchJobs::new(worker_id, None, 0);
        add_ending(&mut ending, &finished, &self.options);
        Ran { job, outcome: finished.outcome, ending }
    }
}
