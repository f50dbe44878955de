//! The jobs that a worker holds.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::database::statements::finish_and_fetch::FetchedJob;
use crate::job::interruption::AbortReason;
use crate::job::{Job, JobId};
use crate::task::context::JobContext;
use crate::worker::executor::{Execution, Finished, JobEnvironment};
use crate::worker::log::{job_event, log_lost};
use crate::worker::outcome::Outcome;

/// The jobs that a worker holds. Only the loop owns this. Running tasks share their contexts with it.
///
/// A job is in one of three states: buffered until a slot is free, running in a slot, or finished but not stored yet. A
/// slot is free again when its task has ended. Jobs are fetched for free slots and for free places in the buffer.
#[derive(Debug)]
pub(crate) struct Slots {
    environment: JobEnvironment,
    concurrency: usize,
    local_buffer: usize,
    buffered: VecDeque<FetchedJob>,
    /// Whether buffered jobs do not start although a slot is free, because other workers may have taken them.
    is_paused: bool,
    running: JoinSet<Finished>,
    tasks: HashMap<Id, RunningTask>,
    /// The running tasks whose jobs were taken by another worker.
    lost: HashSet<Id>,
    finished: Vec<Finished>,
    /// Outcomes that the database has refused, each with the time of its retry.
    postponed: Vec<(Instant, Finished)>,
}

/// The task of a running job, as the loop sees it.
#[derive(Debug)]
pub(crate) struct RunningTask {
    pub(crate) context: JobContext,
    /// Whether other workers rescue the job if they consider this worker stalled.
    pub(crate) is_rescued: bool,
}

impl Slots {
    pub(crate) fn new(environment: JobEnvironment, concurrency: usize, local_buffer: usize) -> Self {
        Self {
            environment,
            concurrency,
            local_buffer,
            buffered: VecDeque::new(),
            is_paused: false,
            running: JoinSet::new(),
            tasks: HashMap::new(),
            lost: HashSet::new(),
            finished: Vec::new(),
            postponed: Vec::new(),
        }
    }

    /// Returns how many jobs may be fetched.
    pub(crate) fn free(&self) -> usize {
        (self.concurrency + self.local_buffer).saturating_sub(self.running.len() + self.buffered.len())
    }

    /// Whether a task is running.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether the worker holds no job.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.buffered.is_empty() && self.finished.is_empty() && self.postponed.is_empty()
    }

    /// Returns all jobs that the worker holds, with their previous attempts.
    pub(crate) fn held(&self) -> impl Iterator<Item = (JobId, i32)> {
        let of = |job: &Job| (job.id, job.attempts);
        let mine = self.tasks.iter().filter(|(id, _)| !self.lost.contains(id));
        let running = mine.map(move |(_, task)| of(task.context.job()));
        let buffered = self.buffered.iter().map(move |buffered| of(&buffered.job));
        running.chain(buffered).chain(self.unsaved().map(|finished| (finished.job_id, finished.attempts)))
    }

    /// Returns the contexts of the running jobs.
    pub(crate) fn running(&self) -> impl Iterator<Item = &JobContext> {
        self.tasks.values().map(|task| &task.context)
    }

    /// Adds jobs, and starts as many as there are free slots.
    pub(crate) fn start(&mut self, jobs: impl IntoIterator<Item = FetchedJob>) {
        self.buffered.extend(jobs);
        while !self.is_paused && self.running.len() < self.concurrency {
            let Some(fetched) = self.buffered.pop_front() else { break };
            let execution = Execution::prepare(&self.environment, fetched);
            let task = RunningTask { context: execution.context.clone(), is_rescued: execution.is_rescued };
            let handle = self.running.spawn(execution.run());
            self.tasks.insert(handle.id(), task);
        }
    }

    /// Starts no buffered jobs until [`resume`](Self::resume).
    pub(crate) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Starts buffered jobs again, as slots become free.
    pub(crate) fn resume(&mut self) {
        self.is_paused = false;
        self.start([]);
    }

    /// Asks a job to abort. A buffered one will not start.
    pub(crate) fn abort(&mut self, job_id: JobId, reason: AbortReason) {
        let position = self.buffered.iter().position(|buffered| buffered.job.id == job_id);
        if let Some(buffered) = position.and_then(|position| self.buffered.remove(position)) {
            let error = "an abort of the job was requested before it started".to_owned();
            self.end_unstarted(&buffered.job, Outcome::Aborted { error });
        }
        self.abort_where(reason, |task| task.context.job().id == job_id);
    }

    /// Asks the running jobs that match to abort.
    pub(crate) fn abort_where(&self, reason: AbortReason, matches: impl Fn(&RunningTask) -> bool) {
        for task in self.tasks.values().filter(|task| matches(task)) {
            request_abort(&task.context, reason);
        }
    }

    /// Requeues the buffered jobs, and others that were just fetched.
    pub(crate) fn requeue(&mut self, fetched: impl IntoIterator<Item = FetchedJob>) {
        let unstarted: Vec<FetchedJob> = self.buffered.drain(..).chain(fetched).collect();
        for unstarted in unstarted {
            self.end_unstarted(&unstarted.job, Outcome::NotStarted);
        }
    }

    /// Gives up all jobs but these, because other workers have taken them. Buffered ones are dropped, and running ones
    /// are asked to abort. Finished ones are returned and will not be stored. Otherwise their outcomes would be stored
    /// for later attempts of those jobs, which can even be on this worker.
    pub(crate) fn lose_all_except(&mut self, kept: &[JobId]) -> Vec<Finished> {
        let is_lost = |job_id: JobId| !kept.contains(&job_id);
        self.buffered.retain(|buffered| !is_lost(buffered.job.id));
        self.abort_where(AbortReason::WorkerLost, |task| is_lost(task.context.job().id));
        let running = self.tasks.iter().filter(|(_, task)| is_lost(task.context.job().id));
        self.lost.extend(running.map(|(id, _)| *id));
        self.finished.extend(self.postponed.drain(..).map(|(_, finished)| finished));
        let (lost, finished) =
            std::mem::take(&mut self.finished).into_iter().partition(|finished| is_lost(finished.job_id));
        self.finished = finished;
        lost
    }

    fn end_unstarted(&mut self, job: &Job, outcome: Outcome) {
        self.finished.push(Finished { job_id: job.id, attempts: job.attempts, outcome, duration: Duration::ZERO });
    }

    /// Waits for a task to end. Dropping this future loses nothing.
    pub(crate) async fn join_next(&mut self) {
        if let Some(joined) = self.running.join_next_with_id().await {
            self.finish(joined);
        }
    }

    /// Collects the tasks that have ended, without waiting.
    pub(crate) fn gather(&mut self) {
        while let Some(joined) = self.running.try_join_next_with_id() {
            self.finish(joined);
        }
    }

    fn finish(&mut self, joined: Result<(Id, Finished), JoinError>) {
        match joined {
            Ok((id, finished)) => {
                let task = self.tasks.remove(&id);
                if self.lost.remove(&id) {
                    let worker_id = task.and_then(|task| task.context.job().worker_id).unwrap_or_default();
                    log_lost(finished.job_id, &finished.outcome, worker_id);
                } else {
                    self.finished.push(finished);
                }
            }
            // The task's own panic was caught where it ran. This one comes from a value that it dropped, or from a bug
            // here, and must not lose the job.
            Err(error) => {
                let is_lost = self.lost.remove(&error.id());
                if let Some(task) = self.tasks.remove(&error.id()).filter(|_| !is_lost) {
                    let outcome = Outcome::Failed { error: format!("the worker could not run the job: {error}") };
                    self.end_unstarted(task.context.job(), outcome);
                }
            }
        }
        self.start([]);
    }

    /// Returns the jobs whose outcomes must be stored.
    pub(crate) fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// Removes the first jobs, whose outcomes are stored. The others have finished since.
    pub(crate) fn forget_finished(&mut self, stored: usize) -> Vec<Finished> {
        self.finished.drain(..stored.min(self.finished.len())).collect()
    }

    /// Returns all outcomes that are not stored.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = &Finished> {
        self.finished.iter().chain(self.postponed.iter().map(|(_, finished)| finished))
    }

    /// Keeps an outcome that the database has refused until it is retried.
    pub(crate) fn postpone(&mut self, finished: Finished, retry_at: Instant) {
        self.postponed.push((retry_at, finished));
    }

    /// Adds the postponed outcomes that are due to the outcomes that must be stored.
    pub(crate) fn resume_postponed(&mut self) {
        let now = Instant::now();
        self.finished
            .extend(self.postponed.extract_if(.., |(retry_at, _)| *retry_at <= now).map(|(_, finished)| finished));
    }

    /// Returns when the next postponed outcome is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.postponed.iter().map(|(retry_at, _)| *retry_at).min()
    }
}

fn request_abort(context: &JobContext, reason: AbortReason) {
    if context.abort(reason) {
        job_event!(info, "abort_job", context.job(), { ?reason, }, "was asked to abort");
    }
}
