//! The options that few jobs have, as they are shown.

use std::collections::HashMap;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::times::Times;
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateJob, ProcrastinateJobOptions};
use crate::database::statements::Statement;
use crate::database::statements::options::{KeysOfJob, OptionsOfJobs};
use crate::error::Error;

/// Returns the options of those jobs that have any. Without this crate's migrations there are none.
pub(crate) async fn options_of(
    jobs: &[ProcrastinateJob],
    session: &Session<'_>,
) -> Result<HashMap<i64, ProcrastinateJobOptions>, Failure> {
    let job_ids = jobs.iter().map(|job| job.id).collect();
    let mut connection = session.app.connector().get(OptionsOfJobs::ACTION).await?;
    match connection.load(OptionsOfJobs { job_ids }).await {
        Ok(options) => Ok(options.into_iter().map(|options| (options.job_id, options)).collect()),
        Err(Error::SchemaMissing { .. }) => Ok(HashMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the options of a job.
pub(crate) async fn options_of_job(
    job: &ProcrastinateJob,
    session: &Session<'_>,
) -> Result<Option<ProcrastinateJobOptions>, Failure> {
    Ok(options_of(std::slice::from_ref(job), session).await?.remove(&job.id))
}

/// The unique keys of a job.
pub(crate) async fn unique_keys(job: &ProcrastinateJob, session: &Session<'_>) -> Result<Option<String>, Failure> {
    let mut connection = session.app.connector().get(KeysOfJob::ACTION).await?;
    let keys = match connection.load(KeysOfJob { job_id: job.id }).await {
        Ok(keys) => keys,
        Err(Error::SchemaMissing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let shown = keys.into_iter().map(|(key, seconds)| match seconds {
        0.0 => key,
        seconds => format!("{key}, and {seconds} s after the end"),
    });
    Ok(shown.reduce(|one, next| format!("{one}; {next}")))
}

/// By when the job must start, or that it has not.
pub(crate) fn start_text(options: Option<&ProcrastinateJobOptions>, times: Times) -> Option<String> {
    let options = options?;
    let time = times.show(options.start_before?);
    Some(if options.is_expired { format!("{time}, missed") } else { time })
}
