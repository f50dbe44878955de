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
use crate::worker::queues::{QueueGroup, QueueGroups};

/// The jobs that a worker holds. Only the loop owns this. Running tasks share their contexts with it.
///
/// A job is in one of three states: buffered until a slot is free, running in a slot, or finished but not stored yet. A
/// slot is free again when its task has ended. Jobs are fetched for free slots and for free places in the buffer. Each
/// group of queues has its own slots and its own buffer.
#[derive(Debug)]
pub(crate) struct Slots {
    environment: JobEnvironment,
    queue_groups: QueueGroups,
    groups: Vec<GroupSlots>,
    /// When buffered jobs start no more, although a slot is free, because other workers may have taken them. The
    /// process can be suspended at any time, so this is compared with the clock before each start.
    start_until: Instant,
    running: JoinSet<Finished>,
    /// The running tasks. A job runs at most once at a time.
    tasks: HashMap<JobId, RunningTask>,
    finished: Vec<Finished>,
    /// Outcomes that the database has refused, each with the time of its retry.
    postponed: Vec<(Instant, Finished)>,
}

/// The slots and the buffer of one group of queues.
#[derive(Debug)]
struct GroupSlots {
    concurrency: usize,
    /// How many jobs are fetched at most: for the slots and for the buffer.
    capacity: usize,
    running: usize,
    buffered: VecDeque<BufferedJob>,
    /// Whether a job has freed its slot or its place since the last look.
    is_freed: bool,
}

impl GroupSlots {
    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.running + self.buffered.len())
    }
}

/// A buffered job.
#[derive(Debug)]
struct BufferedJob {
    fetched: FetchedJob,
    /// When the response arrived with which it was fetched.
    held_since: Instant,
}

/// The task of a running job, as the loop sees it.
#[derive(Debug)]
pub(crate) struct RunningTask {
    id: Id,
    group: usize,
    context: JobContext,
    held_since: Instant,
    /// Whether the worker no longer holds the job in this attempt. Its outcome will not be stored.
    is_lost: bool,
    /// Whether other workers rescue the job if they consider this worker stalled.
    pub(crate) is_rescued: bool,
}

impl Slots {
    pub(crate) fn new(
        environment: JobEnvironment,
        queue_groups: QueueGroups,
        local_buffer: usize,
        start_until: Instant,
    ) -> Self {
        let slots = |group: &QueueGroup| GroupSlots {
            concurrency: group.concurrency,
            capacity: group.concurrency + local_buffer,
            running: 0,
            buffered: VecDeque::new(),
            is_freed: false,
        };
        Self {
            environment,
            groups: queue_groups.iter().map(slots).collect(),
            queue_groups,
            start_until,
            running: JoinSet::new(),
            tasks: HashMap::new(),
            finished: Vec::new(),
            postponed: Vec::new(),
        }
    }

    /// Returns how many jobs of this group may be fetched.
    pub(crate) fn free(&self, group: usize) -> usize {
        self.groups.get(group).map_or(0, GroupSlots::free)
    }

    /// Takes the groups in which a job has freed its slot or its place.
    pub(crate) fn take_freed(&mut self) -> impl Iterator<Item = usize> {
        let groups = self.groups.iter_mut().enumerate();
        groups.filter_map(|(index, group)| std::mem::take(&mut group.is_freed).then_some(index))
    }

    /// Whether a task is running.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether the worker holds no job.
    pub(crate) fn is_empty(&self) -> bool {
        let nothing_runs = self.running.is_empty() && self.buffered().next().is_none();
        nothing_runs && self.finished.is_empty() && self.postponed.is_empty()
    }

    /// Returns all jobs that the worker holds, with their previous attempts.
    pub(crate) fn held(&self) -> impl Iterator<Item = (JobId, i32)> {
        let of = |job: &Job| (job.id, job.attempts);
        let running = self.tasks.values().filter(|task| !task.is_lost).map(move |task| of(task.context.job()));
        let buffered = self.buffered().map(move |buffered| of(&buffered.fetched.job));
        running.chain(buffered).chain(self.unsaved().map(|finished| (finished.job_id, finished.attempts)))
    }

    fn buffered(&self) -> impl Iterator<Item = &BufferedJob> {
        self.groups.iter().flat_map(|group| &group.buffered)
    }

    /// Returns the contexts of the running jobs.
    pub(crate) fn running(&self) -> impl Iterator<Item = &JobContext> {
        self.tasks.values().map(|task| &task.context)
    }

    /// Adds jobs, and starts as many as there are free slots.
    pub(crate) fn start(&mut self, jobs: Vec<FetchedJob>) {
        self.lose_former_attempts(&jobs);
        let held_since = Instant::now();
        for fetched in jobs {
            let group = self.queue_groups.of(&fetched.job.queue);
            if let Some(group) = self.groups.get_mut(group) {
                group.buffered.push_back(BufferedJob { fetched, held_since });
            }
        }
        self.fill();
    }

    /// Starts buffered jobs in the free slots.
    fn fill(&mut self) {
        for group in 0..self.groups.len() {
            self.fill_group(group);
        }
    }

    /// Starts buffered jobs of one group. A job whose former attempt still runs waits until that has ended.
    fn fill_group(&mut self, index: usize) {
        let Some(group) = self.groups.get_mut(index) else { return };
        while group.running < group.concurrency && !group.buffered.is_empty() && Instant::now() < self.start_until {
            let is_free = |buffered: &BufferedJob| !self.tasks.contains_key(&buffered.fetched.job.id);
            let next = group.buffered.iter().position(is_free).and_then(|next| group.buffered.remove(next));
            let Some(BufferedJob { fetched, held_since }) = next else { break };
            group.running += 1;
            let execution = Execution::prepare(&self.environment, fetched);
            let (context, is_rescued) = (execution.context.clone(), execution.is_rescued);
            let job_id = context.job().id;
            let id = self.running.spawn(execution.run_before(self.start_until)).id();
            self.tasks
                .insert(job_id, RunningTask { id, group: index, context, held_since, is_lost: false, is_rescued });
        }
    }

    /// Handles fetched jobs of which this worker still has a former attempt: somebody requeued them meanwhile.
    fn lose_former_attempts(&mut self, fetched: &[FetchedJob]) {
        for FetchedJob { job, .. } in fetched {
            if let Some(former) = self.tasks.get_mut(&job.id) {
                former.is_lost = true;
                request_abort(&former.context, AbortReason::WorkerLost);
            }
        }
        if !fetched.is_empty() && self.buffered().next().is_some() {
            let fetched: HashSet<JobId> = fetched.iter().map(|fetched| fetched.job.id).collect();
            self.drop_buffered(|former| fetched.contains(&former.fetched.job.id));
        }
    }

    /// Drops the buffered jobs that match.
    fn drop_buffered(&mut self, matches: impl Fn(&BufferedJob) -> bool) {
        for group in &mut self.groups {
            let held = group.buffered.len();
            group.buffered.retain(|buffered| !matches(buffered));
            group.is_freed |= group.buffered.len() < held;
        }
    }

    /// Starts buffered jobs until this time, as slots become free.
    pub(crate) fn start_until(&mut self, until: Instant) {
        self.start_until = until;
        self.fill();
    }

    /// Asks a job to abort. A buffered one will not start.
    pub(crate) fn abort(&mut self, job_id: JobId, reason: AbortReason) {
        let is_meant = |buffered: &BufferedJob| buffered.fetched.job.id == job_id;
        let unstarted =
            self.buffered().find(|buffered| is_meant(buffered)).map(|buffered| buffered.fetched.job.clone());
        if let Some(job) = unstarted {
            self.drop_buffered(is_meant);
            let error = "an abort of the job was requested before it started".to_owned();
            self.end_unstarted(&job, Outcome::Aborted { error });
        }
        if let Some(task) = self.tasks.get(&job_id) {
            request_abort(&task.context, reason);
        }
    }

    /// Asks the running jobs that match to abort.
    pub(crate) fn abort_where(&self, reason: AbortReason, matches: impl Fn(&RunningTask) -> bool) {
        for task in self.tasks.values().filter(|task| matches(task)) {
            request_abort(&task.context, reason);
        }
    }

    /// Requeues the buffered jobs, and others that were just fetched.
    pub(crate) fn requeue(&mut self, fetched: impl IntoIterator<Item = FetchedJob>) {
        let buffered = self.groups.iter_mut().flat_map(|group| group.buffered.drain(..));
        let unstarted: Vec<FetchedJob> = buffered.map(|buffered| buffered.fetched).chain(fetched).collect();
        for unstarted in unstarted {
            self.end_unstarted(&unstarted.job, Outcome::NotStarted);
        }
    }

    /// Gives up the jobs that the database does not list for this worker, each with its attempts, although the worker
    /// held them when it asked. Others have taken, finished or deleted them. Buffered ones are dropped, and running
    /// ones are asked to abort. Outcomes stay: the database stores them only for their attempts.
    pub(crate) fn lose_unlisted(&mut self, listed: &[(JobId, i32)], asked_at: Instant) {
        let listed: HashSet<(JobId, i32)> = listed.iter().copied().collect();
        let is_lost =
            |job: &Job, held_since: Instant| held_since < asked_at && !listed.contains(&(job.id, job.attempts));
        self.drop_buffered(|buffered| is_lost(&buffered.fetched.job, buffered.held_since));
        for task in self.tasks.values_mut().filter(|task| is_lost(task.context.job(), task.held_since)) {
            task.is_lost = true;
            request_abort(&task.context, AbortReason::WorkerLost);
        }
    }

    fn end_unstarted(&mut self, job: &Job, outcome: Outcome) {
        self.finished.push(Finished { job_id: job.id, attempts: job.attempts, outcome, duration: Duration::ZERO });
    }

    /// Waits for a task to end. Dropping this future loses nothing.
    pub(crate) async fn join_next(&mut self) {
        if let Some(joined) = self.running.join_next().await {
            self.finish(joined);
        }
    }

    /// Collects the tasks that have ended, without waiting.
    pub(crate) fn gather(&mut self) {
        while let Some(joined) = self.running.try_join_next() {
            self.finish(joined);
        }
    }

    fn finish(&mut self, joined: Result<Finished, JoinError>) {
        let task = match &joined {
            Ok(finished) => self.tasks.remove(&finished.job_id),
            Err(error) => self.tasks.extract_if(|_, task| task.id == error.id()).next().map(|(_, task)| task),
        };
        if let Some(task) = &task {
            if let Some(group) = self.groups.get_mut(task.group) {
                group.running -= 1;
                group.is_freed = true;
            }
            if task.context.job().lock.is_some() {
                // The next job of the lock can be in another queue.
                self.groups.iter_mut().for_each(|group| group.is_freed = true);
            }
        }
        match (joined, task) {
            (Ok(finished), Some(task)) if task.is_lost => {
                let worker_id = task.context.job().worker_id.unwrap_or_default();
                log_lost(finished.job_id, &finished.outcome, worker_id);
            }
            (Ok(finished), _) => self.finished.push(finished),
            // The task's own panic was caught where it ran. This one comes from a value that it dropped, or from a bug
            // here, and must not lose the job.
            (Err(error), Some(task)) if !task.is_lost => {
                let outcome = Outcome::Failed { error: format!("the worker could not run the job: {error}") };
                self.end_unstarted(task.context.job(), outcome);
            }
            (Err(_), _) => {}
        }
        self.fill();
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
