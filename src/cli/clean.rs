//! `clean`: deletes old jobs, in small steps.

use std::time::{Duration, Instant};

use super::failure::Failure;
use super::session::Session;
use super::values;
use crate::error::Error;
use crate::job::JobStatus;
use crate::job_manager::{Cleaning, STEP, pause_after};

/// Delete jobs that have ended, and to which nothing has happened for so long
///
/// Those that succeeded, unless other statuses are given. It goes in small steps with pauses between them, so that it
/// holds nobody up however many there are; a worker does the same by itself with --delete-jobs-older-than.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  clean --older-than 30d --status succeeded --status cancelled")]
pub(super) struct Clean {
    /// How old they are: a number of seconds, or 72h, 30d
    #[arg(long, value_name = "AGE", value_parser = values::duration)]
    older_than: Duration,

    /// succeeded, failed, cancelled or aborted; may be repeated
    #[arg(long, value_parser = values::status)]
    status: Vec<JobStatus>,

    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Clean {
    pub(super) async fn run(mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.status.is_empty() {
            self.status.push(JobStatus::Succeeded);
        }
        for status in &self.status {
            Cleaning::of(status.clone(), self.older_than).queue(self.queue.clone()).check()?;
        }
        let labels: Vec<_> = self.status.iter().map(JobStatus::as_str).collect();
        let question =
            format!("Delete the jobs that have {} more than {:?} ago?", labels.join(" or "), self.older_than);
        if !session.confirm(self.yes, &question)? {
            session.output.note("nothing was changed");
            return Ok(());
        }
        let mut deleted = 0;
        for status in &self.status {
            let cleaning = Cleaning::of(status.clone(), self.older_than).queue(self.queue.clone());
            deleted += sweep(&cleaning, deleted, session).await?;
        }
        session.output.line(format!("{deleted} jobs are gone"))
    }
}

/// Step after step, until nothing is left.
async fn sweep(cleaning: &Cleaning, before: u64, session: &mut Session<'_>) -> Result<u64, Failure> {
    let (mut deleted, mut stopped_at) = (0, None);
    loop {
        let begin = Instant::now();
        let step = {
            let mut connection = session.app.connector().get("delete old jobs").await?;
            cleaning.step(Some(STEP), stopped_at, &mut connection).await
        };
        let step = step.map_err(|error| match error {
            error @ Error::SchemaMissing { .. } => Failure::failed(
                error,
                "`schema adopt` adds to the database what this needs; jobs can be deleted one by one without it",
            ),
            error => error.into(),
        })?;
        deleted += step.deleted;
        if !step.has_more {
            return Ok(deleted);
        }
        session.output.progress(format!("{} jobs are gone", before + deleted));
        stopped_at = Some(step.stopped_at);
        tokio::time::sleep(pause_after(begin.elapsed())).await;
    }
}
