//! The loop: when to go to the database, and what for.

pub(crate) mod batch_size;
pub(crate) mod request;
pub(crate) mod slots;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::database::connection::{Connection, Connector};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::job::JobId;
use crate::job::interruption::AbortReason;
use crate::support::backoff::Backoff;
use crate::task::worker_handle::WorkerHandle;
use crate::worker::event_loop::batch_size::Pace;
use crate::worker::event_loop::request::{Answer, Answered, Question, UnderWay, add_ending, answer};
use crate::worker::event_loop::slots::Slots;
use crate::worker::executor::Finished;
use crate::worker::heartbeat::Report;
use crate::worker::log::{log_lost, log_not_retried, log_stored};
use crate::worker::settings::Options;
use crate::worker::storage::{FinishedAndFetched, Heartbeat};

/// How long a connection is kept with nothing to do.
const LONGEST_LULL: std::time::Duration = std::time::Duration::from_millis(100);

/// How often the loop lets the jobs that it has started go first, before it looks at what has ended.
const YIELDS_AFTER_START: usize = 4;

/// What the loop shares with others. Who writes what stands beside it.
pub(super) struct Signs {
    /// Written by users, signals and jobs: to stop.
    pub(super) handle: WorkerHandle,
    /// Written by the lifeline and the rescuer: there may be jobs.
    pub(super) wake: Arc<Notify>,
    /// Written by the lifeline.
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    /// Written by the loop when the worker has registered anew; read by the lifeline.
    pub(super) worker_ids: watch::Sender<i64>,
    /// Written by the loop: whether jobs are running; read by the lifeline.
    pub(super) is_busy: Arc<AtomicBool>,
}

/// The state of the loop. Nothing else writes any of it.
pub(super) struct Loop {
    connector: Connector,
    options: Options,
    slots: Slots,
    signs: Signs,
    phase: Phase,
    /// Whether the worker is registered, as far as is known.
    registered: bool,
    /// The one thing that is asked of the database at this time.
    under_way: Option<UnderWay>,
    /// A connection, kept over a burst of work: taking one costs a round trip, with which the pool checks it.
    connection: Option<Connection>,
    /// When to give the connection back, unless there is something to do before.
    give_back_at: Instant,
    /// There may be jobs to fetch.
    look: bool,
    next_poll: Instant,
    /// Jobs that the database says this worker is doing: those that it knows nothing of were handed out in an answer that
    /// was lost.
    reported: Vec<JobId>,
    /// Whether the last question was to fetch jobs.
    asked_for_jobs: bool,
    /// Whether an answer may have been lost that handed out jobs. Before the worker ends it asks once which jobs it has.
    in_doubt: bool,
    /// Until when nobody takes this worker for dead: a heartbeat renews it.
    alive_until: Instant,
    /// Whether that time is over, and the jobs were told to stop.
    out_of_touch: bool,
    backoff: Backoff,
    /// Since when the database has done nothing that it was asked for.
    failing_since: Option<Instant>,
    /// After a failure: when to go to the database again.
    pause_until: Option<Instant>,
    pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// No more jobs are taken. Those that run are aborted at a time, if one is set.
    Stopping {
        since: Instant,
        abort_at: Option<Instant>,
    },
    /// The jobs that run were told to stop.
    Aborting {
        since: Instant,
    },
}

impl Loop {
    pub(super) fn new(connector: Connector, options: Options, slots: Slots, signs: Signs) -> Self {
        let now = Instant::now();
        Self {
            connector,
            slots,
            signs,
            phase: Phase::Working,
            registered: true,
            under_way: None,
            connection: None,
            give_back_at: now,
            look: true,
            next_poll: now + options.fetch_job_polling_interval,
            reported: Vec::new(),
            asked_for_jobs: false,
            in_doubt: false,
            alive_until: now + options.stalled_worker_timeout,
            out_of_touch: false,
            backoff: Backoff::default(),
            failing_since: None,
            pause_until: None,
            pace: Pace::default(),
            options,
        }
    }

    /// The id under which the worker is registered.
    pub(super) fn worker_id(&self) -> i64 {
        *self.signs.worker_ids.borrow()
    }

    /// Each turn starts what is to be asked of the database, if nothing is under way, and waits for whatever comes next.
    /// What finishes while a statement is under way goes out in the next one.
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        loop {
            self.signs.handle.note_turn();
            self.slots.gather();
            self.look_up();
            if self.under_way.is_none() && self.pause_until.is_none() {
                self.under_way = self.next_operation();
            }
            if self.is_done() {
                return Ok(());
            }
            self.signs.is_busy.store(self.slots.is_running(), Ordering::Relaxed);
            self.wait().await?;
        }
    }

    /// What [`wait`](Self::wait) would hear of, for a worker that always has something else to do.
    fn look_up(&mut self) {
        if self.phase == Phase::Working && self.signs.handle.is_stopping() {
            self.stop();
        }
        if self.signs.handle.is_aborting() {
            self.abort();
        }
        while let Ok(report) = self.signs.reports.try_recv() {
            self.heed(report);
        }
    }

    /// The one place that waits. A branch that is not taken loses nothing: the operation under way and the tasks stay where
    /// they are, a wake-up and a report stay where they were sent, and to be told to stop is for good.
    async fn wait(&mut self) -> Result<(), Error> {
        let deadline = self.next_deadline();
        let is_working = self.phase == Phase::Working;
        let is_aborting = matches!(self.phase, Phase::Aborting { .. });
        tokio::select! {
            answer = answer(&mut self.under_way) => {
                self.under_way = None;
                return self.take(answer).await;
            }
            () = self.slots.join_next(), if self.slots.is_running() => {}
            () = self.signs.wake.notified() => self.look = true,
            Some(report) = self.signs.reports.recv() => self.heed(report),
            () = self.signs.handle.stopping(), if is_working => self.stop(),
            () = self.signs.handle.aborting(), if !is_aborting => self.abort(),
            () = tokio::time::sleep_until(deadline) => return self.on_time(),
        }
        Ok(())
    }

    // ---- When to do what ----

    fn next_operation(&mut self) -> Option<UnderWay> {
        if !self.registered {
            let held = self.slots.held().collect();
            return Some(self.ask(Question::Register { held }));
        }
        let unknown = self.take_unknown();
        if !unknown.is_empty() {
            let worker_id = self.worker_id();
            return Some(self.ask(Question::Find { worker_id, job_ids: unknown }));
        }
        let has_cause = !self.slots.finished().is_empty() || (self.look && self.free_slots() > 0);
        if has_cause {
            return Some(self.exchange());
        }
        if self.has_nothing_more_to_do() && std::mem::take(&mut self.in_doubt) {
            let worker_id = self.worker_id();
            return Some(self.ask(Question::Beat { worker_id }));
        }
        None
    }

    fn free_slots(&self) -> usize {
        if self.phase == Phase::Working && !self.out_of_touch { self.slots.free() } else { 0 }
    }

    fn is_done(&self) -> bool {
        self.has_nothing_more_to_do() && self.under_way.is_none()
    }

    fn has_nothing_more_to_do(&self) -> bool {
        let no_more_to_come = self.phase != Phase::Working || (!self.options.wait && !self.look);
        no_more_to_come && self.slots.is_empty()
    }

    fn next_deadline(&self) -> Instant {
        let mut deadline = self.next_poll;
        let give_back_at = (self.connection.is_some() && self.under_way.is_none()).then_some(self.give_back_at);
        let give_up_at = self.under_way.as_ref().map(|under_way| under_way.give_up_at);
        let abort_at = if let Phase::Stopping { abort_at, .. } = self.phase { abort_at } else { None };
        let alive_until = (!self.out_of_touch).then_some(self.alive_until);
        for other in [give_back_at, give_up_at, abort_at, alive_until, self.pause_until].into_iter().flatten() {
            deadline = deadline.min(other);
        }
        deadline
    }

    fn on_time(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.next_poll {
            self.look = true;
            self.next_poll = now + self.options.fetch_job_polling_interval;
        }
        if now >= self.give_back_at {
            self.connection = None;
        }
        if self.pause_until.is_some_and(|pause_until| now >= pause_until) {
            self.pause_until = None;
        }
        if matches!(self.phase, Phase::Stopping { abort_at: Some(abort_at), .. } if now >= abort_at) {
            self.abort();
        }
        if now >= self.alive_until {
            self.fall_out_of_touch();
        }
        if let Some(late) = self.under_way.take_if(|under_way| now >= under_way.give_up_at) {
            return self.give_up(late);
        }
        Ok(())
    }

    // ---- Stopping ----

    fn stop(&mut self) {
        let since = Instant::now();
        let abort_at = self.options.shutdown_graceful_timeout.and_then(|timeout| since.checked_add(timeout));
        self.phase = Phase::Stopping { since, abort_at };
        self.slots.put_back([]);
        let worker_id = self.worker_id();
        tracing::info!(action = "stopping_worker", worker.id = worker_id, "stopping; no more jobs are taken");
        for context in self.slots.running() {
            let job = context.job();
            tracing::info!(
                action = "ending_job",
                job.id = i64::from(job.id),
                job.task_name = %job.task_name,
                worker.id = worker_id,
                "waiting for job {} of task {}", job.id, job.task_name,
            );
        }
    }

    fn abort(&mut self) {
        let since = match self.phase {
            Phase::Working => Instant::now(),
            Phase::Stopping { since, .. } => since,
            Phase::Aborting { .. } => return,
        };
        self.phase = Phase::Aborting { since };
        self.slots.put_back([]);
        self.slots.abort_where(AbortReason::Shutdown, |_| true);
    }

    /// No heartbeat has reached the database for so long that others may take this worker's jobs: those that run stop, and
    /// no more are fetched before the next heartbeat. A job that nobody else takes goes on.
    fn fall_out_of_touch(&mut self) {
        if self.out_of_touch {
            return;
        }
        self.out_of_touch = true;
        self.slots.hold_back();
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_out_of_touch",
            worker.id = worker_id,
            "worker {worker_id} could not tell the database for {:?} that it is alive; others may have its jobs by now, so \
             it stops them",
            self.options.stalled_worker_timeout,
        );
        self.slots.abort_where(AbortReason::WorkerLost, |task| task.is_rescued);
    }

    // ---- What the lifeline reports ----

    fn heed(&mut self, report: Report) {
        if report.worker_id != self.worker_id() || !self.registered {
            return;
        }
        match report.heartbeat {
            Heartbeat::Gone => self.declare_gone(),
            Heartbeat::Alive(jobs) => {
                self.alive_until = report.sent_at + self.options.stalled_worker_timeout;
                if std::mem::take(&mut self.out_of_touch) {
                    self.look = true;
                    self.slots.go_on();
                }
                for (job_id, _) in jobs.iter().filter(|(_, abort_requested)| *abort_requested) {
                    self.slots.abort(*job_id, AbortReason::UserRequest);
                }
                self.reported = jobs.into_iter().map(|(job_id, _)| job_id).collect();
            }
        }
    }

    /// The worker's row is gone: somebody took this worker for dead.
    fn declare_gone(&mut self) {
        let worker_id = self.worker_id();
        tracing::error!(
            action = "worker_lost",
            worker.id = worker_id,
            "worker {worker_id} was removed by somebody who took it for dead; it registers anew",
        );
        self.registered = false;
    }

    /// Jobs that the database says this worker is doing, while it knows nothing of them. Nothing is under way, so the
    /// answer that handed them out was lost.
    fn take_unknown(&mut self) -> Vec<JobId> {
        let mut unknown = std::mem::take(&mut self.reported);
        if !unknown.is_empty() {
            let held: HashSet<JobId> = self.slots.held().map(|(job_id, _)| job_id).collect();
            unknown.retain(|job_id| !held.contains(job_id));
        }
        unknown
    }

    // ---- What is asked of the database ----

    /// Stores how jobs ended and fetches new ones, in one round trip.
    fn exchange(&mut self) -> UnderWay {
        let (stored, free_slots) = self.pace.plan(self.slots.finished().len(), self.free_slots());
        let queues = self.options.queues.as_deref().map(<[String]>::to_vec);
        let mut statement = FinishAndFetchJobs::new(self.worker_id(), queues, free_slots);
        for finished in self.slots.finished().iter().take(stored) {
            add_ending(&mut statement, finished, &self.options);
        }
        if free_slots > 0 {
            // What is announced from now on may come too late for this look, and is cause for another one.
            self.look = false;
        }
        self.ask(Question::Exchange { stored, free_slots, statement })
    }

    /// Asks on the connection of this burst of work.
    fn ask(&mut self, question: Question) -> UnderWay {
        let kept = self.connection.take();
        self.asked_for_jobs = matches!(question, Question::Exchange { free_slots: 1.., .. });
        UnderWay::ask(question, kept, self.connector.clone(), self.options.stalled_worker_timeout)
    }

    // ---- What the database answers ----

    async fn take(&mut self, answer: Answered) -> Result<(), Error> {
        let (connection, answer) = match answer {
            Ok(answered) => answered,
            Err(error) => return self.pause_after(error),
        };
        // Kept for what comes next.
        self.connection = Some(connection);
        self.give_back_at = Instant::now() + LONGEST_LULL;
        // An ending that the database refuses is tried less and less often, also where it hands out jobs meanwhile.
        if !self.pace.is_split() || !matches!(answer, Answer::Exchanged { stored: 0, .. }) {
            self.backoff.reset();
            self.failing_since = None;
        }
        match answer {
            Answer::Exchanged { stored, free_slots, answer } => {
                self.exchanged(stored, free_slots, answer);
                // Jobs that end at once do so here, and their endings go out together in the next exchange. Another thread
                // may have taken some of them, and needs a moment longer.
                for _ in 0..YIELDS_AFTER_START {
                    tokio::task::yield_now().await;
                    self.slots.gather();
                    if !self.slots.is_running() {
                        break;
                    }
                }
            }
            Answer::Registered { worker_id, kept } => self.registered_as(worker_id, &kept),
            Answer::Beaten(report) => self.heed(report),
            Answer::Found(jobs) => self.found(jobs),
        }
        Ok(())
    }

    fn exchanged(&mut self, stored: usize, free_slots: usize, answer: FinishedAndFetched) {
        self.pace.accepted(stored, self.slots.finished().len());
        let finished = self.slots.forget_finished(stored);
        let worker_id = self.worker_id();
        for Finished { job_id, outcome, .. } in &finished {
            if answer.lost.contains(job_id) {
                log_lost(*job_id, outcome, worker_id);
            } else if answer.not_retried.contains(job_id) {
                log_not_retried(*job_id, worker_id);
            } else {
                log_stored(*job_id, outcome);
            }
        }
        if free_slots > 0 {
            self.signs.handle.note_fetch();
            // As many as there was room for: there may be more.
            self.look |= answer.fetched.len() >= free_slots;
            self.next_poll = Instant::now() + self.options.fetch_job_polling_interval;
        }
        self.take_in_hand(answer.fetched);
    }

    fn registered_as(&mut self, worker_id: i64, kept: &[JobId]) {
        tracing::info!(
            action = "register_worker",
            worker.id = worker_id,
            "registered anew as worker {worker_id}, with {} of its jobs",
            kept.len(),
        );
        self.signs.worker_ids.send_replace(worker_id);
        self.registered = true;
        self.alive_until = Instant::now() + self.options.stalled_worker_timeout;
        self.out_of_touch = false;
        for Finished { job_id, outcome, .. } in self.slots.keep_only(kept) {
            log_lost(job_id, &outcome, worker_id);
        }
        self.slots.go_on();
    }

    fn found(&mut self, jobs: Vec<FetchedJob>) {
        for fetched in &jobs {
            tracing::warn!(
                action = "job_found",
                job.id = i64::from(fetched.job.id),
                worker.id = fetched.job.worker_id,
                "job {} was handed out in an answer that was lost on the way; it starts now",
                fetched.job.id,
            );
        }
        self.take_in_hand(jobs);
    }

    fn take_in_hand(&mut self, jobs: Vec<FetchedJob>) {
        match self.phase {
            Phase::Working => self.slots.start(jobs),
            // They were fetched before the worker was told to stop. What has no slot does not wait for one.
            Phase::Stopping { .. } => {
                self.slots.start(jobs);
                self.slots.put_back([]);
            }
            Phase::Aborting { .. } => self.slots.put_back(jobs),
        }
    }

    /// The answer did not come in time.
    fn give_up(&mut self, late: UnderWay) -> Result<(), Error> {
        late.abandon();
        let timeout = self.options.stalled_worker_timeout;
        self.pause_after(Error::NoAnswer { action: "finish jobs and fetch new ones", timeout })
    }

    /// After a failed operation: nothing of it is forgotten, and it is tried again after a while. Jobs that the database
    /// may have handed out in an answer that never arrived are found by the heartbeat.
    fn pause_after(&mut self, error: Error) -> Result<(), Error> {
        self.look = true;
        self.in_doubt |= self.asked_for_jobs;
        if says_that_worker_is_gone(&error) {
            self.declare_gone();
        } else if error.is_refusal() && self.pace.refused() {
            self.slots.postpone_first();
        }
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        let since = match self.phase {
            Phase::Working => None,
            Phase::Stopping { since, .. } | Phase::Aborting { since } => Some(since.max(failing_since)),
        };
        if since.is_some_and(|since| since.elapsed() > self.options.stalled_worker_timeout) {
            let job_ids = self.slots.finished().iter().map(|finished| finished.job_id).collect();
            return Err(Error::UnsavedJobs { job_ids, source: Box::new(error) });
        }
        let wait = self.backoff.next_wait();
        let worker_id = self.worker_id();
        tracing::error!(
            action = "fetch_job_error",
            worker.id = worker_id,
            "worker {worker_id} tries again in {wait:?}: {error}",
        );
        self.pause_until = Some(Instant::now() + wait);
        Ok(())
    }
}

/// A job cannot be given to a worker without a row. An application may have foreign keys of its own, which say nothing
/// about the worker.
fn says_that_worker_is_gone(error: &Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
    matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::ForeignKeyViolation, information))
        if information.constraint_name() == Some("procrastinate_jobs_worker_id_fkey"))
}
