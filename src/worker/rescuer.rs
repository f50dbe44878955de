//! A side task that finds the jobs of dead workers.

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

/// Looks for the jobs of dead workers.
pub(super) struct Rescuer {
    app: App,
    stalled_worker_timeout: Duration,
    /// Jobs that had lost their worker at the last look, with their attempts. A worker that is alive takes its jobs back
    /// with its next heartbeat, so a job is rescued only when it has no worker at two looks in a row.
    seen: HashMap<JobId, i32>,
}

impl Rescuer {
    pub(super) fn new(app: App, stalled_worker_timeout: Duration) -> Self {
        Self { app, stalled_worker_timeout, seen: HashMap::new() }
    }

    /// Looks again and again, until it is dropped, and not at once: the look before was at the worker's start. `wake` is told that there may be jobs to fetch.
    pub(super) async fn run(mut self, interval: Duration, wake: Arc<Notify>) {
        loop {
            tokio::time::sleep(interval).await;
            match self.look(false).await {
                Ok(0) => {}
                Ok(_) => wake.notify_one(),
                Err(error) => tracing::warn!(
                    action = "rescue_error",
                    "could not look for jobs of dead workers; looking again in {interval:?}: {error}",
                ),
            }
        }
    }

    /// Removes workers that are dead, and rescues jobs that had no worker at the last look either, or at once. Answers
    /// with how many wait again.
    pub(super) async fn look(&mut self, at_once: bool) -> Result<usize, Error> {
        let mut connection = self.app.connector().get("look for jobs whose worker died").await?;
        let prune = prune_stalled_workers().seconds_since_heartbeat(self.stalled_worker_timeout);
        for stalled in prune.execute_pooled(&mut connection).await? {
            tracing::warn!(
                action = "prune_stalled_workers",
                worker.id = stalled,
                "worker {stalled} was not heard of for {:?} and was removed",
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
            if at_once || seen.get(&job.id) == Some(&job.attempts) {
                self.decide(job, &mut statement);
            } else {
                self.seen.insert(job.id, job.attempts);
            }
        }
        if statement.is_empty() {
            return Ok(0);
        }
        let rescued = rescue(&mut connection, statement).await?;
        for (job_id, became) in &rescued {
            log_rescue(jobs.iter().find(|job| job.id == *job_id), *job_id, became);
        }
        Ok(rescued.iter().filter(|(_, became)| *became == JobStatus::Todo).count())
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

/// Rescues the jobs; one by one if the database refuses to rescue them together, so that one which it refuses, be it
/// because of a trigger of the application's, does not keep the others from being rescued.
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
                tracing::error!(action = "rescue_error", "a job whose worker died could not be rescued: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rescued)
}

fn log_rescue(job: Option<&Job>, job_id: JobId, became: &JobStatus) {
    let fate = match became {
        JobStatus::Todo => "is to be tried again",
        JobStatus::Aborted => "was to be aborted, and is",
        _ => "has failed",
    };
    tracing::warn!(
        action = "job_rescued",
        job.id = i64::from(job_id),
        job.task_name = job.map(|job| job.task_name.as_str()),
        job.queue = job.map(|job| job.queue.as_str()),
        "the worker of job {job_id} died while it ran; the job {fate}",
    );
}
