//! A side task that rescues the jobs of dead workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::app::App;
use crate::database::connection::Connection;
use crate::database::statements::rescue::RescueJobs;
use crate::error::Error;
use crate::job::interruption::Interrupted;
use crate::job::{Job, JobId, JobStatus};
use crate::queue::job_manager::prune_stalled_workers;
use crate::queue::job_manager::sealed::Sealed;
use crate::retry::{Rescue, StalledJobPolicy};
use crate::worker::storage::{jobs_without_worker, rescue_jobs};

/// Finds and rescues the jobs of dead workers.
pub(super) struct Rescuer {
    app: App,
    stalled_worker_timeout: Duration,
    /// Jobs without a worker at the last check, with their attempts. A worker that was only slow reclaims its jobs with
    /// its next heartbeat, so a job is rescued only if two consecutive checks find it without a worker.
    seen: HashMap<JobId, i32>,
}

impl Rescuer {
    pub(super) fn new(app: App, stalled_worker_timeout: Duration) -> Self {
        Self { app, stalled_worker_timeout, seen: HashMap::new() }
    }

    /// Checks at this interval until it is dropped. It waits first, because the worker has checked when it started.
    /// Notifies `wake` if there can be jobs to fetch.
    pub(super) async fn run(mut self, interval: Duration, wake: Arc<Notify>) {
        loop {
            tokio::time::sleep(interval).await;
            match self.check(false).await {
                Ok(0) => {}
                Ok(_) => wake.notify_one(),
                Err(error) => tracing::warn!(
                    action = "rescue_error",
                    "could not rescue jobs of dead workers; retrying in {interval:?}: {error}",
                ),
            }
        }
    }

    /// Prunes stalled workers, and rescues jobs that the last check also found without a worker, or all of them if
    /// `immediately` is set. Returns how many are pending again.
    pub(super) async fn check(&mut self, immediately: bool) -> Result<usize, Error> {
        let mut connection = self.app.connector().get("rescue jobs of dead workers").await?;
        let prune = prune_stalled_workers().seconds_since_heartbeat(self.stalled_worker_timeout);
        for stalled in prune.execute_pooled(&mut connection).await? {
            tracing::warn!(
                action = "prune_stalled_workers",
                worker.id = stalled,
                "pruned worker {stalled}, which sent no heartbeat for {:?}",
                self.stalled_worker_timeout,
            );
        }
        let task_names = self.app.tasks_with(|task| task.stalled != StalledJobPolicy::Leave);
        if task_names.is_empty() {
            return Ok(0);
        }
        let jobs = jobs_without_worker(&mut connection, task_names).await?;
        let seen = std::mem::take(&mut self.seen);
        let mut statement = RescueJobs::default();
        for job in &jobs {
            if immediately || seen.get(&job.id) == Some(&job.attempts) {
                self.decide(job, &mut statement);
            } else {
                self.seen.insert(job.id, job.attempts);
            }
        }
        if statement.is_empty() {
            return Ok(0);
        }
        let rescued = rescue(&mut connection, statement).await?;
        for (job_id, new_status) in &rescued {
            log_rescue(jobs.iter().find(|job| job.id == *job_id), *job_id, new_status);
        }
        Ok(rescued.iter().filter(|(_, new_status)| *new_status == JobStatus::Todo).count())
    }

    fn decide(&self, job: &Job, statement: &mut RescueJobs) {
        let Ok(task) = self.app.find_task(&job.task_name) else { return };
        let cause = Interrupted::WorkerDied;
        match task.stalled.decide(cause, job, &task.retry) {
            Some(Rescue::Retry(decision)) => statement.add(job, Some(&decision), &cause.to_string()),
            Some(Rescue::Fail) => statement.add(job, None, &cause.to_string()),
            None => {}
        }
    }
}

/// Rescues the jobs together, or one by one if the database rejects that. So a job that is rejected, for example by a
/// trigger of the application, does not prevent the others from being rescued.
async fn rescue(connection: &mut Connection, statement: RescueJobs) -> Result<Vec<(JobId, JobStatus)>, Error> {
    match rescue_jobs(connection, statement.clone()).await {
        Err(error) if error.is_refusal() => {}
        result => return result,
    }
    let mut rescued = Vec::new();
    for statement in statement.one_by_one() {
        match rescue_jobs(connection, statement).await {
            Ok(one) => rescued.extend(one),
            Err(error) if error.is_refusal() => {
                tracing::error!(action = "rescue_error", "could not rescue a job of a dead worker: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rescued)
}

fn log_rescue(job: Option<&Job>, job_id: JobId, new_status: &JobStatus) {
    let outcome = match new_status {
        JobStatus::Todo => "will be retried",
        JobStatus::Aborted => "was aborted as requested",
        _ => "failed",
    };
    tracing::warn!(
        action = "job_rescued",
        job.id = i64::from(job_id),
        job.task_name = job.map(|job| job.task_name.as_str()),
        job.queue = job.map(|job| job.queue.as_str()),
        "the worker of job {job_id} died; the job {outcome}",
    );
}
