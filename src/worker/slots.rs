//! The jobs that a worker has in hand.

use std::collections::{HashMap, VecDeque};

use tokio::task::{Id, JoinError, JoinSet};

use super::Options;
use super::execute::execute;
use super::outcome::Outcome;
use crate::app::App;
use crate::job::JobId;
use crate::queries::lifecycle::FetchedJob;

/// A job whose task has ended, and whose ending is not stored yet.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job_id: JobId,
    pub(super) outcome: Outcome,
}

/// The jobs that a worker has in hand. Only the loop holds this; running tasks share nothing with it.
///
/// A job is in one of three places: it waits for a slot, runs in one, or is finished and not stored. A slot is free again
/// when the job's task has ended.
#[derive(Debug)]
pub(super) struct Slots {
    app: App,
    options: Options,
    waiting: VecDeque<FetchedJob>,
    running: JoinSet<Outcome>,
    running_ids: HashMap<Id, JobId>,
    finished: Vec<Finished>,
}

impl Slots {
    pub(super) fn new(app: App, options: Options) -> Self {
        Self {
            app,
            options,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            running_ids: HashMap::new(),
            finished: Vec::new(),
        }
    }

    /// How many jobs may be fetched.
    pub(super) fn free(&self) -> usize {
        self.options.concurrency.saturating_sub(self.running.len() + self.waiting.len())
    }

    /// Whether a task is running.
    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether there is no job in hand.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.finished.is_empty()
    }

    /// Whether a job is in hand, in whichever place.
    pub(super) fn holds(&self, job_id: JobId) -> bool {
        self.running_ids.values().any(|running| *running == job_id)
            || self.finished.iter().any(|finished| finished.job_id == job_id)
            || self.waiting.iter().any(|waiting| waiting.job.id == job_id)
    }

    /// Takes jobs in hand, and starts as many as there are slots.
    pub(super) fn start(&mut self, jobs: impl IntoIterator<Item = FetchedJob>) {
        self.waiting.extend(jobs);
        while self.running.len() < self.options.concurrency {
            let Some(fetched) = self.waiting.pop_front() else { break };
            let job_id = fetched.job.id;
            let handle = self.running.spawn(execute(self.app.clone(), self.options.clone(), fetched));
            self.running_ids.insert(handle.id(), job_id);
        }
    }

    /// Waits for a task to end. Dropping this future loses nothing.
    pub(super) async fn join_next(&mut self) {
        if let Some(joined) = self.running.join_next_with_id().await {
            self.finish(joined);
        }
    }

    /// Gathers the tasks that have ended since, without waiting.
    pub(super) fn gather(&mut self) {
        while let Some(joined) = self.running.try_join_next_with_id() {
            self.finish(joined);
        }
    }

    fn finish(&mut self, joined: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match joined {
            Ok(ended) => ended,
            // The task's own panic was caught where it ran. This one is ours, and must not lose the job.
            Err(error) => (error.id(), Outcome::Failed { error: format!("the worker failed: {error}") }),
        };
        if let Some(job_id) = self.running_ids.remove(&id) {
            self.finished.push(Finished { job_id, outcome });
        }
        self.start([]);
    }

    /// The jobs whose ending is to be stored.
    pub(super) fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// The ending of these jobs is stored; the rest has finished since.
    pub(super) fn forget_finished(&mut self, stored: usize) {
        self.finished.drain(..stored.min(self.finished.len()));
    }
}
