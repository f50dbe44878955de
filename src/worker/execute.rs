//! One job, from its name and arguments to an outcome.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;

use super::Options;
use super::outcome::{Outcome, Panicked, decide, panic_message};
use crate::app::App;
use crate::job::Job;
use crate::job_context::JobContext;
use crate::queries::lifecycle::FetchedJob;
use crate::retry::Retry;
use crate::task::{RegisteredTask, TaskError};

/// Runs a job and says how it ended. It never panics, and never fails in any other way.
pub(super) async fn execute(app: App, options: Options, fetched: FetchedJob) -> Outcome {
    let started = Instant::now();
    log_start(&fetched.job);
    let prepared = prepare(&app, &fetched);
    let context = JobContext::new(app, fetched.job, options.name, options.queues);
    let outcome = match prepared {
        Ok(task) => decide(run(task, context.clone()).await, context.job(), &task.retry()),
        // What cannot be run now cannot be run later.
        Err(error) => decide(Err(error.into()), context.job(), &Retry::default()),
    };
    log_end(context.job(), &outcome, started);
    outcome
}

/// The task of the job, if the job can be run at all.
fn prepare(app: &App, fetched: &FetchedJob) -> Result<RegisteredTask, String> {
    if let Some(problem) = &fetched.unreadable_args {
        return Err(format!("the job's arguments cannot be read: {problem}"));
    }
    app.find_task(&fetched.job.task_name).map_err(|error| error.to_string())
}

/// Runs the task. A panic, in its first poll or a later one, ends here.
async fn run(task: RegisteredTask, context: JobContext) -> Result<(), TaskError> {
    match AssertUnwindSafe(async move { task.run(context).await }).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(Panicked(panic_message(&*panic)).into()),
    }
}

fn log_start(job: &Job) {
    tracing::info!(
        action = "start_job",
        job.id = i64::from(job.id),
        job.task_name = %job.task_name,
        job.queue = %job.queue,
        job.attempts = job.attempts,
        worker.id = job.worker_id,
        "started job {} of task {}", job.id, job.task_name,
    );
}

fn log_end(job: &Job, outcome: &Outcome, started: Instant) {
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Outcome::Succeeded => tracing::info!(
            action = "job_success",
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            worker.id = job.worker_id,
            duration_ms,
            "job {} of task {} succeeded after {duration_ms} ms", job.id, job.task_name,
        ),
        Outcome::Failed { error } => tracing::error!(
            action = "job_error",
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            worker.id = job.worker_id,
            duration_ms,
            "job {} of task {} failed after {duration_ms} ms: {error}", job.id, job.task_name,
        ),
        Outcome::Retried { error, decision } => tracing::warn!(
            action = "job_error_retry",
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            worker.id = job.worker_id,
            duration_ms,
            "job {} of task {} failed after {duration_ms} ms and is tried again {}: {error}",
            job.id, job.task_name, decision,
        ),
    }
}
