//! A side task that rescues the jobs of dead workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;
use crate::database::connection::RenewedConnection;
use crate::database::connection::run::Run;
use crate::database::statements::rescue::{RescueJobs, RescuedJob};
use crate::database::statements::workers::{ReleaseStalledWorkers, RemoveWorker};
use crate::error::Error;
use crate::job::interruption::Interrupted;
use crate::job::{Job, JobId, JobStatus};
use crate::retry::{Rescue, StalledJobPolicy};
use crate::worker::deletion::DeleteJobs;
use crate::worker::fetch_signal::FetchSignal;
use crate::worker::settings::Settings;
use crate::worker::side_tasks::SideTask;
use crate::worker::side_tasks::deadlines::Deadlines;
use crate::worker::storage::{UNLINK_SIZE, jobs_without_worker, rescue_jobs};

/// Finds and rescues the jobs of dead workers.
///
/// A check has four parts: releasing the jobs of stalled workers, rescuing released jobs, removing the workers, and
/// cancelling jobs that have not started in time. If one of them fails, the others go on.
pub(crate) struct Rescuer {
    app: App,
    stalled_worker_timeout: Duration,
    /// How often to check.
    interval: Duration,
    /// How long a statement may take.
    time_limit: Duration,
    /// Set if there can be jobs to fetch.
    fetch_signal: Arc<FetchSignal>,
    /// Whether jobs that are not retried are deleted.
    deletes_failed: bool,
    /// Jobs without a worker at the last check, with their attempts. A worker that was only slow reclaims its jobs with
    /// its next heartbeat, so a job is rescued only if two consecutive checks find it without a worker.
    seen: HashMap<JobId, i32>,
    deadlines: Deadlines,
}

impl SideTask for Rescuer {
    const NAME: &'static str = "rescuing jobs of dead workers";

    /// Checks until it is dropped. The interval is between two checks, however long they take, because a slow worker
    /// must have the time for a heartbeat.
    async fn run(&mut self) {
        loop {
            self.check(false, Instant::now() + self.interval).await;
            tokio::time::sleep(self.interval).await;
        }
    }
}

impl Rescuer {
    pub(crate) fn new(app: App, settings: &Settings, fetch_signal: Arc<FetchSignal>) -> Self {
        Self {
            app,
            stalled_worker_timeout: settings.stalled_worker_timeout,
            interval: settings.update_heartbeat_interval,
            time_limit: settings.time_limit(),
            fetch_signal,
            deletes_failed: settings.delete_jobs == DeleteJobs::Always,
            seen: HashMap::new(),
            deadlines: Deadlines::default(),
        }
    }

    /// Checks once, and rescues all jobs without a worker.
    pub(crate) async fn check_once(&mut self) {
        self.check(true, Instant::now()).await;
    }

    /// Rescues jobs that the last check also found without a worker, or all of them if `immediately` is set. Removes
    /// stalled workers until that time. Failures are logged.
    async fn check(&mut self, immediately: bool, until: Instant) {
        let connector = self.app.connector().clone();
        let mut connection = RenewedConnection::new(&connector, "rescue jobs of dead workers", self.time_limit);
        let stalled = self.release_stalled_workers(&mut connection).await.unwrap_or_else(|error| {
            log_failure("release the jobs of stalled workers", &error);
            Vec::new()
        });
        if let Err(error) = self.rescue(immediately, &mut connection).await {
            log_failure("rescue jobs of dead workers", &error);
        }
        for worker_id in stalled {
            if let Err(error) = remove_worker(worker_id, until, &mut connection).await {
                log_failure("remove a stalled worker", &error);
            }
        }
        if let Err(error) = self.deadlines.check(&mut connection).await {
            log_failure("cancel jobs that have not started in time", &error);
        }
    }

    /// Releases the running jobs of stalled workers. Returns these workers, and those that were released before and are
    /// not removed yet.
    async fn release_stalled_workers(&self, connection: &mut RenewedConnection<'_>) -> Result<Vec<i64>, Error> {
        let seconds_since_heartbeat = self.stalled_worker_timeout.as_secs_f64();
        let stalled = connection.get().await?.load(ReleaseStalledWorkers { seconds_since_heartbeat }).await?;
        for (worker_id, is_new, problem) in &stalled {
            match problem {
                Some(problem) => tracing::error!(
                    action = "rescue_error",
                    worker.id = worker_id,
                    "could not release the jobs of the stalled worker {worker_id}: {problem}",
                ),
                None if *is_new => tracing::warn!(
                    action = "prune_stalled_workers",
                    worker.id = worker_id,
                    "pruned worker {worker_id}, which sent no heartbeat for {:?}",
                    self.stalled_worker_timeout,
                ),
                None => {}
            }
        }
        Ok(stalled.into_iter().filter(|(.., problem)| problem.is_none()).map(|(worker_id, ..)| worker_id).collect())
    }

    /// Rescues jobs without a worker, some at a time, so that jobs which the database refuses to change do not hide the
    /// others.
    async fn rescue(&mut self, immediately: bool, connection: &mut RenewedConnection<'_>) -> Result<(), Error> {
        let task_names = self.app.tasks_with(|task| task.stalled != StalledJobPolicy::Leave);
        if task_names.is_empty() {
            return Ok(());
        }
        let mut seen = HashMap::new();
        let mut after = JobId::from(0);
        let result = loop {
            let jobs = match connection.get().await {
                Ok(connection) => jobs_without_worker(connection, task_names.clone(), after).await,
                Err(error) => Err(error),
            };
            let jobs = match jobs {
                Ok(jobs) => jobs,
                Err(error) => break Err(error),
            };
            let Some(last) = jobs.last() else { break Ok(()) };
            after = last.id;
            seen.extend(jobs.iter().map(|job| (job.id, job.attempts)));
            if let Err(error) = self.rescue_some(&jobs, immediately, connection).await {
                break Err(error);
            }
        };
        self.seen = seen;
        result
    }

    async fn rescue_some(
        &self,
        jobs: &[Job],
        immediately: bool,
        connection: &mut RenewedConnection<'_>,
    ) -> Result<(), Error> {
        let mut statement = RescueJobs::default();
        for job in jobs {
            if immediately || self.seen.get(&job.id) == Some(&job.attempts) {
                self.decide(job, &mut statement);
            }
        }
        if statement.is_empty() {
            return Ok(());
        }
        for (job_id, new_status, problem) in rescue(connection, statement).await? {
            if new_status == Some(JobStatus::Todo) {
                self.fetch_signal.set_all();
            }
            match (&new_status, problem) {
                (None, Some(problem)) => log_refusal(Some(job_id), &problem),
                (Some(_), Some(problem)) => log_incomplete(job_id, &problem),
                _ => {}
            }
            if let Some(new_status) = new_status {
                log_rescue(jobs.iter().find(|job| job.id == job_id), job_id, &new_status);
            }
        }
        Ok(())
    }

    fn decide(&self, job: &Job, statement: &mut RescueJobs) {
        let Ok(task) = self.app.find_task(&job.task_name) else { return };
        let cause = Interrupted::WorkerDied;
        match task.stalled.decide(cause, job, &task.retry) {
            Some(Rescue::Retry(decision)) => {
                statement.add(job, Some(&decision), &cause.to_string(), self.deletes_failed);
            }
            Some(Rescue::Fail) => statement.add(job, None, &cause.to_string(), self.deletes_failed),
            None => {}
        }
    }
}

/// Rescues the jobs together, or each in its own statement if the database rejects that. So a job that is rejected when
/// the transaction is committed, for example by a trigger of the application, does not prevent the others from being
/// rescued.
async fn rescue(connection: &mut RenewedConnection<'_>, statement: RescueJobs) -> Result<Vec<RescuedJob>, Error> {
    match rescue_jobs(connection.get().await?, statement.clone()).await {
        Err(error) if error.is_refusal() => {}
        result => return result,
    }
    let mut rescued = Vec::new();
    for statement in statement.one_by_one() {
        let job_id = statement.first_job();
        match rescue_jobs(connection.get().await?, statement).await {
            Ok(one) => rescued.extend(one),
            Err(error) if error.is_refusal() => log_refusal(job_id, &error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(rescued)
}

/// Removes a released worker in steps, at least one, until that time. The next check continues.
async fn remove_worker(worker_id: i64, until: Instant, connection: &mut RenewedConnection<'_>) -> Result<(), Error> {
    loop {
        let statement = RemoveWorker { worker_id, most: UNLINK_SIZE };
        let (is_removed, unlinked) = connection.get().await?.load_one(statement).await?;
        if is_removed || unlinked == 0 || Instant::now() >= until {
            return Ok(());
        }
    }
}

fn log_refusal(job_id: Option<JobId>, problem: &str) {
    let job_id = job_id.map(i64::from);
    tracing::error!(
        action = "rescue_error",
        job.id = job_id,
        "could not rescue job {} of a dead worker: {problem}",
        job_id.unwrap_or_default(),
    );
}

fn log_incomplete(job_id: JobId, problem: &str) {
    tracing::error!(
        action = "rescue_error",
        job.id = i64::from(job_id),
        "rescued job {job_id} of a dead worker, but could not delete it or store its error and event: {problem}",
    );
}

fn log_failure(action: &str, error: &Error) {
    tracing::warn!(action = "rescue_error", "could not {action}; retrying later: {error}");
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
