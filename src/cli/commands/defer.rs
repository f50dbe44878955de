//! `defer`: defers a job by the name of its task.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::terminal::environment::{or_variable, switch};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::values;
use crate::error::Error;
use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
use crate::queue::defer::options::JobOptions;
use crate::queue::defer::{JobToDefer, configure_task};

/// Defer a job of a task
///
/// TASK is the full task name. `list_tasks` shows the tasks that have jobs. JSON_ARGS is a JSON object with the
/// arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  defer sum '{\"a\": 3, \"b\": 5}' --queue sums --in 5m")]
pub(crate) struct Defer {
    /// The task name
    task: String,

    /// The arguments as a JSON object. Default: {} [env: PROCRASTINATE_DEFER_JSON_ARGS]
    #[arg(value_parser = values::arguments)]
    json_args: Option<Value>,

    /// The queue. Default: the task's queue, or "default" [env: PROCRASTINATE_DEFER_QUEUE]
    #[arg(long)]
    queue: Option<String>,

    /// The lock; jobs with the same lock run one at a time [env: PROCRASTINATE_DEFER_LOCK]
    #[arg(long)]
    lock: Option<String>,

    /// The queueing lock; only one pending job can have it [env: PROCRASTINATE_DEFER_QUEUEING_LOCK]
    #[arg(long)]
    queueing_lock: Option<String>,

    /// What to do if a pending job has the queueing lock: fail, keep it, replace it, or replace_except_schedule.
    /// Default: the task's, or fail [env: PROCRASTINATE_DEFER_IF_ENQUEUED]
    #[arg(long, value_name = "WHAT", value_parser = values::if_enqueued)]
    if_enqueued: Option<IfEnqueued>,

    /// Exit with 0 even if the queueing lock or unique key is taken [env:
    /// PROCRASTINATE_DEFER_IGNORE_ALREADY_ENQUEUED, 1/y/t or 0/n/f]
    #[arg(short, long, overrides_with = "no_ignore_already_enqueued")]
    ignore_already_enqueued: bool,

    /// Fail if the queueing lock or unique key is taken (default)
    #[arg(long, overrides_with = "ignore_already_enqueued")]
    no_ignore_already_enqueued: bool,

    /// Start no earlier than this time, in ISO 8601: 2030-01-31T08:00:00+01:00; UTC without an offset [env:
    /// PROCRASTINATE_DEFER_AT]
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with = "in_")]
    at: Option<DateTime<Utc>>,

    /// Start after this delay: seconds, or 5m, 2h, 7d [env: PROCRASTINATE_DEFER_IN]
    #[arg(long = "in", value_name = "SECONDS", value_parser = values::duration, allow_negative_numbers = true)]
    in_: Option<Duration>,

    /// Cancel the job if it has not started before this time, in ISO 8601 [env: PROCRASTINATE_DEFER_START_BEFORE]
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with = "start_within")]
    start_before: Option<DateTime<Utc>>,

    /// Cancel the job if it has not started within this time after its schedule, or from now: seconds, or 5m, 2h, 7d
    /// [env: PROCRASTINATE_DEFER_START_WITHIN]
    #[arg(long, value_name = "SECONDS", value_parser = values::duration, allow_negative_numbers = true)]
    start_within: Option<Duration>,

    /// The key for limits of each key [env: PROCRASTINATE_DEFER_LIMIT_KEY]
    #[arg(long, value_name = "KEY")]
    limit_key: Option<String>,

    /// The unique key; only one job can have it until it has ended [env: PROCRASTINATE_DEFER_UNIQUE]
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,

    /// How long the job keeps its unique key after its end: seconds, or 5m, 2h, 7d [env:
    /// PROCRASTINATE_DEFER_UNIQUE_FOR]
    #[arg(long, value_name = "SECONDS", value_parser = values::duration, allow_negative_numbers = true)]
    unique_for: Option<Duration>,

    /// The priority; higher priorities start first. Default: the task's priority, or 0 [env:
    /// PROCRASTINATE_DEFER_PRIORITY]
    #[arg(long, allow_negative_numbers = true, value_parser = values::priority)]
    priority: Option<i32>,

    /// Allow a task that this program does not have [env: PROCRASTINATE_DEFER_UNKNOWN, 1/y/t or 0/n/f]
    #[arg(long, overrides_with = "no_unknown")]
    unknown: bool,

    /// Fail if this program does not have the task (default in programs with tasks)
    #[arg(long, overrides_with = "unknown")]
    no_unknown: bool,

    /// Print the job ID as JSON, and whether the job is new, replaced or kept
    #[arg(long)]
    json: bool,
}

impl Defer {
    pub(crate) async fn run(mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        let is_ignored = switch(
            self.ignore_already_enqueued,
            self.no_ignore_already_enqueued,
            "PROCRASTINATE_DEFER_IGNORE_ALREADY_ENQUEUED",
        )?;
        let args = or_variable(self.json_args.take(), "PROCRASTINATE_DEFER_JSON_ARGS", values::arguments)?;
        let args = args.unwrap_or_else(|| json!({}));
        let options = self.options()?;
        let is_unique = options.unique.is_some();
        let job = self.task(args.clone(), session)?.configure(&options);
        session.output.note(format!("Launching a job: {}({})", self.task, shown(&args)));
        match session.app.job_manager().defer_detailed(job).await {
            Ok(deferred) if self.json => {
                session.output.json(&json!({ "id": deferred.id(), "deferred": deferred.label() }))
            }
            Ok(Deferred::New(id)) => session.output.line(format!("deferred job {id}")),
            Ok(Deferred::Replaced(id)) => {
                session.output.line(format!("replaced the pending job {id} with the same queueing lock"))
            }
            Ok(Deferred::Kept(id)) if is_unique => {
                session.output.line(format!("job {id} has the same unique key or queueing lock"))
            }
            Ok(Deferred::Kept(id)) => {
                session.output.line(format!("job {id} with the same queueing lock is already pending"))
            }
            Err(error) if error.is_already_enqueued() && is_ignored == Some(true) => {
                session.output.note(format!("{error} (ignored)"));
                if self.json { session.output.json(&json!({ "id": null })) } else { Ok(()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the job with the defaults of its task.
    fn task(&self, args: Value, session: &Session<'_>) -> Result<JobToDefer, Failure> {
        let is_allowed = switch(self.unknown, self.no_unknown, "PROCRASTINATE_DEFER_UNKNOWN")?;
        match session.app.configure_task(&self.task, args.clone()) {
            Ok(job) => Ok(job),
            // A program without tasks could not defer anything otherwise.
            Err(Error::UnknownTask { .. }) if is_allowed.unwrap_or(!session.has_tasks) => {
                Ok(configure_task(&self.task, args))
            }
            Err(Error::UnknownTask { name, .. }) if !session.has_tasks => Err(Failure::failed(
                format!("could not find the task \"{name}\": this program has no tasks"),
                "remove --no-unknown and PROCRASTINATE_DEFER_UNKNOWN, or use the application's program",
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn options(&mut self) -> Result<JobOptions, Failure> {
        let mut options = JobOptions::new();
        if let Some(queue) = or_variable(self.queue.take(), "PROCRASTINATE_DEFER_QUEUE", values::text)? {
            options = options.queue(queue);
        }
        if let Some(lock) = or_variable(self.lock.take(), "PROCRASTINATE_DEFER_LOCK", values::text)? {
            options = options.lock(lock);
        }
        if let Some(lock) = or_variable(self.queueing_lock.take(), "PROCRASTINATE_DEFER_QUEUEING_LOCK", values::text)? {
            options = options.queueing_lock(lock);
        }
        if let Some(what) = or_variable(self.if_enqueued, "PROCRASTINATE_DEFER_IF_ENQUEUED", values::if_enqueued)? {
            options = options.if_enqueued(what);
        }
        if let Some(priority) = or_variable(self.priority, "PROCRASTINATE_DEFER_PRIORITY", values::priority)? {
            options = options.priority(priority);
        }
        if let Some(key) = or_variable(self.limit_key.take(), "PROCRASTINATE_DEFER_LIMIT_KEY", values::text)? {
            options = options.limit_key(key);
        }
        let key = or_variable(self.unique.take(), "PROCRASTINATE_DEFER_UNIQUE", values::text)?;
        let period = or_variable(self.unique_for, "PROCRASTINATE_DEFER_UNIQUE_FOR", values::duration)?;
        options = match (key, period) {
            (Some(key), period) => options.unique_for(key, period.unwrap_or_default()),
            (None, Some(_)) => return Err(Failure::usage("--unique-for is set without --unique; set the key, too")),
            (None, None) => options,
        };
        self.deadline(self.schedule(options)?)
    }

    /// A flag overrides both variables.
    fn deadline(&self, options: JobOptions) -> Result<JobOptions, Failure> {
        match (self.start_before, self.start_within) {
            (Some(time), _) => return Ok(options.start_before(time)),
            (None, Some(period)) => return Ok(options.start_within(period)),
            (None, None) => {}
        }
        let time = or_variable(None, "PROCRASTINATE_DEFER_START_BEFORE", values::time)?;
        let period = or_variable(None, "PROCRASTINATE_DEFER_START_WITHIN", values::duration)?;
        match (time, period) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "PROCRASTINATE_DEFER_START_BEFORE and PROCRASTINATE_DEFER_START_WITHIN are both set; unset one of them",
            )),
            (Some(time), None) => Ok(options.start_before(time)),
            (None, Some(period)) => Ok(options.start_within(period)),
            (None, None) => Ok(options),
        }
    }

    /// A flag overrides both variables.
    fn schedule(&self, options: JobOptions) -> Result<JobOptions, Failure> {
        match (self.at, self.in_) {
            (Some(at), _) => return Ok(options.schedule_at(at)),
            (None, Some(delay)) => return Ok(options.schedule_in(delay)),
            (None, None) => {}
        }
        let at = or_variable(None, "PROCRASTINATE_DEFER_AT", values::time)?;
        let delay = or_variable(None, "PROCRASTINATE_DEFER_IN", values::duration)?;
        match (at, delay) {
            (Some(_), Some(_)) => {
                Err(Failure::usage("PROCRASTINATE_DEFER_AT and PROCRASTINATE_DEFER_IN are both set; unset one of them"))
            }
            (Some(at), None) => Ok(options.schedule_at(at)),
            (None, Some(delay)) => Ok(options.schedule_in(delay)),
            (None, None) => Ok(options),
        }
    }
}

/// Formats `a=3, b="x"`.
fn shown(args: &Value) -> String {
    let args = args.as_object().into_iter().flatten();
    args.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}
