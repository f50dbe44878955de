//! The jobs that a worker has in hand.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::database::statements::finish_and_fetch::FetchedJob;
use crate::job::interruption::AbortReason;
use crate::job::{Job, JobId};
use crate::task::context::JobContext;
use crate::worker::executor::{Execution, Finished, JobEnvironment};
use crate::worker::log::log_lost;
use crate::worker::outcome::Outcome;

/// The jobs that a worker has in hand. Only the loop holds this; running tasks share their contexts with it.
///
/// A job is in one of three places: it waits for a slot, runs in one, or is finished and not stored. A slot is free again
/// when the job's task has ended. Jobs are fetched for free slots and for free places in the buffer.
#[derive(Debug)]
pub(crate) struct Slots {
    environment: JobEnvironment,
    concurrency: usize,
    local_buffer: usize,
    waiting: VecDeque<FetchedJob>,
    /// Whether those that wait go on waiting while a slot is free: others may have them by now.
    is_held_back: bool,
    running: JoinSet<Finished>,
    tasks: HashMap<Id, RunningTask>,
    /// Those of the running tasks whose jobs are somebody else's now.
    lost: HashSet<Id>,
    finished: Vec<Finished>,
    /// Outcomes that the database has refused, and when to try each again.
    postponed: Vec<(Instant, Finished)>,
}

/// The task of a running job, as the loop knows it.
#[derive(Debug)]
pub(crate) struct RunningTask {
    pub(crate) context: JobContext,
    /// Whether other workers take the job if they consider this worker stalled.
    pub(crate) is_rescued: bool,
}

impl Slots {
    pub(crate) fn new(environment: JobEnvironment, concurrency: usize, local_buffer: usize) -> Self {
        Self {
            environment,
            concurrency,
            local_buffer,
            waiting: VecDeque::new(),
            is_held_back: false,
            running: JoinSet::new(),
            tasks: HashMap::new(),
            lost: HashSet::new(),
            finished: Vec::new(),
            postponed: Vec::new(),
        }
    }

    /// How many jobs may be fetched.
    pub(crate) fn free(&self) -> usize {
        (self.concurrency + self.local_buffer).saturating_sub(self.running.len() + self.waiting.len())
    }

    /// Whether a task is running.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether there is no job in hand.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.finished.is_empty() && self.postponed.is_empty()
    }

    /// All jobs in hand, with the attempts before this one.
    pub(crate) fn held(&self) -> impl Iterator<Item = (JobId, i32)> {
        let of = |job: &Job| (job.id, job.attempts);
        let mine = self.tasks.iter().filter(|(id, _)| !self.lost.contains(id));
        let running = mine.map(move |(_, task)| of(task.context.job()));
        let waiting = self.waiting.iter().map(move |waiting| of(&waiting.job));
        running.chain(waiting).chain(self.unsaved().map(|finished| (finished.job_id, finished.attempts)))
    }

    /// The jobs whose tasks are running.
    pub(crate) fn running(&self) -> impl Iterator<Item = &JobContext> {
        self.tasks.values().map(|task| &task.context)
    }

    /// Takes jobs in hand, and starts as many as there are slots.
    pub(crate) fn start(&mut self, jobs: impl IntoIterator<Item = FetchedJob>) {
        self.waiting.extend(jobs);
        while !self.is_held_back && self.running.len() < self.concurrency {
            let Some(fetched) = self.waiting.pop_front() else { break };
            let execution = Execution::prepare(&self.environment, fetched);
            let task = RunningTask { context: execution.context.clone(), is_rescued: execution.is_rescued };
            let handle = self.running.spawn(execution.run());
            self.tasks.insert(handle.id(), task);
        }
    }

    /// Starts none of those that wait, until [`go_on`](Self::go_on).
    pub(crate) fn hold_back(&mut self) {
        self.is_held_back = true;
    }

    /// Starts those that wait, as there are slots for them.
    pub(crate) fn go_on(&mut self) {
        self.is_held_back = false;
        self.start([]);
    }

    /// Tells a job to stop. One that waits for a slot does not start any more.
    pub(crate) fn abort(&mut self, job_id: JobId, reason: AbortReason) {
        let place = self.waiting.iter().position(|waiting| waiting.job.id == job_id);
        if let Some(waiting) = place.and_then(|place| self.waiting.remove(place)) {
            let error = "somebody asked to abort the job before it was started".to_owned();
            self.end_unstarted(&waiting.job, Outcome::Aborted { error });
        }
        self.abort_where(reason, |task| task.context.job().id == job_id);
    }

    /// Aborts the running jobs that match.
    pub(crate) fn abort_where(&self, reason: AbortReason, matches: impl Fn(&RunningTask) -> bool) {
        for task in self.tasks.values().filter(|task| matches(task)) {
            tell_to_stop(&task.context, reason);
        }
    }

    /// Has the jobs that wait for a slot, and others that were just fetched, go back to where they came from.
    pub(crate) fn put_back(&mut self, fetched: impl IntoIterator<Item = FetchedJob>) {
        let waiting: Vec<FetchedJob> = self.waiting.drain(..).chain(fetched).collect();
        for waiting in waiting {
            self.end_unstarted(&waiting.job, Outcome::NotStarted);
        }
    }

    /// All jobs but these are somebody else's now: those that wait are dropped, and those that run are told to stop. Those
    /// that are finished are returned: their endings would be taken for those of the attempts that others make, or this
    /// worker, which may fetch such a job anew.
    pub(crate) fn keep_only(&mut self, kept: &[JobId]) -> Vec<Finished> {
        let is_lost = |job_id: JobId| !kept.contains(&job_id);
        self.waiting.retain(|waiting| !is_lost(waiting.job.id));
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

    /// Gathers the tasks that have ended since, without waiting.
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
            // The task's own panic was caught where it ran. This one came from what it dropped, or is ours, and must not
            // lose the job.
            Err(error) => {
                let is_lost = self.lost.remove(&error.id());
                if let Some(task) = self.tasks.remove(&error.id()).filter(|_| !is_lost) {
                    let outcome = Outcome::Failed { error: format!("the worker failed: {error}") };
                    self.end_unstarted(task.context.job(), outcome);
                }
            }
        }
        self.start([]);
    }

    /// The jobs whose ending is to be stored.
    pub(crate) fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// The ending of these jobs is stored; the rest has finished since.
    pub(crate) fn forget_finished(&mut self, stored: usize) -> Vec<Finished> {
        self.finished.drain(..stored.min(self.finished.len())).collect()
    }

    /// All outcomes that are not stored.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = &Finished> {
        self.finished.iter().chain(self.postponed.iter().map(|(_, finished)| finished))
    }

    /// Keeps an outcome that the database has refused until it is tried again.
    pub(crate) fn postpone(&mut self, finished: Finished, try_at: Instant) {
        self.postponed.push((try_at, finished));
    }

    /// Puts the outcomes whose time has come behind those that are to be stored.
    pub(crate) fn resume_postponed(&mut self) {
        let now = Instant::now();
        self.finished.extend(self.postponed.extract_if(.., |(try_at, _)| *try_at <= now).map(|(_, finished)| finished));
    }

    /// When an outcome is tried again.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.postponed.iter().map(|(try_at, _)| *try_at).min()
    }
}

fn tell_to_stop(context: &JobContext, reason: AbortReason) {
    if context.abort(reason) {
        let job = context.job();
        tracing::info!(
            action = "abort_job",
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            worker.id = job.worker_id,
            ?reason,
            "job {} of task {} is told to stop", job.id, job.task_name,
        );
    }
}
