//! What a command is told that shows a single job, and the job.

use super::failure::Failure;
use super::list::Pages;
use super::session::Session;
use super::times::Times;
use super::values;
use crate::error::Error;
use crate::job::JobId;
use crate::models::ProcrastinateJob;
use crate::queries::browse::MeantJobs;

/// Which job, and how to show it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OneJob {
    /// The number of the job
    #[arg(value_name = "JOB", value_parser = values::job_id, allow_negative_numbers = true)]
    pub(super) id: JobId,

    /// Times by the clock
    #[arg(long)]
    exact: bool,

    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl OneJob {
    pub(super) fn times(&self) -> Times {
        Times::new(self.exact)
    }

    /// The job, which has to be there.
    pub(super) async fn find(&self, action: &'static str, session: &Session<'_>) -> Result<ProcrastinateJob, Failure> {
        let job = find(self.id, session).await?;
        Ok(job.ok_or(Error::JobNotFound { action, job_id: self.id })?)
    }
}

/// The job of this number.
pub(super) async fn find(id: JobId, session: &Session<'_>) -> Result<Option<ProcrastinateJob>, Failure> {
    let mut meant = MeantJobs::default();
    meant.filter.id = Some(id);
    let jobs = Pages::new(meant, false, Some(1)).next(session).await?;
    Ok(jobs.and_then(|jobs| jobs.into_iter().next()))
}
