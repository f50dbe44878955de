//! `list_workers`, and which workers are alive.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::times::{self, Times, length};
use crate::database::models::ProcrastinateWorker;
use crate::database::statements::cli::{JobSelection, PageOfJobs, RegisteredWorkers};
use crate::job::JobStatus;

/// After how long without a heartbeat a worker counts as dead, unless it is set otherwise.
pub(crate) const SILENCE: TimeDelta = TimeDelta::seconds(30);

/// List the workers that are registered, and what each of them does
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListWorkers {
    /// Times by the clock
    #[arg(long)]
    exact: bool,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl ListWorkers {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let workers = workers(session).await?;
        let times = Times::new(self.exact);
        let mut table = Table::new(&["#id", "state", "heartbeat", "jobs"]);
        let mut array = if self.json { Some(JsonArray::start(&mut session.output)?) } else { None };
        for worker in &workers {
            let jobs = jobs_of(worker.id, session).await?;
            let is_alive = Utc::now() - worker.last_heartbeat < SILENCE;
            if let Some(array) = &mut array {
                let heartbeat = times::json(Some(worker.last_heartbeat));
                let row = json!({ "id": worker.id, "alive": is_alive, "last_heartbeat": heartbeat, "jobs": jobs });
                array.push(&row, &mut session.output)?;
            }
            let state = if is_alive { ("alive", Colour::Good) } else { ("silent", Colour::Bad) };
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
            session.output.note("no worker is running");
            return Ok(());
        }
        table.write(&mut session.output)
    }
}

/// The workers that are registered.
pub(crate) async fn workers(session: &Session<'_>) -> Result<Vec<ProcrastinateWorker>, Failure> {
    session.load(RegisteredWorkers).await
}

/// The jobs that a worker is doing; the first hundred.
async fn jobs_of(worker_id: i64, session: &Session<'_>) -> Result<Vec<i64>, Failure> {
    let mut page = PageOfJobs { meant: JobSelection::default(), newest_first: false, beyond: None, limit: 100 };
    page.meant.filter.worker_id = Some(worker_id);
    page.meant.filter.status = Some(JobStatus::Doing);
    let jobs = session.load(page).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}

/// How many of the workers are alive. None is no failure: there may be nothing to do.
pub(crate) fn alive(workers: &[ProcrastinateWorker], now: DateTime<Utc>) -> String {
    let alive = workers.iter().filter(|worker| now - worker.last_heartbeat < SILENCE).count();
    let last = workers.iter().map(|worker| now - worker.last_heartbeat).min().unwrap_or_default();
    match (alive, workers.len()) {
        (0, 0) => "none is running".to_owned(),
        (0, _) => format!("none is alive; the last one was heard of {} ago", length(last)),
        (alive, all) if alive < all => format!("{alive} alive, {} silent", all - alive),
        (alive, _) => format!("{alive} alive"),
    }
}
