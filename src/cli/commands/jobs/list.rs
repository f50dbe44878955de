//! `list_jobs`.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::cli::commands::jobs::filter::Filter;
use crate::cli::commands::jobs::options::{options_of, start_text};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::{Table, on_one_line};
use crate::cli::terminal::times::{self, Times};
use crate::cli::terminal::values;
use crate::database::models::{ProcrastinateJob, ProcrastinateJobOptions};
use crate::database::statements::cli::{JobSelection, PageOfJobs};
use crate::job::JobStatus;
use crate::queue::explanation::phrase::{job_text, status_text};

/// List jobs in the order of their IDs
///
/// Filters are words, as in `list_jobs queue=mails status=failed`, or flags. All of them must match. The word `details`
/// adds more columns.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  list_jobs queue=mails status=failed details")]
pub(crate) struct ListJobsArgs {
    #[command(flatten)]
    filter: Filter,

    /// Also show the priority, attempts, locks and arguments, like the word `details`
    #[arg(short, long)]
    details: bool,

    /// Show the newest jobs first
    #[arg(long)]
    newest: bool,

    /// The maximum number of jobs
    #[arg(short, long, value_name = "NUMBER", value_parser = values::limit, allow_negative_numbers = true)]
    limit: Option<u32>,

    /// Show the clock time
    #[arg(long)]
    exact: bool,

    /// Print JSON with all columns
    #[arg(long)]
    json: bool,
}

/// How many jobs are fetched at a time, so that memory use does not grow with the table.
const PAGE: i64 = 1_000;

impl ListJobsArgs {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let selected = self.filter.selected()?;
        let details = self.details || selected.details;
        let times = session.times(self.exact).await?;
        let mut table = table(details);
        let mut pages = Pages::new(selected.jobs, self.newest, self.limit);
        let mut page = pages.next(session).await?;
        // Start the array only after a successful query, so that no partial array is printed.
        let mut array = if self.json { Some(JsonArray::start(&mut session.output)?) } else { None };
        while let Some(jobs) = page {
            match &mut array {
                Some(array) => {
                    let options = options_of(&jobs, session).await?;
                    for job in &jobs {
                        array.push(&as_json(job, options.get(&job.id)), &mut session.output)?;
                    }
                }
                None => {
                    let options = if details { options_of(&jobs, session).await? } else { HashMap::new() };
                    jobs.iter().for_each(|job| table.row(cells(job, options.get(&job.id), details, times)));
                    table.write(&mut session.output)?;
                }
            }
            page = pages.next(session).await?;
        }
        if let Some(array) = array {
            return array.end(&mut session.output);
        }
        if pages.found == 0 {
            session.output.note("no matching jobs");
        }
        Ok(())
    }
}

/// Pages of jobs.
pub(crate) struct Pages {
    selection: JobSelection,
    newest_first: bool,
    beyond: Option<i64>,
    left: i64,
    /// The number of jobs so far.
    pub(crate) found: usize,
}

impl Pages {
    pub(crate) fn new(selection: JobSelection, newest_first: bool, limit: Option<u32>) -> Self {
        Self { selection, newest_first, beyond: None, left: limit.map_or(i64::MAX, i64::from), found: 0 }
    }

    /// Returns the next page, or `None` after the last one.
    pub(crate) async fn next(&mut self, session: &Session<'_>) -> Result<Option<Vec<ProcrastinateJob>>, Failure> {
        let limit = PAGE.min(self.left);
        let page = PageOfJobs {
            meant: self.selection.clone(),
            newest_first: self.newest_first,
            beyond: self.beyond.map(Into::into),
            limit,
        };
        if limit == 0 {
            return Ok(None);
        }
        let jobs = session.load(page).await?;
        let Some(last) = jobs.last() else { return Ok(None) };
        self.beyond = Some(last.id);
        self.found += jobs.len();
        self.left -= i64::try_from(jobs.len()).unwrap_or(self.left);
        Ok(Some(jobs))
    }
}

fn table(details: bool) -> Table {
    Table::new(if details {
        &[
            "#id",
            "status",
            "queue",
            "task",
            "scheduled",
            "#attempts",
            "#priority",
            "lock",
            "queueing lock",
            "start before",
            "limit key",
            "arguments",
        ]
    } else {
        &["#id", "status", "queue", "task", "scheduled"]
    })
}

fn cells(
    job: &ProcrastinateJob,
    options: Option<&ProcrastinateJobOptions>,
    details: bool,
    times: Times,
) -> Vec<(String, Colour)> {
    let plain = |text: String| (text, Colour::Plain);
    let mut cells = vec![
        plain(job.id.to_string()),
        (status_text(job), status_colour(&job.status)),
        plain(job.queue_name.clone()),
        plain(job.task_name.clone()),
        plain(times.show_some(job.scheduled_at)),
    ];
    if details {
        cells.extend([
            plain(job.attempts.to_string()),
            plain(job.priority.to_string()),
            plain(job.lock.clone().unwrap_or_default()),
            plain(job.queueing_lock.clone().unwrap_or_default()),
            plain(start_text(options, times).unwrap_or_default()),
            plain(options.and_then(|options| options.limit_key.clone()).unwrap_or_default()),
            plain(job.args.to_string()),
        ]);
    }
    cells
}

pub(crate) fn status_colour(status: &JobStatus) -> Colour {
    match status {
        JobStatus::Todo => Colour::Waiting,
        JobStatus::Doing | JobStatus::Aborting => Colour::Busy,
        JobStatus::Succeeded => Colour::Good,
        JobStatus::Failed | JobStatus::Aborted => Colour::Bad,
        _ => Colour::Faint,
    }
}

/// Formats a job on one line, like Procrastinate's shell.
pub(crate) fn one_line(job: &ProcrastinateJob) -> String {
    on_one_line(&job_text(job))
}

pub(crate) fn as_json(job: &ProcrastinateJob, options: Option<&ProcrastinateJobOptions>) -> Value {
    json!({
        "id": job.id,
        "queue": job.queue_name,
        "task": job.task_name,
        "status": job.status.as_str(),
        "priority": job.priority,
        "lock": job.lock,
        "queueing_lock": job.queueing_lock,
        "args": job.args,
        "scheduled_at": times::json(job.scheduled_at),
        "attempts": job.attempts,
        "abort_requested": job.abort_requested,
        "worker_id": job.worker_id,
        "start_before": times::json(options.and_then(|options| options.start_before)),
        "is_expired": options.is_some_and(|options| options.is_expired),
        "limit_key": options.and_then(|options| options.limit_key.as_ref()),
    })
}
