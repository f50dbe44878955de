//! `list_queues`, `list_tasks`, `list_locks` and `list_workers`.

use chrono::Utc;
use serde_json::{Value, json};

use super::failure::Failure;
use super::filter::Filter;
use super::healthchecks::SILENCE;
use super::output::{Colour, JsonArray};
use super::session::Session;
use super::table::Table;
use super::times::{self, Times};
use crate::error::Error;
use crate::job::JobStatus;
use crate::job_manager::{JobCounts, count_jobs};
use crate::models::ProcrastinateWorker;
use crate::queries::browse::{MeantJobs, PageOfJobs, RegisteredWorkers};
use crate::queries::inspect::{CountedColumn, JobFilter};

/// How many jobs there are by status.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  list_queues task=send_mail status=failed")]
pub(super) struct Counts {
    #[command(flatten)]
    filter: Filter,

    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The jobs that pass the filter, counted by a column.
pub(super) async fn count(
    column: CountedColumn,
    filter: JobFilter,
    session: &Session<'_>,
) -> Result<Vec<JobCounts>, Failure> {
    const ACTION: &str = "count the jobs";
    let mut connection = session.app.connector().get(ACTION).await?;
    let counts = count_jobs(column, filter, &mut connection).await;
    Ok(counts.map_err(|source| Error::database(ACTION, source))?)
}

impl Counts {
    pub(super) async fn run(self, column: CountedColumn, session: &mut Session<'_>) -> Result<(), Failure> {
        let what = match column {
            CountedColumn::Queue => "queue",
            CountedColumn::Task => "task",
            CountedColumn::Lock => "lock",
        };
        let counts = count(column, self.filter.of_counts()?, session).await?;
        if self.json {
            let mut array = JsonArray::start(&mut session.output)?;
            for counted in &counts {
                array.push(&as_json(counted), &mut session.output)?;
            }
            return array.end(&mut session.output);
        }
        if counts.is_empty() {
            session.output.note(format!("there is no {what} with such jobs"));
            return Ok(());
        }
        table(what, &counts).write(&mut session.output)
    }
}

pub(super) fn table(what: &'static str, counts: &[JobCounts]) -> Table {
    const STATUSES: [Colour; 6] =
        [Colour::Waiting, Colour::Busy, Colour::Good, Colour::Bad, Colour::Plain, Colour::Bad];
    let mut table = Table::new(&[what, "#jobs", "#todo", "#doing", "#succeeded", "#failed", "#cancelled", "#aborted"]);
    for JobCounts { name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted } in counts {
        let mut cells = vec![(name.clone(), Colour::Plain), (jobs_count.to_string(), Colour::Plain)];
        for (count, colour) in [todo, doing, succeeded, failed, cancelled, aborted].into_iter().zip(STATUSES) {
            // What there is none of stays in the background.
            cells.push((count.to_string(), if *count == 0 { Colour::Faint } else { colour }));
        }
        table.row(cells);
    }
    table
}

pub(super) fn as_json(counts: &JobCounts) -> Value {
    let JobCounts { name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted } = counts;
    json!({
        "name": name, "jobs_count": jobs_count, "todo": todo, "doing": doing, "succeeded": succeeded, "failed": failed,
        "cancelled": cancelled, "aborted": aborted,
    })
}

/// List the workers that are registered, and what each of them does
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ListWorkers {
    /// Times by the clock
    #[arg(long)]
    exact: bool,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl ListWorkers {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
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
pub(super) async fn workers(session: &Session<'_>) -> Result<Vec<ProcrastinateWorker>, Failure> {
    session.load("look for workers", RegisteredWorkers).await
}

/// The jobs that a worker is doing; the first hundred.
async fn jobs_of(worker_id: i64, session: &Session<'_>) -> Result<Vec<i64>, Failure> {
    let mut page = PageOfJobs { meant: MeantJobs::default(), newest_first: false, beyond: None, limit: 100 };
    page.meant.filter.worker_id = Some(worker_id);
    page.meant.filter.status = Some(JobStatus::Doing);
    let jobs = session.load("list the worker's jobs", page).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}
