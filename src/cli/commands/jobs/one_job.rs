//! The arguments of commands that show a single job.

use crate::cli::commands::jobs::list::Pages;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::times::Times;
use crate::cli::terminal::values;
use crate::database::models::ProcrastinateJob;
use crate::database::statements::cli::JobSelection;
use crate::error::Error;
use crate::job::JobId;

/// A job, and how to show it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OneJob {
    /// The job ID
    #[arg(value_name = "JOB", value_parser = values::job_id, allow_negative_numbers = true)]
    pub(crate) id: JobId,

    /// Show the clock time
    #[arg(long)]
    exact: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl OneJob {
    pub(crate) async fn times(&self, session: &Session<'_>) -> Result<Times, Failure> {
        session.times(self.exact).await
    }

    /// Loads the job. Fails if it does not exist.
    pub(crate) async fn find(&self, action: &'static str, session: &Session<'_>) -> Result<ProcrastinateJob, Failure> {
        let job = find(self.id, session).await?;
        Ok(job.ok_or(Error::JobNotFound { action, job_id: self.id })?)
    }
}

/// Loads the job with this ID.
pub(crate) async fn find(id: JobId, session: &Session<'_>) -> Result<Option<ProcrastinateJob>, Failure> {
    let mut selection = JobSelection::default();
    selection.filter.id = Some(id);
    let jobs = Pages::new(selection, false, Some(1)).next(session).await?;
    Ok(jobs.and_then(|jobs| jobs.into_iter().next()))
}
