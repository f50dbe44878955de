//! The options of a job that few jobs have.

use super::phrase::Phrase;
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateJob, ProcrastinateJobOptions};
use crate::database::statements::explain::JobOptionsExist;
use crate::database::statements::options::OptionsOfJobs;
use crate::error::Error;

/// Loads the options of a job, if it has any. Without this crate's migrations it has none.
pub(super) async fn options_of_job<R: Run>(
    job: &ProcrastinateJob,
    run: &mut R,
) -> Result<Option<ProcrastinateJobOptions>, Error> {
    // A statement that fails would end the caller's transaction.
    if !run.load_one(JobOptionsExist).await? {
        return Ok(None);
    }
    Ok(run.load(OptionsOfJobs { job_ids: vec![job.id] }).await?.pop())
}

/// Says why the job was cancelled, if it was because it had not started in time.
pub(crate) fn expired(options: Option<&ProcrastinateJobOptions>) -> Option<Phrase> {
    let options = options.filter(|options| options.is_expired)?;
    Some(Phrase::new("cancelled, because it was not started before").with_some(options.start_before))
}
