//! Why a pending job has not started.

use chrono::{DateTime, Utc};

use super::controls::held_back;
use super::options::options_of_job;
use super::phrase::Phrase;
use super::workers::{alive, is_alive};
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateJob, ProcrastinateWorker};
use crate::database::statements::explain::{HolderOfLock, JobsAhead, LastStart, RegisteredWorkers};
use crate::error::Error;
use crate::job::JobStatus;

/// Returns what holds the job back, or else what is before it in its queue.
pub(super) async fn pending<R: Run>(
    job: &ProcrastinateJob,
    now: DateTime<Utc>,
    run: &mut R,
) -> Result<Vec<Phrase>, Error> {
    let mut reasons = Vec::new();
    if let Some(time) = job.scheduled_at.filter(|time| *time > now) {
        reasons.push(Phrase::new("the job is scheduled to start ").with(time));
    }
    if let Some(lock) = &job.lock {
        let statement = HolderOfLock { job_id: job.id.into(), lock: lock.clone(), priority: job.priority };
        reasons.extend(run.load(statement).await?.first().map(|holder| held(lock, holder, now)));
    }
    let options = options_of_job(job, run).await?.filter(|options| options.checked_at.is_none());
    let start_before = options.and_then(|options| options.start_before);
    let held_back = held_back(job, run).await?;
    reasons.extend(held_back.reasons);
    let workers = run.load(RegisteredWorkers).await?;
    if !workers.iter().any(|worker| is_alive(worker, now)) {
        reasons.push(Phrase::new("no worker is alive (").join(alive(&workers, now)).with(")"));
    }
    if reasons.is_empty() {
        reasons.extend(free(job, &workers, now, run).await?);
    }
    reasons.extend(held_back.possible_reasons);
    let late = |time| Phrase::new("the job is cancelled if it does not start before ").with(time);
    reasons.extend(start_before.map(late));
    Ok(reasons)
}

/// Says which job has the lock of a pending one.
fn held(lock: &str, holder: &ProcrastinateJob, now: DateTime<Utc>) -> Phrase {
    let start = match (&holder.status, holder.worker_id) {
        (JobStatus::Doing, Some(worker)) => {
            Phrase::new(format!("its lock {lock:?} is held by a job that worker {worker} runs: "))
        }
        (JobStatus::Doing, None) => Phrase::new(format!("its lock {lock:?} is held by a job of a dead worker: ")),
        _ => {
            let first = Phrase::new(format!("another job with the lock {lock:?} starts first"));
            match holder.scheduled_at.filter(|time| *time > now) {
                Some(time) => first.with(", which is scheduled ").with(time).with(": "),
                None => first.with(": "),
            }
        }
    };
    start.with(holder)
}

/// What is known of a job that nothing holds back.
async fn free<R: Run>(
    job: &ProcrastinateJob,
    workers: &[ProcrastinateWorker],
    now: DateTime<Utc>,
    run: &mut R,
) -> Result<[Phrase; 2], Error> {
    let queue = job.queue_name.clone();
    let ahead = run.load_one(JobsAhead { job_id: job.id.into(), queue, priority: job.priority }).await?;
    let ahead = match ahead {
        1 => "1 job of its queue is".to_owned(),
        10_000.. => "10,000 or more jobs of its queue are".to_owned(),
        _ => format!("{ahead} jobs of its queue are"),
    };
    let last = match run.load_one(LastStart { queue: job.queue_name.clone() }).await? {
        Some(time) => Phrase::new("the last job of that queue started ").with(time),
        None => Phrase::new("no job of that queue has started lately"),
    };
    let check = format!("; check that one of them serves the queue {:?}: ", job.queue_name);
    Ok([
        Phrase::new(format!("the job can start; {ahead} before it")),
        Phrase::new("workers: ").join(alive(workers, now)).with(check).join(last),
    ])
}
