//! Explains why a job is not running, for people.
//!
//! | module | purpose |
//! |---|---|
//! | `phrase` | texts with times and jobs, which each output renders in its way |
//! | `pending` | why a pending job has not started |
//! | `controls` | pauses and limits, and which of them hold a job back |
//! | `options` | the options that few jobs have |
//! | `workers` | which workers are alive |

pub(crate) mod controls;
pub(crate) mod options;
mod pending;
pub(crate) mod phrase;
pub(crate) mod workers;

use chrono::{DateTime, Utc};

use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateJob;
use crate::database::statements::explain::{NewestEventsOfJob, RegisteredWorkers};
use crate::error::Error;
use crate::job::{JobEventType, JobStatus};

use options::{expired, options_of_job};
use phrase::{Part, Phrase};
use workers::is_alive;

/// Explains why the job is not running, or what became of it, at this time, which is the database's. It only reads, and
/// no statement fails on a database that only Python's Procrastinate has created.
pub(crate) async fn explain<R: Run>(
    job: &ProcrastinateJob,
    now: DateTime<Utc>,
    run: &mut R,
) -> Result<Vec<Phrase>, Error> {
    match job.status {
        JobStatus::Todo => pending::pending(job, now, run).await,
        JobStatus::Doing => running(job, now, run).await,
        _ => ended(job, run).await,
    }
}

async fn running<R: Run>(job: &ProcrastinateJob, now: DateTime<Utc>, run: &mut R) -> Result<Vec<Phrase>, Error> {
    let workers = run.load(RegisteredWorkers).await?;
    let mut reasons = match workers.iter().find(|worker| Some(worker.id) == job.worker_id) {
        Some(worker) if is_alive(worker, now) => {
            let events = run.load(NewestEventsOfJob { job_id: job.id.into() }).await?;
            let started = events.iter().find(|event| event.event_type == Some(JobEventType::Started));
            let text = format!("the job is running; worker {} started it", worker.id);
            vec![Phrase::new(text).with_some(started.and_then(|event| event.at))]
        }
        Some(worker) => {
            let text = format!("the job is stalled: worker {} sent its last heartbeat ", worker.id);
            let stalled = Phrase::new(text).with(worker.last_heartbeat);
            vec![stalled.with("; another worker will rescue it").with(Part::OrRetry)]
        }
        None => {
            let text = "the job is stalled: its worker is gone; another worker will rescue it";
            vec![Phrase::new(text).with(Part::OrRetry)]
        }
    };
    if job.abort_requested {
        reasons.push(Phrase::new("an abort of the job is requested"));
    }
    Ok(reasons)
}

async fn ended<R: Run>(job: &ProcrastinateJob, run: &mut R) -> Result<Vec<Phrase>, Error> {
    let events = run.load(NewestEventsOfJob { job_id: job.id.into() }).await?;
    let text = format!("the job has finished: {}", job.status);
    let mut reasons = vec![Phrase::new(text).with_some(events.first().and_then(|event| event.at))];
    let options = options_of_job(job, run).await?;
    reasons.extend(expired(options.as_ref()).map(|expired| Phrase::new("it was ").join(expired)));
    Ok(reasons)
}
