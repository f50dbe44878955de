//! `retry`, `cancel`, `abort`, `reschedule` and `delete`: change jobs by ID or by filter.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::cli::commands::jobs::filter::{Flags, Selected, read};
use crate::cli::commands::jobs::list::{Pages, one_line};
use crate::cli::commands::jobs::one_job::find;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::values;
use crate::database::statements::cli::{CountOfJobs, JobSelection, RetryJobByContract};
use crate::database::statements::manage::RetryJobQuery;
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::queue::job_manager::{cancel_job, delete_job, get_job_status, reschedule_job, retry_job};

/// The jobs to change.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Targets {
    /// Job IDs, or filters as in list_jobs: queue=NAME, task=NAME, status=STATUS …
    #[arg(value_name = "JOB or KEY=VALUE")]
    words: Vec<String>,

    #[command(flatten)]
    flags: Flags,

    /// Skip the confirmation
    #[arg(short, long)]
    yes: bool,
}

/// Retry jobs that have failed or whose worker has died; the last attempt counts
///
/// Filters without a status select failed jobs.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  retry 7\n  retry queue=mails status=failed\n  retry stalled")]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    targets: Targets,
    /// Start no earlier than this time (ISO 8601)
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    at: Option<DateTime<Utc>>,
    /// Change the priority
    #[arg(long, value_parser = values::priority, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Move the jobs to this queue
    #[arg(long)]
    to_queue: Option<String>,
}

/// Cancel pending jobs, so that no worker starts them
///
/// Filters without a status select pending jobs. Use `abort` for running jobs.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  cancel 7 8 9\n  cancel task=send_newsletter")]
pub(crate) struct Cancel {
    #[command(flatten)]
    targets: Targets,
    /// Delete the jobs instead of marking them as cancelled
    #[arg(long)]
    delete: bool,
}

/// Abort running jobs, or cancel pending ones
///
/// This is a request to the worker. Blocking code must check for it. Filters without a status select running jobs.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  abort 7")]
pub(crate) struct Abort {
    #[command(flatten)]
    targets: Targets,
}

/// Reschedule pending jobs; without a time they start immediately
///
/// Filters without a status select pending jobs.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  reschedule 7 --in 2h\n  reschedule 7")]
pub(crate) struct Reschedule {
    #[command(flatten)]
    targets: Targets,
    /// Start no earlier than this time (ISO 8601)
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with = "in_")]
    at: Option<DateTime<Utc>>,
    /// Start after this delay: seconds, or 5m, 2h, 7d
    #[arg(long = "in", value_name = "SECONDS", value_parser = values::duration, allow_negative_numbers = true)]
    in_: Option<Duration>,
}

/// Delete jobs that are not running, with their events and errors
///
/// Filters must include a status.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  delete 7\n  delete status=cancelled queue=mails")]
pub(crate) struct Delete {
    #[command(flatten)]
    targets: Targets,
}

/// Formats `1 job`, `2 jobs`.
pub(crate) fn some_jobs(count: impl std::fmt::Display) -> String {
    let count = count.to_string();
    format!("{count} {}", if count == "1" { "job" } else { "jobs" })
}

/// The change to each job.
#[derive(Debug)]
enum Action {
    Retry { at: Option<DateTime<Utc>>, priority: Option<i32>, queue: Option<String> },
    Cancel { delete: bool },
    Abort,
    Reschedule { at: Option<DateTime<Utc>> },
    Delete,
}

impl RetryArgs {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self { targets, at, priority, to_queue: queue } = self;
        targets.each(&Action::Retry { at, priority, queue }, session).await
    }
}

impl Cancel {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.targets.each(&Action::Cancel { delete: self.delete }, session).await
    }
}

impl Abort {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.targets.each(&Action::Abort, session).await
    }
}

impl Reschedule {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let delay = self.in_.and_then(|delay| chrono::TimeDelta::from_std(delay).ok());
        let at = match (self.at, delay) {
            (None, Some(delay)) => session.now().await?.checked_add_signed(delay),
            (at, _) => at,
        };
        if at.is_none() && self.in_.is_some() {
            return Err(Failure::usage("invalid --in: the resulting time is too far in the future"));
        }
        self.targets.each(&Action::Reschedule { at }, session).await
    }
}

impl Delete {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.targets.each(&Action::Delete, session).await
    }
}

impl Targets {
    async fn each(self, action: &Action, session: &mut Session<'_>) -> Result<(), Failure> {
        let ids: Result<Vec<JobId>, _> = self.words.iter().map(|word| values::job_id(word)).collect();
        match ids {
            Ok(ids) if !ids.is_empty() => by_id(&ids, action, session).await,
            _ => {
                let Selected { jobs, .. } = read(&self.words, &self.flags)?;
                by_filter(action.narrowed(jobs)?, self.yes, action, session).await
            }
        }
    }
}

async fn by_id(ids: &[JobId], action: &Action, session: &mut Session<'_>) -> Result<(), Failure> {
    let mut failed = None;
    for id in ids {
        match action.perform(*id, session).await {
            Ok(()) => show(*id, session).await?,
            // Change the other jobs too. The last failure is returned, earlier ones are reported here.
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    session.output.report(&earlier);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn show(id: JobId, session: &mut Session<'_>) -> Result<(), Failure> {
    match find(id, session).await? {
        Some(job) => session.output.line(one_line(&job)),
        None => session.output.line(format!("#{id} was deleted")),
    }
}

async fn by_filter(
    selection: JobSelection,
    yes: bool,
    action: &Action,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let counted = session.load(CountOfJobs(selection.clone())).await?;
    let count = counted.into_iter().next().unwrap_or_default();
    if count == 0 {
        session.output.note("no matching jobs");
        return Ok(());
    }
    if !session.confirm(yes, &format!("{} {}?", action.name(), some_jobs(count)))? {
        session.output.note("nothing changed");
        return Ok(());
    }
    let (mut done, mut unchanged, mut last) = (0_u64, 0_u64, None);
    let mut pages = Pages::new(selection, false, None);
    while let Some(jobs) = pages.next(session).await? {
        for job in jobs {
            match action.perform(job.id.into(), session).await {
                Ok(()) => done += 1,
                // The job has changed since, or its queueing lock is taken.
                Err(failure @ Failure::Failed { .. }) if failure.is_about_one_job() => {
                    unchanged += 1;
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        if i64::try_from(pages.found).unwrap_or(i64::MAX) < count {
            session.output.progress(format!("{done} of {count}"));
        }
    }
    session.output.line(format!("{} changed: {}", some_jobs(done), action.name().to_lowercase()))?;
    match last {
        None => Ok(()),
        Some(last) => {
            session.output.note(format!("{} not changed; the last error:", some_jobs(unchanged)));
            Err(last)
        }
    }
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "Retry",
            Self::Cancel { .. } => "Cancel",
            Self::Abort => "Abort",
            Self::Reschedule { .. } => "Reschedule",
            Self::Delete => "Delete",
        }
    }

    /// Completes a filter that has no status.
    fn narrowed(&self, mut selection: JobSelection) -> Result<JobSelection, Failure> {
        let filter = &selection.filter;
        let is_empty = filter.queue.is_none() && filter.task.is_none() && filter.lock.is_none();
        let is_empty = is_empty && filter.queueing_lock.is_none() && filter.worker_id.is_none() && filter.id.is_none();
        if is_empty && filter.status.is_none() && !selection.are_stalled {
            return Err(Failure::usage(format!(
                "{} which jobs? Give job IDs, or filters such as queue=mails status=failed",
                self.name()
            )));
        }
        if filter.status.is_none() && !selection.are_stalled {
            selection.filter.status = match self {
                Self::Retry { .. } => Some(JobStatus::Failed),
                Self::Cancel { .. } | Self::Reschedule { .. } => Some(JobStatus::Todo),
                Self::Abort => Some(JobStatus::Doing),
                Self::Delete => {
                    return Err(Failure::usage("Delete jobs with which status? Add a filter such as status=failed"));
                }
            };
        }
        Ok(selection)
    }

    async fn perform(&self, id: JobId, session: &Session<'_>) -> Result<(), Failure> {
        let app = &session.app;
        match self {
            Self::Retry { at, priority, queue } => retry(id, *at, *priority, queue.clone(), session).await,
            Self::Cancel { delete } => {
                let is_done = app.perform(cancel_job(id).delete_job(*delete)).await?;
                explain(is_done, "cancel", id, "todo", session).await
            }
            Self::Abort => {
                let is_done = app.perform(cancel_job(id).abort(true)).await?;
                explain(is_done, "abort", id, "doing or todo", session).await
            }
            Self::Reschedule { at: Some(at) } => Ok(app.perform(reschedule_job(id).schedule_at(*at)).await?),
            Self::Reschedule { at: None } => Ok(app.perform(reschedule_job(id)).await?),
            Self::Delete => Ok(app.perform(delete_job(id)).await?),
        }
    }
}

/// Returns the error that explains why the job did not change.
async fn explain(
    is_done: bool,
    action: &'static str,
    job_id: JobId,
    allowed: &'static str,
    session: &Session<'_>,
) -> Result<(), Failure> {
    if is_done {
        return Ok(());
    }
    let error = match session.app.perform(get_job_status(job_id)).await? {
        Some(status) => Error::WrongStatus { action, job_id, status, allowed },
        None => Error::JobNotFound { action, job_id },
    };
    Err(error.into())
}

async fn retry(
    job_id: JobId,
    retry_at: Option<DateTime<Utc>>,
    priority: Option<i32>,
    queue: Option<String>,
    session: &Session<'_>,
) -> Result<(), Failure> {
    let mut operation = retry_job(job_id);
    if let Some(at) = retry_at {
        operation = operation.retry_at(at);
    }
    if let Some(priority) = priority {
        operation = operation.priority(priority);
    }
    if let Some(queue) = &queue {
        operation = operation.queue(queue);
    }
    match session.app.perform(operation).await {
        Ok(_) => Ok(()),
        // A database of Python's Procrastinate without this crate's migrations.
        Err(Error::SchemaMissing { .. }) => {
            let statement = RetryJobByContract(RetryJobQuery { job_id, retry_at, priority, queue, lock: None });
            session.load(statement).await.map(|_| ())
        }
        Err(error) => Err(error.into()),
    }
}
