//! Log events of a job: a span while it runs, and events when it starts and ends.

use std::time::Duration;

use tracing::Span;

use crate::database::statements::finish_and_fetch::MissingPart;
use crate::job::{Job, JobId};
use crate::task::context::JobContext;
use crate::worker::outcome::Outcome;

/// Returns the span in which a job runs. It identifies what the task logs.
pub(super) fn span(context: &JobContext) -> Span {
    let job = context.job();
    tracing::info_span!(
        "job",
        job.id = i64::from(job.id),
        job.task_name = %job.task_name,
        job.queue = %job.queue,
        job.attempt = i64::from(job.attempts) + 1,
        job.lock = job.lock.as_deref(),
        worker.id = job.worker_id,
        worker.name = context.worker_name(),
    )
}

/// Logs an event of a job. All of them have the same first fields, and differ in level, action and text.
macro_rules! job_event {
    ($level:ident, $action:literal, $job:expr, { $($field:tt)* }, $($text:tt)+) => {{
        let job: &crate::job::Job = $job;
        tracing::$level!(
            action = $action,
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            worker.id = job.worker_id,
            $($field)*
            "job {} of task {} {}", job.id, job.task_name, format_args!($($text)+),
        )
    }};
}
pub(super) use job_event;

pub(super) fn log_start(job: &Job) {
    tracing::debug!(action = "loaded_job_info", job.id = i64::from(job.id), job.args = %job.args, "job {job}");
    job_event!(info, "start_job", job, { job.attempts = job.attempts, }, "started");
}

/// Logs how an attempt ended.
pub(super) fn log_end(job: &Job, outcome: &Outcome, duration: Duration) {
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    macro_rules! log {
        ($level:ident, $action:literal, $($text:tt)+) => {
            job_event!($level, $action, job, { duration_ms, }, "{} after {duration_ms} ms", format_args!($($text)+))
        };
    }
    match outcome {
        Outcome::Succeeded => log!(info, "job_success", "succeeded"),
        Outcome::Failed { error } => log!(error, "job_error", "failed ({error})"),
        Outcome::Retried { error, decision } => {
            log!(warn, "job_error_retry", "failed and will be retried {decision} ({error})");
        }
        Outcome::Aborted { error } => log!(info, "job_aborted", "was aborted ({error})"),
        Outcome::Interrupted { error, decision } => {
            log!(warn, "job_aborted_retry", "was interrupted and will be retried {decision} ({error})");
        }
        Outcome::Snoozed { error, decision } => {
            log!(info, "job_snoozed", "was snoozed and will run again {decision} ({error})");
        }
        Outcome::NotStarted => log!(info, "job_not_started", "was requeued because the worker is shutting down,"),
    }
}

pub(super) fn log_stored(job_id: JobId, outcome: &Outcome) {
    let outcome = outcome.as_str();
    tracing::debug!(
        action = "finish_task",
        job.id = i64::from(job_id),
        "stored the outcome of job {job_id}: {outcome}"
    );
}

pub(super) fn log_refused(job_id: JobId, outcome: &Outcome, problem: &str, wait: Duration) {
    tracing::error!(
        action = "finish_job_error",
        job.id = i64::from(job_id),
        "could not store the outcome of job {job_id} ({}): {problem}; retrying in {wait:?}",
        outcome.as_str(),
    );
}

pub(super) fn log_incomplete(job_id: JobId, missing: MissingPart, problem: &str) {
    let missing = match missing {
        MissingPart::Deletion => "deleting the job",
        MissingPart::Error => "its error",
        MissingPart::Event => "its event and its error",
    };
    tracing::error!(
        action = "finish_job_error",
        job.id = i64::from(job_id),
        "stored the outcome of job {job_id} without {missing}: {problem}",
    );
}

pub(super) fn log_lost(job_id: JobId, outcome: &Outcome, worker_id: i64) {
    tracing::error!(
        action = "job_lost",
        job.id = i64::from(job_id),
        worker.id = worker_id,
        "could not store the outcome of job {job_id} ({}): worker {worker_id} no longer holds it",
        outcome.as_str(),
    );
}

pub(super) fn log_not_retried(job_id: JobId, worker_id: i64) {
    tracing::error!(
        action = "job_error",
        job.id = i64::from(job_id),
        worker.id = worker_id,
        "job {job_id} failed and could not be retried: an abort was requested, or another pending job has its \
         queueing lock",
    );
}
