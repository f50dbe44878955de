//! `list_queues`, `list_tasks` and `list_locks`.

use serde_json::{Value, json};

use crate::cli::commands::controls::{controls, summary};
use crate::cli::commands::jobs::filter::Filter;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::times;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::Statement;
use crate::database::statements::inspect::{CountJobs, CountedColumn, JobFilter};
use crate::queue::job_manager::{JobCounts, count_jobs};

/// List the number of jobs by status.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  list_queues task=send_mail status=failed")]
pub(crate) struct Counts {
    #[command(flatten)]
    filter: Filter,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Counts the jobs that match the filter, grouped by a column.
pub(crate) async fn count(
    column: CountedColumn,
    filter: JobFilter,
    session: &Session<'_>,
) -> Result<Vec<JobCounts>, Failure> {
    let mut connection = session.app.connector().get(CountJobs::ACTION).await?;
    Ok(count_jobs(column, filter, &mut connection).await?)
}

impl Counts {
    pub(crate) async fn run(self, column: CountedColumn, session: &mut Session<'_>) -> Result<(), Failure> {
        let what = match column {
            CountedColumn::Queue => "queue",
            CountedColumn::Task => "task",
            CountedColumn::Lock => "lock",
        };
        let counts = count(column, self.filter.of_counts()?, session).await?;
        let mut controls = controls(session).await?;
        controls.retain(|control| control.kind == what);
        if self.json {
            let mut array = JsonArray::start(&mut session.output)?;
            for counted in &counts {
                let mut row = as_json(counted);
                if what != "lock" {
                    let is_its = |control: &&ProcrastinateFlowControl| control.name == counted.name;
                    let paused_at = controls.iter().find(is_its).and_then(|control| control.paused_at);
                    row["paused_at"] = times::json(paused_at);
                }
                array.push(&row, &mut session.output)?;
            }
            return array.end(&mut session.output);
        }
        if counts.is_empty() {
            session.output.note(format!("no {what} has matching jobs"));
        } else {
            table(what, &counts).write(&mut session.output)?;
        }
        let times = session.times(false).await?;
        for control in &controls {
            session.output.line(summary(std::slice::from_ref(control), times))?;
        }
        Ok(())
    }
}

pub(crate) fn table(what: &'static str, counts: &[JobCounts]) -> Table {
    const STATUSES: [Colour; 6] =
        [Colour::Waiting, Colour::Busy, Colour::Good, Colour::Bad, Colour::Plain, Colour::Bad];
    let mut table = Table::new(&[what, "#jobs", "#todo", "#doing", "#succeeded", "#failed", "#cancelled", "#aborted"]);
    for JobCounts { name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted } in counts {
        let mut cells = vec![(name.clone(), Colour::Plain), (jobs_count.to_string(), Colour::Plain)];
        for (count, colour) in [todo, doing, succeeded, failed, cancelled, aborted].into_iter().zip(STATUSES) {
            // Zeros are dimmed.
            cells.push((count.to_string(), if *count == 0 { Colour::Faint } else { colour }));
        }
        table.row(cells);
    }
    table
}

pub(crate) fn as_json(counts: &JobCounts) -> Value {
    let JobCounts { name, jobs_count, todo, doing, succeeded, failed, cancelled, aborted } = counts;
    json!({
        "name": name, "jobs_count": jobs_count, "todo": todo, "doing": doing, "succeeded": succeeded, "failed": failed,
        "cancelled": cancelled, "aborted": aborted,
    })
}
