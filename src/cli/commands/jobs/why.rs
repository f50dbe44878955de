//! `why`: explains why a job is not running.

use serde_json::json;

use crate::cli::commands::jobs::list::one_line;
use crate::cli::commands::jobs::one_job::OneJob;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::on_one_line;
use crate::job::JobStatus;
use crate::queue::explanation::explain;

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
        let reasons = {
            let mut connection = session.app.connector().get("explain the job").await?;
            explain(&job, times.now, &mut connection).await?
        };
        let mut reasons: Vec<String> = reasons.iter().map(|reason| times.tell(reason)).collect();
        if job.status == JobStatus::Failed {
            reasons.push(format!("`show {0}` shows its errors, and `retry {0}` retries it", job.id));
        }
        if self.job.json {
            return session.output.json(&json!({ "id": job.id, "status": job.status.as_str(), "reasons": reasons }));
        }
        session.output.line(one_line(&job))?;
        for reason in reasons {
            session.output.line(format!("- {}", on_one_line(&reason)))?;
        }
        Ok(())
    }
}
