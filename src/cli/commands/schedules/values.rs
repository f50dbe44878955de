//! The values that a schedule can have, as flags.

use std::time::Duration;

use serde_json::Value;

use crate::cli::terminal::values;
use crate::queue::job_manager::{ChangeSchedule, CreateSchedule};
use crate::schedule::{MissedTicks, Overlap};

/// The values that are given.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Values {
    /// The time zone, such as Europe/Vienna. Default: UTC
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,

    /// The arguments as a JSON object. Default: {}
    #[arg(long, value_name = "JSON", value_parser = values::arguments)]
    args: Option<Value>,

    /// The queue. Default: the task's queue
    #[arg(long)]
    queue: Option<String>,

    /// The priority; higher priorities start first. Default: the task's priority
    #[arg(long, allow_negative_numbers = true, value_parser = values::priority)]
    priority: Option<i32>,

    /// The lock; jobs with the same lock run one at a time
    #[arg(long)]
    lock: Option<String>,

    /// The queueing lock; a tick is skipped while a pending job has the same one
    #[arg(long)]
    queueing_lock: Option<String>,

    /// How soon a job must start after its tick was deferred: seconds, or 5m, 2h, 7d. Otherwise it is cancelled
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    start_within: Option<Duration>,

    /// The key of the jobs for limits of each key
    #[arg(long, value_name = "KEY")]
    limit_key: Option<String>,

    /// How old a tick may be when it is deferred: seconds, or 5m, 2h, 7d. Default: ten minutes
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    max_delay: Option<Duration>,

    /// What to do with missed ticks: procrastinate, skip, last or all. Default: procrastinate
    #[arg(long, value_name = "POLICY", value_parser = missed)]
    missed: Option<MissedTicks>,

    /// What to do with a tick while the last job is pending or running: allow or skip. Default: allow
    #[arg(long, value_name = "POLICY", value_parser = overlap)]
    overlap: Option<Overlap>,
}

fn missed(text: &str) -> Result<MissedTicks, String> {
    MissedTicks::read(text).ok_or_else(|| "must be procrastinate, skip, last or all".to_owned())
}

fn overlap(text: &str) -> Result<Overlap, String> {
    let known = [Overlap::Allow, Overlap::Skip].into_iter().find(|overlap| overlap.as_str() == text);
    known.ok_or_else(|| "must be allow or skip".to_owned())
}

/// Sets each value that is given. The operations have setters with the names of the fields.
macro_rules! set {
    ($values:ident, $operation:ident: $($field:ident)+) => {
        $(
            if let Some(value) = $values.$field {
                $operation = $operation.$field(value);
            }
        )+
    };
}

impl Values {
    /// The arguments, if they are given.
    pub(super) fn args(&self) -> Option<&Value> {
        self.args.as_ref()
    }

    pub(super) fn apply_to_create(self, mut create: CreateSchedule) -> CreateSchedule {
        set!(self, create: time_zone args queue priority lock queueing_lock start_within limit_key max_delay missed overlap);
        create
    }

    pub(super) fn apply_to_change(self, mut change: ChangeSchedule) -> ChangeSchedule {
        set!(self, change: time_zone args queue priority lock queueing_lock start_within limit_key max_delay missed overlap);
        change
    }
}
