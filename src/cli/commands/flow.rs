//! `pause`, `resume` and `limit`: control which pending jobs may start.

use std::time::Duration;

use crate::cli::commands::jobs::act::some_jobs;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::{environment, values};
use crate::database::statements::explain::RunningJobs;
use crate::queue::job_manager::{
    limit_queue, limit_task, pause_queue, pause_task, resume_queue, resume_task, unlimit_queue, unlimit_task,
};

/// A queue or a task.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Queue(String),
    Task(String),
}

impl Target {
    /// Reads `queue=NAME` or `task=NAME`.
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("queue", name)) => Ok(Self::Queue(name.to_owned())),
            Some(("task", name)) => Ok(Self::Task(name.to_owned())),
            _ => Err("must be queue=NAME or task=NAME".to_owned()),
        }
    }

    fn kind_and_name(&self) -> (&'static str, &str) {
        match self {
            Self::Queue(name) => ("queue", name),
            Self::Task(name) => ("task", name),
        }
    }

    /// Describes it, as in `queue "mails"`.
    fn text(&self) -> String {
        let (kind, name) = self.kind_and_name();
        format!("{kind} {name:?}")
    }

    /// Counts its running jobs.
    async fn running(&self, session: &Session<'_>) -> Result<i64, Failure> {
        let (kind, name) = self.kind_and_name();
        let statement = RunningJobs { kind: kind.to_owned(), name: name.to_owned() };
        Ok(session.load(statement).await?.into_iter().sum())
    }
}

/// Pause a queue or task: its pending jobs do not start until it is resumed
///
/// Running jobs continue, and jobs can still be deferred.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  pause queue=mails --reason 'the mail server is down'\n  pause task=report --wait")]
pub(crate) struct Pause {
    /// queue=NAME or task=NAME
    #[arg(value_name = "TARGET", value_parser = Target::parse)]
    target: Target,
    /// Who pauses it [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why it is paused
    #[arg(long)]
    reason: Option<String>,
    /// Skip the ticks of periodic tasks during the pause, instead of deferring their jobs
    #[arg(long)]
    skip_ticks: bool,
    /// Wait until none of its jobs is running
    #[arg(long)]
    wait: bool,
}

/// How often running jobs are counted while `pause` waits for them.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

impl Pause {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self { target, by, reason, skip_ticks, wait } = self;
        let mut pause = match &target {
            Target::Queue(name) => pause_queue(name),
            Target::Task(name) => pause_task(name),
        };
        if let Some(name) = environment::or_variable(by, "USER", values::text)? {
            pause = pause.by(name);
        }
        if let Some(reason) = reason {
            pause = pause.reason(reason);
        }
        if skip_ticks {
            pause = pause.skip_ticks();
        }
        let is_new = session.app.perform(pause).await?;
        let already = if is_new { "" } else { " already" };
        let running = target.running(session).await?;
        session.output.line(format!(
            "the {} is paused{already}; {} running",
            target.text(),
            if running == 1 { "1 job is".to_owned() } else { format!("{} are", some_jobs(running)) },
        ))?;
        if wait {
            drain(&target, session).await?;
        }
        Ok(())
    }
}

/// Waits until no job is running. A fetch that began before the pause may still start some, so this looks twice.
async fn drain(target: &Target, session: &mut Session<'_>) -> Result<(), Failure> {
    let mut looks_without_jobs = 0;
    while looks_without_jobs < 2 {
        session.output.flush()?;
        tokio::select! {
            () = tokio::time::sleep(COUNT_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::failed("stopped waiting for running jobs", "the pause is in effect"));
            }
        }
        looks_without_jobs = if target.running(session).await? == 0 { looks_without_jobs + 1 } else { 0 };
    }
    session.output.line("no job is running")
}

/// Resume a paused queue or task
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  resume queue=mails")]
pub(crate) struct Resume {
    /// queue=NAME or task=NAME
    #[arg(value_name = "TARGET", value_parser = Target::parse)]
    target: Target,
}

impl Resume {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let was_paused = match &self.target {
            Target::Queue(name) => session.app.perform(resume_queue(name)).await?,
            Target::Task(name) => session.app.perform(resume_task(name)).await?,
        };
        let outcome = if was_paused { "is resumed" } else { "was not paused" };
        session.output.line(format!("the {} {outcome}", self.target.text()))
    }
}

/// Limit how many jobs of a queue or task run at the same time or start within a period, in all workers together
///
/// This replaces its former limit.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  limit queue=payments --running 5 --starts 100 --per 60\n  \
                  limit task=import --per-key tenant --running 2\n  limit task=render --remove")]
pub(crate) struct Limit {
    /// queue=NAME or task=NAME
    #[arg(value_name = "TARGET", value_parser = Target::parse)]
    target: Target,
    /// How many jobs may run at the same time
    #[arg(long, value_name = "NUMBER", value_parser = values::limit, allow_negative_numbers = true)]
    running: Option<u32>,
    /// How many jobs may start within the period of --per
    #[arg(long, value_name = "NUMBER", value_parser = values::limit, requires = "per", allow_negative_numbers = true)]
    starts: Option<u32>,
    /// The period of --starts: seconds, or 5m, 2h, 7d
    #[arg(long, value_name = "SECONDS", value_parser = values::duration, requires = "starts", allow_negative_numbers = true)]
    per: Option<Duration>,
    /// Limit the jobs of each key: the value of this field of their arguments, such as tenant or customer.id
    #[arg(long, value_name = "FIELD", value_parser = values::text)]
    per_key: Option<String>,
    /// Limit the jobs of each key that was given with the jobs
    #[arg(long, conflicts_with = "per_key")]
    per_limit_key: bool,
    /// Remove the limit
    #[arg(long, conflicts_with_all = ["running", "starts"])]
    remove: bool,
}

impl Limit {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self { target, running, starts, per, per_key, per_limit_key, remove } = self;
        let is_of_keys = per_key.is_some() || per_limit_key;
        let text = target.text();
        let of_keys = if is_of_keys { " for each key" } else { "" };
        if remove {
            let mut unlimit = match target {
                Target::Queue(name) => unlimit_queue(name),
                Target::Task(name) => unlimit_task(name),
            };
            if is_of_keys {
                unlimit = unlimit.per_key();
            }
            let had_limit = session.app.perform(unlimit).await?;
            let outcome = if had_limit { "has no limit any more" } else { "had no limit" };
            return session.output.line(format!("the {text} {outcome}{of_keys}"));
        }
        let mut limit = match target {
            Target::Queue(name) => limit_queue(name),
            Target::Task(name) => limit_task(name),
        };
        if let Some(jobs) = running {
            limit = limit.max_running(jobs);
        }
        if let (Some(jobs), Some(period)) = (starts, per) {
            limit = limit.max_starts(jobs, period);
        }
        if let Some(field) = per_key {
            limit = limit.per_key(field);
        } else if per_limit_key {
            limit = limit.per_limit_key();
        }
        if running.is_none() && starts.is_none() {
            return Err(Failure::usage("a limit needs --running or --starts; use --remove to remove it"));
        }
        session.app.perform(limit).await?;
        session.output.line(format!("the {text} is limited{of_keys}"))
    }
}
