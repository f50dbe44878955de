//! `defer`: makes a job by the name of its task.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::terminal::environment::{or_variable, switch};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::values;
use crate::error::Error;
use crate::queue::defer::options::JobOptions;
use crate::queue::defer::{JobToDefer, configure_task};

/// Defer a job of a task, for a worker to run
///
/// TASK is the name of the task, as workers know it: `list_tasks` shows those that have had jobs. JSON_ARGS are its
/// arguments by name, as a JSON object.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  defer sum '{\"a\": 3, \"b\": 5}' --queue sums --in 5m")]
pub(crate) struct Defer {
    /// The task's name
    task: String,

    /// The arguments as a JSON object, {} unless set [env: PROCRASTINATE_DEFER_JSON_ARGS]
    #[arg(value_parser = values::arguments)]
    json_args: Option<Value>,

    /// The queue; the task's own unless set, or "default" [env: PROCRASTINATE_DEFER_QUEUE]
    #[arg(long)]
    queue: Option<String>,

    /// Of the jobs with one lock one runs at a time, in order [env: PROCRASTINATE_DEFER_LOCK]
    #[arg(long)]
    lock: Option<String>,

    /// Of the jobs with one queueing lock one waits at a time: it fails if there is one [env:
    /// PROCRASTINATE_DEFER_QUEUEING_LOCK]
    #[arg(long)]
    queueing_lock: Option<String>,

    /// Exit with 0 even if the queueing lock is taken, still saying so [env: PROCRASTINATE_DEFER_IGNORE_ALREADY_ENQUEUED,
    /// 1/y/t or 0/n/f]
    #[arg(short, long, overrides_with = "no_ignore_already_enqueued")]
    ignore_already_enqueued: bool,

    /// The opposite, and what holds unless set
    #[arg(long, overrides_with = "ignore_already_enqueued")]
    no_ignore_already_enqueued: bool,

    /// Not before this time, in ISO 8601: 2030-01-31T08:00:00+01:00; in UTC without an offset [env:
    /// PROCRASTINATE_DEFER_AT]
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with = "in_")]
    at: Option<DateTime<Utc>>,

    /// Not before so many seconds are over, or 5m, 2h, 7d [env: PROCRASTINATE_DEFER_IN]
    #[arg(long = "in", value_name = "SECONDS", value_parser = values::duration, allow_negative_numbers = true)]
    in_: Option<Duration>,

    /// Jobs of a higher one go first; the task's own unless set, or 0 [env: PROCRASTINATE_DEFER_PRIORITY]
    #[arg(long, allow_negative_numbers = true, value_parser = values::priority)]
    priority: Option<i32>,

    /// Defer also a task that this program does not know [env: PROCRASTINATE_DEFER_UNKNOWN, 1/y/t or 0/n/f]
    #[arg(long, overrides_with = "no_unknown")]
    unknown: bool,

    /// The opposite; what holds unless set in a program with tasks
    #[arg(long, overrides_with = "unknown")]
    no_unknown: bool,

    /// Say the job's number as JSON
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
        let job = self.task(args.clone(), session)?.configure(&self.options()?);
        session.output.note(format!("Launching a job: {}({})", self.task, shown(&args)));
        match session.app.defer(job).await {
            Ok(id) if self.json => session.output.json(&json!({ "id": id })),
            Ok(id) => session.output.line(format!("deferred job {id}")),
            Err(error @ Error::AlreadyEnqueued { .. }) if is_ignored == Some(true) => {
                session.output.note(format!("{error} (ignored)"));
                if self.json { session.output.json(&json!({ "id": null })) } else { Ok(()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The job as its task has it.
    fn task(&self, args: Value, session: &Session<'_>) -> Result<JobToDefer, Failure> {
        let is_allowed = switch(self.unknown, self.no_unknown, "PROCRASTINATE_DEFER_UNKNOWN")?;
        match session.app.configure_task(&self.task, args.clone()) {
            Ok(job) => Ok(job),
            // A program without tasks could defer nothing otherwise.
            Err(Error::UnknownTask { .. }) if is_allowed.unwrap_or(!session.has_tasks) => {
                Ok(configure_task(&self.task, args))
            }
            Err(Error::UnknownTask { name, .. }) if !session.has_tasks => Err(Failure::failed(
                format!("this program has no tasks, so it does not know \"{name}\""),
                "leave --no-unknown and PROCRASTINATE_DEFER_UNKNOWN away, or defer it with the application's program",
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
        if let Some(priority) = or_variable(self.priority, "PROCRASTINATE_DEFER_PRIORITY", values::priority)? {
            options = options.priority(priority);
        }
        self.schedule(options)
    }

    /// A flag wins over both variables.
    fn schedule(&self, options: JobOptions) -> Result<JobOptions, Failure> {
        match (self.at, self.in_) {
            (Some(at), _) => return Ok(options.schedule_at(at)),
            (None, Some(delay)) => return Ok(options.schedule_in(delay)),
            (None, None) => {}
        }
        let at = or_variable(None, "PROCRASTINATE_DEFER_AT", values::time)?;
        let delay = or_variable(None, "PROCRASTINATE_DEFER_IN", values::duration)?;
        match (at, delay) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "PROCRASTINATE_DEFER_AT and PROCRASTINATE_DEFER_IN are both set, and a job has one time",
            )),
            (Some(at), None) => Ok(options.schedule_at(at)),
            (None, Some(delay)) => Ok(options.schedule_in(delay)),
            (None, None) => Ok(options),
        }
    }
}

/// `a=3, b="x"`.
fn shown(args: &Value) -> String {
    let args = args.as_object().into_iter().flatten();
    args.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}
