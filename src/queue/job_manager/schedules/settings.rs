//! The values that a schedule can have, and their rules.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::queue::defer::options::{Deadline, JobOptions};
use crate::schedule::recurrence::Recurrence;
use crate::schedule::{MissedTicks, Overlap, check_has_no_tick};
use crate::support::json::to_json;
use crate::validation::{check_age, check_args};

/// The columns of the table of schedules that hold the options of jobs.
const OPTIONS: [&str; 6] = ["queue_name", "priority", "lock", "queueing_lock", "start_within_seconds", "limit_key"];

/// The values that were set.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) cron: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) args: Option<Result<Value, serde_json::Error>>,
    pub(super) options: JobOptions,
    /// Whether the options that are not set become those of the task.
    pub(super) resets_options: bool,
    /// Whether `max_delay` becomes that of the application if it is not set.
    pub(super) resets_max_delay: bool,
    pub(super) max_delay: Option<Duration>,
    pub(super) missed: Option<MissedTicks>,
    pub(super) overlap: Option<Overlap>,
}

impl Settings {
    pub(super) fn set_args(&mut self, args: impl Serialize) {
        self.args = Some(to_json(&args));
    }

    pub(super) fn set_start_within(&mut self, period: Duration) {
        self.options.deadline = Some(Deadline::Within(period));
    }

    /// Checks the values, and returns them by column. Values that are not set are left out.
    pub(super) fn into_values(self, task_name: &str) -> Result<Value, Error> {
        let Self { cron, time_zone, args, options, resets_options, resets_max_delay, max_delay, missed, overlap } =
            self;
        // Without an expression, any will do to check the time zone.
        Recurrence::cron(cron.as_deref().unwrap_or("* * * * *"), time_zone.as_deref())?;
        options.check()?;
        let mut values = Map::new();
        if resets_options {
            values.extend(OPTIONS.map(|column| (column.to_owned(), Value::Null)));
        }
        if resets_max_delay {
            values.insert("max_delay_seconds".to_owned(), Value::Null);
        }
        let mut set = |column: &str, value: Option<Value>| {
            values.extend(value.map(|value| (column.to_owned(), value)));
        };
        if let Some(args) = args {
            let args = check_args(task_name, &args)?;
            check_has_no_tick(task_name, args)?;
            set("args", Some(args.clone()));
        }
        if let Some(max_delay) = max_delay {
            check_age("max_delay", max_delay)?;
            set("max_delay_seconds", Some(json!(max_delay.as_secs())));
        }
        set("cron", cron.map(Value::from));
        // UTC is the default.
        set("time_zone", time_zone.map(|name| if name == "UTC" { Value::Null } else { name.into() }));
        set("queue_name", options.queue.map(Value::from));
        set("priority", options.priority.map(Value::from));
        set("lock", options.lock.map(Value::from));
        set("queueing_lock", options.queueing_lock.map(Value::from));
        if let Some(Deadline::Within(period)) = options.deadline {
            set("start_within_seconds", Some(json!(period.as_secs_f64())));
        }
        set("limit_key", options.limit_key.map(Value::from));
        set("missed_ticks", missed.map(|missed| missed.as_str().into()));
        set("overlap", overlap.map(|overlap| overlap.as_str().into()));
        Ok(Value::Object(values))
    }
}

/// Adds a setter for each value to an operation with a field `settings`. `$start` is the code of an example.
macro_rules! schedule_setters {
    ($operation:ident, $start:literal) => {
        schedule_setters! { @ $operation, $start,
            /// Sets the time zone of the expression, an IANA name such as `Europe/Vienna`. Default: UTC.
            ///
            /// Only programs with the feature `chrono-tz` defer the ticks of another time zone. See
            /// [`Cron::in_time_zone`](crate::Cron::in_time_zone).
            time_zone(name: impl Into<String>) "\"UTC\"" => |settings| settings.time_zone = Some(name.into());

            /// Sets all arguments of the jobs except `timestamp`, which is the tick. Default: none.
            ///
            /// They are anything that serializes to a JSON object. Workers check them against the task.
            args(args: impl Serialize) "serde_json::json!({ \"customer\": 7 })" => |settings| settings.set_args(args);

            /// Sets the queue of the jobs; see [`JobOptions::queue`](crate::JobOptions::queue). Default: the task's.
            queue(queue: impl Into<String>) "\"reports\"" => |settings| settings.options.queue = Some(queue.into());

            /// Sets the priority of the jobs; see [`JobOptions::priority`](crate::JobOptions::priority). Default: the
            /// task's.
            priority(priority: i32) "10" => |settings| settings.options.priority = Some(priority);

            /// Sets the lock of the jobs; see [`JobOptions::lock`](crate::JobOptions::lock). Default: the task's.
            lock(lock: impl Into<String>) "\"reports\"" => |settings| settings.options.lock = Some(lock.into());

            /// Sets the queueing lock of the jobs; see [`JobOptions::queueing_lock`](crate::JobOptions::queueing_lock).
            /// Default: the task's.
            ///
            /// A tick is skipped while another pending job holds the lock.
            queueing_lock(queueing_lock: impl Into<String>) "\"report\"" =>
                |settings| settings.options.queueing_lock = Some(queueing_lock.into());

            /// Sets how soon the job of a tick must start, from when it is deferred. Otherwise it ends as cancelled.
            /// See [`JobOptions::start_within`](crate::JobOptions::start_within). Default: the task's.
            start_within(period: Duration) "std::time::Duration::from_secs(3600)" =>
                |settings| settings.set_start_within(period);

            /// Sets the key of the jobs for limits of each key; see
            /// [`JobOptions::limit_key`](crate::JobOptions::limit_key). Default: the task's.
            limit_key(limit_key: impl Into<String>) "\"tenant-7\"" =>
                |settings| settings.options.limit_key = Some(limit_key.into());

            /// Sets how old a tick may be when it is deferred, in whole seconds. Default: ten minutes, or the value of
            /// [`AppBuilder::periodic_max_delay`](crate::AppBuilder::periodic_max_delay) in the worker's program.
            max_delay(max_delay: Duration) "std::time::Duration::from_secs(3600)" =>
                |settings| settings.max_delay = Some(max_delay);

            /// Sets what to do with missed ticks. Default: Procrastinate's rule.
            missed(missed: MissedTicks) "procrastinate::MissedTicks::Last" =>
                |settings| settings.missed = Some(missed);

            /// Sets what to do with a tick while the last job of the schedule is pending or running. Default: it
            /// becomes a job.
            overlap(overlap: Overlap) "procrastinate::Overlap::Skip" =>
                |settings| settings.overlap = Some(overlap);
        }
    };
    (
        @ $operation:ident, $start:literal,
        $($(#[$attribute:meta])* $setter:ident($value:ident: $type:ty) $example:literal => |$settings:ident| $set:expr;)+
    ) => {
        impl $operation {
            $(
                $(#[$attribute])*
                ///
                /// # Example
                ///
                /// ```
                #[doc = concat!(
                    "let operation = procrastinate::job_manager::", $start, ".", stringify!($setter), "(", $example, ");"
                )]
                /// ```
                pub fn $setter(mut self, $value: $type) -> Self {
                    let $settings = &mut self.settings;
                    $set;
                    self
                }
            )+
        }
    };
}
pub(super) use schedule_setters;
