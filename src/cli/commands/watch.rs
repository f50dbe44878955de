//! `watch`: shows the queue and refreshes.

use std::time::Duration;

use crate::cli::commands::counts::{count, table};
use crate::cli::commands::jobs::filter::Filter;
use crate::cli::commands::jobs::list::one_line;
use crate::cli::commands::workers::{alive, workers};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::times::exact;
use crate::cli::terminal::values;
use crate::database::statements::cli::{JobSelection, PageOfJobs};
use crate::database::statements::inspect::{CountedColumn, JobFilter};
use crate::job::JobStatus;

/// Show queues, workers and running jobs, and refresh until Ctrl-C
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    filter: Filter,

    /// The time between two refreshes
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "2",
        value_parser = values::duration,
        allow_negative_numbers = true
    )]
    interval: Duration,

    /// Stop after this many refreshes
    #[arg(long, value_name = "NUMBER", value_parser = values::limit, allow_negative_numbers = true)]
    count: Option<u32>,
}

/// How many running jobs are shown.
const SHOWN: i64 = 10;

impl Watch {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let filter = self.filter.of_counts()?;
        // A refresh is expensive on a large table.
        let interval = self.interval.max(Duration::from_millis(100));
        let mut refreshes = 0;
        loop {
            refresh(&filter, session).await?;
            refreshes += 1;
            if self.count.is_some_and(|count| refreshes >= count) {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }
}

async fn refresh(filter: &JobFilter, session: &mut Session<'_>) -> Result<(), Failure> {
    let queues = count(CountedColumn::Queue, filter.clone(), session).await?;
    let workers = workers(session).await?;
    let now = session.now().await?;
    let mut selection = JobSelection { filter: filter.clone(), are_stalled: false };
    selection.filter.status = Some(JobStatus::Doing);
    let page = PageOfJobs { meant: selection, newest_first: false, beyond: None, limit: SHOWN };
    let running = session.load(page).await?;

    // On a terminal, overwrite the last output.
    session.output.text(if session.output.style().width.is_some() { "\x1b[H\x1b[2J" } else { "" })?;
    session.output.line(format!("{}   workers: {}", exact(now), alive(&workers, now)))?;
    session.output.line("")?;
    table("queue", &queues).write(&mut session.output)?;
    if !running.is_empty() {
        session.output.line("\nrunning")?;
        for job in &running {
            session.output.line(format!("  {}", one_line(job)))?;
        }
    }
    session.output.line("")?;
    session.output.flush()
}
