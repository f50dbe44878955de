//! Runs one job, from its name and arguments to an outcome.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use tracing::Instrument;

use crate::app::App;
use crate::database::statements::finish_and_fetch::FetchedJob;
use crate::job::JobId;
use crate::job::interruption::AbortReason;
use crate::queue::metrics::RunningJob;
use crate::retry::StalledJobPolicy;
use crate::support::extensions::Extensions;
use crate::task::blocking::{BlockingCalls, CALLS};
use crate::task::context::{JobContext, WorkerOfJob};
use crate::task::middleware::{End, Middleware, Next};
use crate::task::panicked::TaskPanicked;
use crate::worker::log::{job_event, log_end, log_start, span};
use crate::worker::outcome::{Completion, Outcome, TaskPolicy, decide};
use crate::worker::unknown_tasks::UnknownJobs;

/// The environment of a worker's jobs. It is the same for all of them.
#[derive(Debug, Clone)]
pub(super) struct JobEnvironment {
    pub(super) app: App,
    pub(super) worker: WorkerOfJob,
    pub(super) state: Extensions,
    pub(super) timeout: Option<Duration>,
    pub(super) unknown_jobs: UnknownJobs,
    pub(super) worker_middleware: Arc<[Middleware]>,
    pub(super) task_middleware: Arc<[Middleware]>,
}

/// A job whose attempt has ended, and whose outcome is not stored yet.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job_id: JobId,
    /// The number of previous attempts.
    pub(super) attempts: i32,
    pub(super) outcome: Outcome,
    pub(super) duration: Duration,
}

/// A job that is ready to run.
pub(super) struct Execution {
    pub(super) context: JobContext,
    next: Next,
    policy: TaskPolicy,
    /// Whether other workers rescue the job if they consider this worker stalled.
    pub(super) is_rescued: bool,
}

impl Execution {
    /// Finds the task of the job. A job that cannot run still passes through the worker's middleware, and fails or is
    /// requeued at its end.
    pub(super) fn prepare(environment: &JobEnvironment, fetched: FetchedJob) -> Self {
        let FetchedJob { job, unreadable_args } = fetched;
        let refuse = |end| (end, Arc::from([]), TaskPolicy::default());
        let (end, middleware, policy) = match (unreadable_args, environment.app.find_task(&job.task_name)) {
            (None, Ok(task)) => {
                let policy = TaskPolicy {
                    retry: task.retry.clone(),
                    stalled: task.stalled,
                    timeout: task.timeout.or(environment.timeout),
                };
                (End::Task(task.run), task.middleware.clone(), policy)
            }
            (_, Err(error)) => match environment.unknown_jobs.delay_of(job.id, Instant::now()) {
                Some(delay) => {
                    job_event!(warn, "task_not_found", &job, {}, "is requeued for {delay:?}: {error}");
                    refuse(End::NotYet(error.to_string(), delay))
                }
                None => refuse(End::Refusal(error.to_string())),
            },
            (Some(problem), Ok(_)) => {
                let (job_id, task_name) = (job.id, &job.task_name);
                let reason =
                    format!("could not read the arguments of job {job_id} of the task \"{task_name}\": {problem}");
                refuse(End::Refusal(reason))
            }
        };
        let is_rescued = matches!(end, End::Task(_)) && policy.stalled != StalledJobPolicy::Leave;
        let is_last_attempt = policy.retry.is_last_attempt(&job);
        let job_manager = environment.app.job_manager().clone();
        let (worker, state) = (environment.worker.clone(), environment.state.clone());
        let context = JobContext::new(job_manager, job, worker, is_last_attempt, state);
        let of_tasks = match &end {
            End::Task(_) => environment.task_middleware.clone(),
            End::Refusal(_) | End::NotYet(..) => Arc::from([]),
        };
        let next = Next::new([environment.worker_middleware.clone(), of_tasks, middleware], end);
        Self { context, next, policy, is_rescued }
    }

    /// Runs the job, unless this time has passed when it would start. The process may have been suspended since the
    /// loop started it, and other workers may have taken the job.
    pub(super) async fn run_before(self, start_until: tokio::time::Instant) -> Finished {
        if tokio::time::Instant::now() < start_until {
            return self.run().await;
        }
        let job = self.context.job();
        let (job_id, attempts) = (job.id, job.attempts);
        Finished { job_id, attempts, outcome: Outcome::NotStarted, duration: Duration::ZERO }
    }

    /// Runs the job and returns its outcome. It never panics and never fails in another way.
    pub(super) async fn run(self) -> Finished {
        let Self { context, next, policy, .. } = self;
        let _abort_on_drop = AbortOnDrop(context.clone());
        let span = span(&context);
        async {
            let started = Instant::now();
            log_start(context.job());
            let running = RunningJob::start(context.job(), context.worker_name(), context.start_timestamp());
            let ended = AssertUnwindSafe(run_until_stopped(next, &context, policy.timeout)).catch_unwind().await;
            // A value that the task held can panic when it is dropped.
            let ended = ended.unwrap_or_else(|panic| panicked(&*panic));
            let outcome = decide(ended, context.abort_reason(), context.job(), &policy);
            let duration = started.elapsed();
            log_end(context.job(), &outcome, duration);
            running.end(context.job(), outcome.label(), duration);
            Finished { job_id: context.job().id, attempts: context.job().attempts, outcome, duration }
        }
        .instrument(span)
        .await
    }
}

/// Asks the job to abort if this is dropped early, which happens when the runtime shuts down. The runtime then waits
/// for blocking code, which must notice it.
struct AbortOnDrop(JobContext);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort(AbortReason::Shutdown);
    }
}

/// Runs the task in its middleware, and catches the panics of middleware. If the job is asked to abort, the task is
/// cancelled at its await point, except while it awaits blocking code.
async fn run_until_stopped(next: Next, context: &JobContext, timeout: Option<Duration>) -> Completion {
    if context.abort_reason().is_some() {
        return Completion::Cancelled;
    }
    let blocking = BlockingCalls::default();
    let task = AssertUnwindSafe(next.run(context.clone())).catch_unwind();
    let mut task = pin!(CALLS.scope(blocking.clone(), task));
    let mut timeout = pin!(OptionFuture::from(timeout.map(tokio::time::sleep)));
    poll_fn(|poll| {
        if let Poll::Ready(caught) = task.as_mut().poll(poll) {
            return Poll::Ready(match caught {
                Ok(result) => Completion::Returned(result),
                Err(panic) => panicked(&*panic),
            });
        }
        if timeout.as_mut().poll(poll) == Poll::Ready(Some(())) {
            context.abort(AbortReason::Timeout);
        }
        match context.poll_abort(poll) {
            Poll::Ready(()) if !blocking.are_running() => Poll::Ready(Completion::Cancelled),
            _ => Poll::Pending,
        }
    })
    .await
}

/// The end of an attempt outside of the task, in a middleware or when a value was dropped.
fn panicked(panic: &(dyn Any + Send)) -> Completion {
    Completion::Returned(Err(TaskPanicked::caught(panic).into()))
}
