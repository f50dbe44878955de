//! `list_workers`, and how many workers are alive.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::times::{self, Times};
use crate::database::models::ProcrastinateWorker;
use crate::database::statements::cli::{JobSelection, PageOfJobs};
use crate::database::statements::explain::RegisteredWorkers;
use crate::job::JobStatus;
use crate::queue::explanation::workers::{self, is_alive};

/// List the registered workers with their jobs
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListWorkers {
    /// Show the clock time
    #[arg(long)]
    exact: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListWorkers {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let workers = workers(session).await?;
        let times = session.times(self.exact).await?;
        let mut table = Table::new(&["#id", "state", "heartbeat", "jobs"]);
        let mut array = if self.json { Some(JsonArray::start(&mut session.output)?) } else { None };
        for worker in &workers {
            let jobs = jobs_of(worker.id, session).await?;
            let is_alive = is_alive(worker, times.now);
            if let Some(array) = &mut array {
                let heartbeat = times::json(Some(worker.last_heartbeat));
                let row = json!({ "id": worker.id, "alive": is_alive, "last_heartbeat": heartbeat, "jobs": jobs });
                array.push(&row, &mut session.output)?;
            }
            let state = if is_alive { ("alive", Colour::Good) } else { ("stalled", Colour::Bad) };
            let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
            table.row(vec![
                (worker.id.to_string(), Colour::Plain),
                (state.0.to_owned(), state.1),
                (times.show(worker.last_heartbeat), Colour::Plain),
                (jobs.join(", "), Colour::Plain),
            ]);
        }
        if let Some(array) = array {
            return array.end(&mut session.output);
        }
        if workers.is_empty() {
            session.output.note("no workers");
            return Ok(());
        }
        table.write(&mut session.output)
    }
}

/// Returns the registered workers.
pub(crate) async fn workers(session: &Session<'_>) -> Result<Vec<ProcrastinateWorker>, Failure> {
    session.load(RegisteredWorkers).await
}

/// Returns the first hundred jobs of a worker.
async fn jobs_of(worker_id: i64, session: &Session<'_>) -> Result<Vec<i64>, Failure> {
    let mut page = PageOfJobs { meant: JobSelection::default(), newest_first: false, beyond: None, limit: 100 };
    page.meant.filter.worker_id = Some(worker_id);
    page.meant.filter.status = Some(JobStatus::Doing);
    let jobs = session.load(page).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}

/// Describes how many workers are alive at this time, which is the database's.
pub(crate) fn alive(workers: &[ProcrastinateWorker], now: DateTime<Utc>) -> String {
    Times { now, is_exact: false }.tell(&workers::alive(workers, now))
}
