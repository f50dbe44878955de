//! `show`: shows everything about a job.

use serde_json::json;

use crate::cli::commands::jobs::list::{as_json, status_colour};
use crate::cli::commands::jobs::one_job::OneJob;
use crate::cli::commands::jobs::options::{options_of_job, start_text, unique_keys};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::on_one_line;
use crate::cli::terminal::times::{self, Times};
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinateJobOptions};
use crate::database::statements::Statement;
use crate::database::statements::cli::{ErrorsOfJob, EventsOfJob};
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::queue::explanation::options::expired;
use crate::queue::explanation::phrase::status_text;

/// Show a job with its events and the errors of its attempts
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    job: OneJob,
}

impl Show {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let id = self.job.id;
        let job = self.job.find("show", session).await?;
        let events = session.load(EventsOfJob { job_id: id }).await?;
        let errors = errors(id, session).await?;
        let options = options_of_job(&job, session).await?;
        if self.job.json {
            let mut shown = as_json(&job, options.as_ref());
            let type_of = |event: &ProcrastinateEvent| event.event_type.as_ref().map(ToString::to_string);
            shown["events"] =
                events.iter().map(|event| json!({ "type": type_of(event), "at": times::json(event.at) })).collect();
            shown["errors"] = errors.iter().map(error_as_json).collect();
            return session.output.json(&shown);
        }
        let times = self.job.times(session).await?;
        let unique_keys = unique_keys(&job, session).await?;
        describe(&job, options.as_ref(), unique_keys, times, session)?;
        session.output.line("events")?;
        for event in &events {
            let kind = event.event_type.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            session.output.line(format!("  {:<20}{}", kind, times.show_some(event.at)))?;
        }
        for error in &errors {
            let worker = error.worker_name.as_ref().map_or_else(String::new, |name| format!(", worker {name}"));
            let took = error.duration_seconds.map_or_else(String::new, |seconds| format!(", after {seconds:.1} s"));
            let when = times.show(error.at);
            session.output.line(on_one_line(&format!("error of attempt {} ({when}{took}{worker})", error.attempt)))?;
            for line in error.error.lines() {
                session.output.line(format!("  {}", on_one_line(line)))?;
            }
        }
        if job.status == JobStatus::Failed && errors.is_empty() {
            session
                .output
                .note("the database has no error for this job; Python workers write errors only to their log");
        }
        Ok(())
    }
}

fn describe(
    job: &ProcrastinateJob,
    options: Option<&ProcrastinateJobOptions>,
    unique_keys: Option<String>,
    times: Times,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let status = session.output.style().paint(status_colour(&job.status), &status_text(job));
    let rows = [
        ("queue", Some(job.queue_name.clone())),
        ("attempts", Some(job.attempts.to_string())),
        ("priority", Some(job.priority.to_string())),
        ("lock", job.lock.clone()),
        ("queueing lock", job.queueing_lock.clone()),
        ("scheduled", job.scheduled_at.map(|time| times.show(time))),
        ("start before", start_text(options, times)),
        ("unique key", unique_keys),
        ("limit key", options.and_then(|options| options.limit_key.clone())),
        ("worker", job.worker_id.map(|id| id.to_string())),
        ("arguments", Some(job.args.to_string())),
    ];
    session.output.line(format!("#{} {} [{status}]", job.id, on_one_line(&job.task_name)))?;
    for (name, value) in rows {
        if let Some(value) = value {
            session.output.line(format!("  {name:<20}{}", on_one_line(&value)))?;
        }
    }
    if let Some(reason) = expired(options) {
        session.output.line(format!("  {}", times.tell(&reason)))?;
    }
    Ok(())
}

fn error_as_json(error: &ProcrastinateJobError) -> serde_json::Value {
    json!({
        "attempt": error.attempt,
        "error": error.error,
        "worker_id": error.worker_id,
        "worker_name": error.worker_name,
        "duration_seconds": error.duration_seconds,
        "at": times::json(Some(error.at)),
    })
}

/// Returns the errors of the job's attempts. Without this crate's migrations there are none.
async fn errors(id: JobId, session: &Session<'_>) -> Result<Vec<ProcrastinateJobError>, Failure> {
    let mut connection = session.app.connector().get(ErrorsOfJob::ACTION).await?;
    match connection.load(ErrorsOfJob { job_id: id }).await {
        Ok(errors) => Ok(errors),
        Err(Error::SchemaMissing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
