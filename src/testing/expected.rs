//! Comparing jobs with an expected one.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::database::models::ProcrastinateJob;
use crate::job::Arguments;
use crate::queue::defer::JobToDefer;
use crate::support::clock;

/// How many jobs a message lists.
const MOST_LISTED: usize = 20;

/// How far the time of a job may differ from the expected one, because `schedule_in` counts from the call.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// The reason why an expected job was not found. Its message shows the expected job and the pending ones.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotDeferred {
    message: String,
    /// Whether the query failed.
    has_failed: bool,
}

impl NotDeferred {
    pub(super) fn query_failed(error: &diesel::result::Error) -> Self {
        Self { message: format!("could not load the deferred jobs: {error}"), has_failed: true }
    }

    /// Panics if the query failed.
    #[doc(hidden)]
    #[track_caller]
    #[allow(clippy::panic, reason = "it is an assertion")]
    pub fn expect_answer(self) {
        if self.has_failed {
            panic!("{self}");
        }
    }
}

/// Returns the first of these jobs that is like the expected one.
///
/// # Errors
///
/// [`NotDeferred`] if there is no such job.
///
/// # Example
///
/// ```
/// use procrastinate::{configure_task, testing};
///
/// let not_deferred = testing::find_in(&[], &configure_task("bill", serde_json::json!({ "order": 7 }))).unwrap_err();
/// assert_eq!(not_deferred.to_string(), "no such job is pending: bill(order=7)\nno jobs are pending");
/// ```
pub fn find_in<'j>(jobs: &'j [ProcrastinateJob], expected: &JobToDefer) -> Result<&'j ProcrastinateJob, NotDeferred> {
    let mut others = Vec::new();
    for job in jobs {
        let differences = differences(job, expected);
        if differences.is_empty() {
            return Ok(job);
        }
        others.push((job, differences));
    }
    // The most similar jobs first: jobs of the same task, and those with the fewest differences.
    others.sort_by_key(|(job, differences)| (job.task_name != expected.task_name(), differences.len()));
    Err(NotDeferred { message: describe(expected, &others), has_failed: false })
}

fn describe(expected: &JobToDefer, others: &[(&ProcrastinateJob, Vec<String>)]) -> String {
    let mut message = format!("no such job is pending: {}", Expected(expected));
    if others.is_empty() {
        message.push_str("\nno jobs are pending");
        return message;
    }
    message.push_str("\npending jobs:");
    for (job, differences) in others.iter().take(MOST_LISTED) {
        let differences = differences.join(", ");
        message.push_str(&format!("\n  {job} in the queue {:?}: {differences}", job.queue_name));
    }
    if others.len() > MOST_LISTED {
        message.push_str(&format!("\n  and {} more", others.len() - MOST_LISTED));
    }
    message
}

/// Describes the differences between a job and the expected one.
fn differences(job: &ProcrastinateJob, expected: &JobToDefer) -> Vec<String> {
    if job.task_name != expected.task_name() {
        return vec!["different task".to_owned()];
    }
    let mut differences = differences_of_args(&job.args, expected.args());
    let options = expected.options();
    let mut compare = |what: &str, is: Option<&str>, wanted: Option<&str>| {
        if let Some(wanted) = wanted.filter(|wanted| is != Some(wanted)) {
            let is = is.map_or_else(|| "none".to_owned(), |is| format!("{is:?}"));
            differences.push(format!("its {what} is {is}, not {wanted:?}"));
        }
    };
    compare("queue", Some(&job.queue_name), options.queue.as_deref());
    compare("lock", job.lock.as_deref(), options.lock.as_deref());
    compare("queueing lock", job.queueing_lock.as_deref(), options.queueing_lock.as_deref());
    if let Some(priority) = options.priority.filter(|priority| *priority != job.priority) {
        differences.push(format!("its priority is {}, not {priority}", job.priority));
    }
    differences.extend(difference_of_schedule(job.scheduled_at, expected));
    differences
}

fn differences_of_args(is: &Value, wanted: Option<&Value>) -> Vec<String> {
    let (Value::Object(is), Some(Value::Object(wanted))) = (is, wanted) else {
        return vec!["the expected arguments are not a JSON object".to_owned()];
    };
    let mut differences: Vec<String> = wanted
        .iter()
        .filter(|(name, value)| !is.get(*name).is_some_and(|is| are_equal(is, value)))
        .map(|(name, value)| match is.get(name) {
            Some(other) => format!("its argument {name} is {other}, not {value}"),
            None => format!("it has no argument {name}"),
        })
        .collect();
    let unexpected = is.iter().filter(|(name, _)| !wanted.contains_key(*name));
    differences.extend(unexpected.map(|(name, value)| format!("it has an argument {name}, {value}")));
    differences
}

/// Whether two values are equal after one of them was stored. The database has one type of numbers, and returns a large
/// whole float as an integer.
fn are_equal(is: &Value, wanted: &Value) -> bool {
    match (is, wanted) {
        (Value::Number(is), Value::Number(wanted)) if is.is_f64() != wanted.is_f64() => {
            let (float, integer) = if is.is_f64() { (is, wanted) } else { (wanted, is) };
            let is_whole = float.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e20);
            // Exact, because the float is whole and within the range.
            #[allow(clippy::cast_possible_truncation, reason = "checked")]
            let float = is_whole.map(|float| float as i128);
            let integer = integer.as_i64().map(i128::from).or_else(|| integer.as_u64().map(i128::from));
            float.is_some() && float == integer
        }
        (Value::Array(is), Value::Array(wanted)) => {
            is.len() == wanted.len() && is.iter().zip(wanted).all(|(is, wanted)| are_equal(is, wanted))
        }
        (Value::Object(is), Value::Object(wanted)) => {
            is.len() == wanted.len()
                && wanted.iter().all(|(name, wanted)| is.get(name).is_some_and(|is| are_equal(is, wanted)))
        }
        (is, wanted) => is == wanted,
    }
}

fn difference_of_schedule(is: Option<DateTime<Utc>>, expected: &JobToDefer) -> Option<String> {
    let options = expected.options();
    let (wanted, tolerance) = match (options.schedule_at, options.schedule_in) {
        // The database stores microseconds.
        (Some(at), _) => (at, TimeDelta::microseconds(1)),
        (None, Some(delay)) => (clock::now().checked_add_signed(TimeDelta::from_std(delay).ok()?)?, TOLERANCE),
        (None, None) => return None,
    };
    match is {
        Some(is) if (is - wanted).abs() <= tolerance => None,
        Some(is) => Some(format!("it is scheduled for {is}, not {wanted}")),
        None => Some(format!("it is not scheduled, and should be for {wanted}")),
    }
}

/// Formats an expected job like Procrastinate, with its options.
struct Expected<'e>(&'e JobToDefer);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.task_name(), Arguments(self.0.args().unwrap_or(&Value::Null)))?;
        let options = self.0.options();
        let texts = [("queue", &options.queue), ("lock", &options.lock), ("queueing lock", &options.queueing_lock)];
        for (what, value) in texts {
            if let Some(value) = value {
                write!(f, ", {what} {value:?}")?;
            }
        }
        if let Some(priority) = options.priority {
            write!(f, ", priority {priority}")?;
        }
        if let Some(at) = options.schedule_at {
            write!(f, ", scheduled for {at}")?;
        }
        if let Some(delay) = options.schedule_in {
            write!(f, ", scheduled in {delay:?}")?;
        }
        Ok(())
    }
}
