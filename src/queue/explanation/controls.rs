//! The pauses and limits of queues and tasks, and which of them hold a job back.

use super::phrase::{Part, Phrase};
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateFlowControl, ProcrastinateJob};
use crate::database::statements::explain::{RecentStarts, RunningJobs, RunningJobsOfKey};
use crate::database::statements::flow_control::{FlowControlsExist, ListFlowControlsQuery};
use crate::error::Error;
use crate::support::text::quoted;

/// Loads what is paused or limited. On a database that only Python's Procrastinate has created, nothing is.
pub(crate) async fn controls<R: Run>(run: &mut R) -> Result<Vec<ProcrastinateFlowControl>, Error> {
    match run.load_one(FlowControlsExist).await? {
        true => run.load(ListFlowControlsQuery).await,
        false => Ok(Vec::new()),
    }
}

/// Describes the pause, as in `paused 3 min ago by anna: the mail server is down`.
pub(crate) fn pause(control: &ProcrastinateFlowControl) -> Option<Phrase> {
    let by = control.paused_by.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
    let reason = control.pause_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(Phrase::new("paused ").with(control.paused_at?).with(by + &reason))
}

/// Describes the limit of all jobs, as in `5 running, 100 starts in 60 s`.
pub(crate) fn limit_text(control: &ProcrastinateFlowControl) -> Option<String> {
    numbers(control.max_running, control.max_starts, control.start_period_seconds)
}

/// Describes the limit for each key, as in `2 running for each tenant`.
pub(crate) fn key_limit_text(control: &ProcrastinateFlowControl) -> Option<String> {
    let field = key_field(control)?;
    let numbers = numbers(control.key_max_running, control.key_max_starts, control.key_start_period_seconds)?;
    Some(format!("{numbers} for each {field}"))
}

/// The field of the arguments with the key, as in `customer.id`.
pub(crate) fn key_field(control: &ProcrastinateFlowControl) -> Option<String> {
    let names: Vec<&str> = control.key_path.as_ref()?.iter().flatten().map(String::as_str).collect();
    Some(if names.is_empty() { "limit key".to_owned() } else { names.join(".") })
}

fn numbers(max_running: Option<i32>, max_starts: Option<i32>, period_seconds: Option<f64>) -> Option<String> {
    let running = max_running.map(|jobs| format!("{jobs} running"));
    let starts = max_starts.zip(period_seconds).map(|(jobs, seconds)| format!("{jobs} starts in {seconds} s"));
    let parts: Vec<String> = running.into_iter().chain(starts).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What is paused or limited, and concerns a job.
#[derive(Default)]
pub(super) struct HeldBack {
    /// What holds the job back.
    pub(super) reasons: Vec<Phrase>,
    /// What may hold it back.
    pub(super) possible_reasons: Vec<Phrase>,
}

/// Says which pauses and limits hold the job back. A limit of starts for each key only may do so: not every role can
/// read how many have started.
pub(super) async fn held_back<R: Run>(job: &ProcrastinateJob, run: &mut R) -> Result<HeldBack, Error> {
    let mut held_back = HeldBack::default();
    let mut controls = controls(run).await?;
    controls.retain(|control| match control.kind.as_str() {
        "queue" => control.name == job.queue_name,
        _ => control.name == job.task_name,
    });
    // A job has one key, and that of its queue comes first.
    let has_key_of_queue = controls.iter().any(|control| control.kind == "queue" && control.key_path.is_some());
    for control in controls {
        let what = format!("its {} {:?}", control.kind, control.name);
        if let Some(pause) = pause(&control) {
            held_back.reasons.push(Phrase::new(format!("{what} is ")).join(pause));
        }
        if control.kind == "queue" || !has_key_of_queue {
            key_is_full(job, &what, &control, &mut held_back, run).await?;
        }
        held_back.reasons.extend(is_full(&what, &control, run).await?);
    }
    Ok(held_back)
}

/// Says that the limit of all jobs of a queue or task holds the job back.
async fn is_full<R: Run>(what: &str, control: &ProcrastinateFlowControl, run: &mut R) -> Result<Option<Phrase>, Error> {
    let Some(limit) = limit_text(control) else { return Ok(None) };
    let (kind, name) = (&control.kind, &control.name);
    let limited = Phrase::new(format!("{what} is limited to {limit}; "));
    if let Some(most) = control.max_running {
        let running = run.load_one(RunningJobs { kind: kind.clone(), name: name.clone() }).await?;
        if running >= i64::from(most) {
            return Ok(Some(limited.with(format!("{running} running"))));
        }
    }
    if let Some((most, period_seconds)) = control.max_starts.zip(control.start_period_seconds) {
        let statement = RecentStarts { kind: kind.clone(), name: name.clone(), period_seconds };
        let (starts, next_start) = run.load_one(statement).await?;
        if starts >= i64::from(most) {
            let full = limited.with(format!("{starts} started, the next can start"));
            return Ok(Some(full.with_some(next_start)));
        }
    }
    Ok(None)
}

/// Says that the limit of the job's key holds it back, or may do so.
async fn key_is_full<R: Run>(
    job: &ProcrastinateJob,
    what: &str,
    control: &ProcrastinateFlowControl,
    held_back: &mut HeldBack,
    run: &mut R,
) -> Result<(), Error> {
    let Some((path, limit)) = control.key_path.as_ref().zip(key_limit_text(control)) else { return Ok(()) };
    let (kind, name, path) = (control.kind.clone(), control.name.clone(), path.clone());
    let counted = run.load(RunningJobsOfKey { job_id: job.id.into(), kind, name, path }).await?;
    let Some((key, running)) = counted.into_iter().next() else { return Ok(()) };
    let text = format!("{what} is limited to {limit}; {running} running with its key ");
    let reason = Phrase::new(text).with(Part::Key(quoted(&key)));
    if control.key_max_running.is_some_and(|most| running >= i64::from(most)) {
        held_back.reasons.push(reason);
    } else if control.key_max_starts.is_some() {
        held_back.possible_reasons.push(reason);
    }
    Ok(())
}
