//! `why`: explains why a job is not running.

use serde_json::json;

use crate::cli::commands::controls::{controls, key_limit_text, limit_text, pause_text};
use crate::cli::commands::flow::count_running;
use crate::cli::commands::jobs::list::one_line;
use crate::cli::commands::jobs::one_job::OneJob;
use crate::cli::commands::jobs::options::{expired_text, options_of_job};
use crate::cli::commands::jobs::show::events;
use crate::cli::commands::workers::{alive, is_alive, workers};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::times::Times;
use crate::database::models::{ProcrastinateFlowControl, ProcrastinateJob};
use crate::database::statements::cli::{HolderOfLock, JobsAhead, LastStart};
use crate::job::{JobEventType, JobStatus};
use crate::queue::job_manager::list_jobs;
use crate::support::json::text_at;

/// Explain why a job is not running: its schedule, its lock, the jobs before it, the workers
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Why {
    #[command(flatten)]
    job: OneJob,
}

impl Why {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let job = self.job.find("explain", session).await?;
        let times = self.job.times(session).await?;
        let reasons = match job.status {
            JobStatus::Todo => waiting(&job, times, session).await?,
            JobStatus::Doing => running(&job, times, session).await?,
            _ => ended(&job, times, session).await?,
        };
        if self.job.json {
            return session.output.json(&json!({ "id": job.id, "status": job.status.as_str(), "reasons": reasons }));
        }
        session.output.line(one_line(&job))?;
        for reason in reasons {
            session.output.line(format!("- {}", crate::cli::terminal::table::on_one_line(&reason)))?;
        }
        Ok(())
    }
}

async fn waiting(job: &ProcrastinateJob, times: Times, session: &Session<'_>) -> Result<Vec<String>, Failure> {
    let mut reasons = Vec::new();
    let mut late = None;
    if let Some(time) = job.scheduled_at.filter(|time| *time > times.now) {
        reasons.push(format!("the job is scheduled to start {}", times.show(time)));
    }
    if let Some(lock) = &job.lock {
        let statement = HolderOfLock { job_id: job.id.into(), lock: lock.clone(), priority: job.priority };
        if let Some(holder) = session.load(statement).await?.first() {
            reasons.push(held(lock, holder, times));
        }
    }
    let options = options_of_job(job, session).await?.filter(|options| options.checked_at.is_none());
    if let Some(time) = options.and_then(|options| options.start_before) {
        late = Some(format!("the job is cancelled if it does not start before {}", times.show(time)));
    }
    reasons.extend(held_back(job, times, session).await?);
    let workers = workers(session).await?;
    let are_alive = workers.iter().any(|worker| is_alive(worker, times.now));
    let queue = &job.queue_name;
    if !are_alive {
        reasons.push(format!("no worker is alive ({})", alive(&workers, times.now)));
    }
    if reasons.is_empty() {
        let statement = JobsAhead { job_id: job.id.into(), queue: queue.clone(), priority: job.priority };
        let ahead = session.load(statement).await?.first().copied().unwrap_or_default();
        let ahead = if ahead >= 10_000 { "10,000 or more".to_owned() } else { ahead.to_string() };
        reasons.push(format!("the job can start; {ahead} jobs of its queue are before it"));
        let last = session.load(LastStart { queue: queue.clone() }).await?;
        let last = match last.into_iter().next().flatten() {
            Some(time) => format!("the last job of that queue started {}", times.show(time)),
            None => "no job of that queue has ever started".to_owned(),
        };
        let found = alive(&workers, times.now);
        reasons.push(format!("workers: {found}; check that one of them serves the queue {queue:?}: {last}"));
    }
    reasons.extend(late);
    Ok(reasons)
}

/// Says which pauses and limits hold the job back. A limit of starts is mentioned even if it may have room.
async fn held_back(job: &ProcrastinateJob, times: Times, session: &Session<'_>) -> Result<Vec<String>, Failure> {
    let mut reasons = Vec::new();
    for control in controls(session).await? {
        let is_of_job = match control.kind.as_str() {
            "queue" => control.name == job.queue_name,
            _ => control.name == job.task_name,
        };
        if !is_of_job {
            continue;
        }
        let what = format!("its {} {:?}", control.kind, control.name);
        if let Some(pause) = pause_text(&control, times) {
            reasons.push(format!("{what} is {pause}"));
        }
        reasons.extend(key_is_full(job, &control, session).await?);
        let Some(limit) = limit_text(&control) else { continue };
        let running = count_running(&control.kind, &control.name, session).await?;
        let is_full = control.max_running.is_some_and(|most| running >= i64::from(most));
        if is_full || control.max_starts.is_some() {
            reasons.push(format!("{what} is limited to {limit}; {running} running"));
        }
    }
    Ok(reasons)
}

/// Says that the limit of the job's key may hold it back.
async fn key_is_full(
    job: &ProcrastinateJob,
    control: &ProcrastinateFlowControl,
    session: &Session<'_>,
) -> Result<Option<String>, Failure> {
    let Some((path, limit)) = control.key_path.as_ref().zip(key_limit_text(control)) else { return Ok(None) };
    let key = text_at(&job.args, path);
    let what = format!("its {} {:?}", control.kind, control.name);
    if path.is_empty() {
        return Ok(Some(format!("{what} is limited to {limit}")));
    }
    if key.is_empty() {
        return Ok(None);
    }
    let running = list_jobs().status(JobStatus::Doing);
    let running = if control.kind == "queue" { running.queue(&control.name) } else { running.task(&control.name) };
    let running = session.app.execute(running).await?;
    let running = running.iter().filter(|other| text_at(&other.args, path) == key).count();
    let is_full =
        control.key_max_running.is_some_and(|most| i64::try_from(running).is_ok_and(|jobs| jobs >= most.into()));
    let reason = || format!("{what} is limited to {limit}; {running} running with its key {key:?}");
    Ok((is_full || control.key_max_starts.is_some()).then(reason))
}

fn held(lock: &str, holder: &ProcrastinateJob, times: Times) -> String {
    let scheduled = match holder.scheduled_at.filter(|time| *time > times.now) {
        Some(time) => format!(", which is scheduled {}", times.show(time)),
        None => String::new(),
    };
    let job = one_line(holder);
    match (&holder.status, holder.worker_id) {
        (JobStatus::Doing, Some(worker)) => {
            format!("its lock {lock:?} is held by a job that worker {worker} runs: {job}")
        }
        (JobStatus::Doing, None) => format!("its lock {lock:?} is held by a job of a dead worker: {job}"),
        _ => format!("another job with the lock {lock:?} starts first{scheduled}: {job}"),
    }
}

async fn running(job: &ProcrastinateJob, times: Times, session: &Session<'_>) -> Result<Vec<String>, Failure> {
    let events = events(job.id.into(), session).await?;
    let started = events.iter().rev().find(|event| event.event_type == Some(JobEventType::Started));
    let since = times.show_some(started.and_then(|event| event.at));
    let workers = workers(session).await?;
    let worker = workers.iter().find(|worker| Some(worker.id) == job.worker_id);
    let mut reasons = vec![match worker {
        Some(worker) if is_alive(worker, times.now) => {
            format!("the job is running; worker {} started it {since}", worker.id)
        }
        Some(worker) => format!(
            "the job is stalled: worker {} sent its last heartbeat {}; another worker will rescue it, or use `retry`",
            worker.id,
            times.show(worker.last_heartbeat)
        ),
        None => "the job is stalled: its worker is gone; another worker will rescue it, or use `retry`".to_owned(),
    }];
    if job.abort_requested {
        reasons.push("an abort of the job is requested".to_owned());
    }
    Ok(reasons)
}

async fn ended(job: &ProcrastinateJob, times: Times, session: &Session<'_>) -> Result<Vec<String>, Failure> {
    let events = events(job.id.into(), session).await?;
    let when = times.show_some(events.last().and_then(|event| event.at));
    let mut reasons = vec![format!("the job has finished: {} {when}", job.status)];
    let options = options_of_job(job, session).await?;
    reasons.extend(expired_text(options.as_ref(), times).map(|reason| format!("it was {reason}")));
    if job.status == JobStatus::Failed {
        reasons.push(format!("`show {0}` shows its errors, and `retry {0}` retries it", job.id));
    }
    Ok(reasons)
}
