//! The address of a list of jobs, which contains its filter.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Utc};

use crate::admin::guard::Problem;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::jobs::{Cursor, PageFilter, WINDOWS};
use crate::database::statements::cli::JobSelection;
use crate::database::statements::inspect::JobFilter;
use crate::job::STATUSES;
use crate::support::values::priority;

/// As much of a value as a problem shows again.
pub(crate) fn beginning(value: &str) -> String {
    const MOST_SHOWN: usize = 100;
    value.chars().take(MOST_SHOWN).collect()
}

/// The names of the fields of the filter.
const FILTERS: [&str; 17] = [
    "status",
    "queue",
    "task",
    "lock",
    "queueing_lock",
    "worker",
    "priority",
    "scheduled",
    "text",
    "id",
    "from",
    "to",
    "created_since",
    "created_before",
    "ended_since",
    "ended_before",
    "window",
];

/// The link of a problem with the filter.
const ALL_JOBS: (&str, &str) = ("jobs", "All jobs");

/// The label of a field of the filter.
pub(crate) fn label(name: &str) -> String {
    match name {
        "id" => "Job".to_owned(),
        "from" => "From job".to_owned(),
        "to" => "To job".to_owned(),
        "window" => "Jobs searched for a page".to_owned(),
        _ => {
            let words = name.replace('_', " ");
            let mut letters = words.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        }
    }
}

/// Refuses an address or a form with a NUL character, which PostgreSQL does not accept in a text.
pub(crate) fn refuse_nul(fields: &str) -> Result<(), Problem> {
    let Some((name, value)) = form_urlencoded::parse(fields.as_bytes()).find(|(_, value)| value.contains('\0')) else {
        return Ok(());
    };
    let shown = beginning(&value);
    let text = format!("Nothing was changed. The field {name:?} is {shown:?}, and must be without NUL characters.");
    Err(Problem::new(StatusCode::BAD_REQUEST, "The request cannot be used", text))
}

/// Refuses requests whose address has a NUL character.
pub(crate) async fn without_nul(request: Request, next: Next) -> Response {
    match refuse_nul(request.uri().query().unwrap_or_default()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Those with which all jobs that match can be changed together.
const SELECTORS: [&str; 6] = ["status", "queue", "task", "lock", "queueing_lock", "worker"];

/// The fields whose blanks count.
const NAMES: [&str; 5] = ["queue", "task", "lock", "queueing_lock", "after"];

/// The fields of the address that are set.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Address(Vec<(String, String)>);

impl Address {
    /// Reads the query of an address. A field that is empty does not count.
    pub(crate) fn read(query: &str) -> Self {
        let fields = form_urlencoded::parse(query.as_bytes());
        let fields = fields.map(|(name, value)| {
            let is_name = NAMES.contains(&&*name);
            (name.into_owned(), if is_name { value.into_owned() } else { value.trim().to_owned() })
        });
        Self(fields.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Reads a form with names, whose blanks count. A field that is empty does not count.
    pub(crate) fn exact(body: &str) -> Self {
        let fields = form_urlencoded::parse(body.as_bytes());
        let fields = fields.map(|(name, value)| (name.into_owned(), value.into_owned()));
        Self(fields.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The fields of a form.
    pub(crate) fn of(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Self(fields.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The value of a field, or an empty text.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// The fields of the filter that are set.
    pub(crate) fn fields(&self) -> Vec<(&'static str, &str)> {
        FILTERS.into_iter().map(|name| (name, self.get(name))).filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The query with the filter, in which one field is replaced or added.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (other, value) in self.fields().into_iter().filter(|(other, _)| *other != name) {
            query.append_pair(other, value);
        }
        if !value.is_empty() {
            query.append_pair(name, value);
        }
        query.finish()
    }

    /// The filter at this time. The times at which jobs were created are not in it, because the database must be asked
    /// for the IDs of such jobs.
    pub(crate) fn filter(&self, now: DateTime<Utc>) -> Result<PageFilter, Problem> {
        let mut filter = PageFilter::default();
        for (name, value) in self.fields() {
            let wrong = |rule: &str| {
                let text = format!("{} is {:?}, and must be {rule}.", label(name), beginning(value));
                let problem = Problem::new(StatusCode::BAD_REQUEST, "The filter cannot be used", text);
                problem.with_link(ALL_JOBS.0, ALL_JOBS.1)
            };
            // The query in a form has its own.
            if value.contains('\0') {
                return Err(wrong("without NUL characters"));
            }
            let text = Some(value.to_owned());
            match name {
                "status" => {
                    let status = STATUSES.into_iter().find(|status| status.as_str() == value);
                    filter.status = Some(status.ok_or_else(|| wrong("a status, such as failed"))?);
                }
                "queue" => filter.queue = text,
                "task" => filter.task = text,
                "lock" => filter.lock = text,
                "queueing_lock" => filter.queueing_lock = text,
                "worker" => filter.worker = Some(value.parse().map_err(|_| wrong("the ID of a worker"))?),
                "priority" => filter.priority = Some(priority(value).map_err(|rule| wrong(&rule))?),
                "scheduled" => match value {
                    "yes" => filter.is_scheduled = Some(true),
                    "no" => filter.is_scheduled = Some(false),
                    _ => return Err(wrong("yes or no")),
                },
                "text" => filter.text = text,
                "window" => {
                    let window = WINDOWS.into_iter().find(|window| window.to_string() == value);
                    filter.chosen_window = Some(window.ok_or_else(|| wrong("5000, 20000 or 100000"))?);
                }
                "id" | "from" | "to" => {
                    let id: i64 = value.trim_start_matches('#').parse().map_err(|_| wrong("the ID of a job"))?;
                    if name != "to" {
                        filter.first = filter.first.max(Some(id));
                    }
                    if name != "from" {
                        filter.last = Some(filter.last.map_or(id, |last| last.min(id)));
                    }
                }
                _ => {
                    let rule = "a length of time, such as 90min, 2h or 7d, or a time in UTC, such as 2030-01-31T12:00";
                    let time = time(value, now).ok_or_else(|| wrong(rule))?;
                    match name {
                        "ended_since" => filter.ended_since = Some(time),
                        "ended_before" => filter.ended_before = Some(time),
                        _ => {}
                    }
                }
            }
        }
        Ok(filter)
    }

    /// When the jobs were created: from this time on, and before that one.
    pub(crate) fn created(&self, now: DateTime<Utc>) -> [Option<DateTime<Utc>>; 2] {
        ["created_since", "created_before"].map(|name| time(self.get(name), now))
    }

    /// Whether all jobs that match can be changed together. An index must find them.
    pub(crate) fn is_selection(&self) -> bool {
        let is_selector = |(name, _): &(&str, &str)| SELECTORS.contains(name);
        !matches!(self.get("status"), "" | "succeeded") && self.fields().iter().all(is_selector)
    }

    /// All jobs that match.
    pub(crate) fn selection(&self) -> Result<JobSelection, Problem> {
        if !self.is_selection() {
            let text = "Nothing was changed. Select jobs, or filter by a status other than succeeded, and by \
                        nothing but queue, task, lock and worker.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "The request cannot be used", text));
        }
        let PageFilter { status, queue, task, lock, queueing_lock, worker, .. } = self.filter(Utc::now())?;
        let filter = JobFilter { id: None, queue, task, status, lock, queueing_lock, worker_id: worker };
        Ok(JobSelection { filter, are_stalled: false })
    }

    pub(crate) fn cursor(&self) -> Result<Cursor, Problem> {
        let id = |value: &str| {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "There is no such page", "A job's ID is a number.");
            let wrong = |_| problem.with_link(ALL_JOBS.0, ALL_JOBS.1);
            value.parse().map_err(wrong)
        };
        match (self.get("before"), self.get("after")) {
            ("", "") => Ok(Cursor::Newest),
            (before, "") => Ok(Cursor::Before(id(before)?)),
            (_, after) => Ok(Cursor::After(id(after)?)),
        }
    }
}

/// A time in an address: how long ago, or in UTC. Its year has at most four digits.
fn time(value: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    any_time(value, now).filter(|time| (1..=9999).contains(&time.year()))
}

fn any_time(value: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"];
    if let Some(time) = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(value, format).ok()) {
        return Some(time.and_utc());
    }
    let unit = value.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let seconds = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: i64 = value[..value.len() - unit.len()].parse().ok()?;
    now.checked_sub_signed(TimeDelta::try_seconds(number.checked_mul(seconds)?)?)
}

/// A count that stops at the ceiling.
pub(crate) fn count(jobs: i64) -> String {
    count_up_to(jobs, CEILING)
}

/// A count that stops at another ceiling.
pub(crate) fn count_up_to(jobs: i64, ceiling: i64) -> String {
    if jobs > ceiling { format!("{}+", grouped(ceiling)) } else { grouped(jobs) }
}

/// A count of failed, cancelled or aborted jobs. Without the indexes of this crate it is a minimum.
pub(crate) fn unsuccessful(jobs: i64, has_companions: bool) -> String {
    if has_companions { count(jobs) } else { format!("{}+", grouped(jobs)) }
}

/// A number with a space between its thousands.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_spaces_between_their_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(10_001), "10\u{202f}000+");
    }

    #[test]
    fn an_address_keeps_the_other_fields_of_the_filter() {
        let address = Address::read("status=failed&queue=a%26b&before=3&task=");
        assert_eq!(address.with("status", "todo"), "queue=a%26b&status=todo");
        assert_eq!(address.with("status", ""), "queue=a%26b");
        assert_eq!(address.with("before", "7"), "status=failed&queue=a%26b&before=7");
    }

    #[test]
    fn all_jobs_that_match_are_changed_only_if_an_index_finds_them() {
        for (query, expected) in [
            ("status=failed&queue=q", true),
            ("status=succeeded", false),
            ("queue=q", false),
            ("status=failed&text=x", false),
            ("status=todo&scheduled=yes", false),
            ("status=failed&created_before=7d", false),
            ("status=failed&ended_since=7d", false),
            ("status=failed&from=5", false),
        ] {
            assert_eq!(Address::read(query).selection().is_ok(), expected, "{query}");
        }
    }
    #[test]
    fn times_are_absolute_or_ago() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for (value, expected) in [
            ("90min", Some("2027-01-15T06:30:00Z")),
            ("2 h", Some("2027-01-15T06:00:00Z")),
            ("7d", Some("2027-01-08T08:00:00Z")),
            ("2027-01-01T12:30", Some("2027-01-01T12:30:00Z")),
            ("99999999999999999999d", None),
            ("9999999999d", None),
            ("h", None),
            ("2 weeks", None),
            ("٣h", None),
        ] {
            let expected = expected.map(|expected| expected.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(time(value, now), expected, "{value}");
        }
    }

    #[test]
    fn ids_narrow_each_other() {
        let bounds = |query: &str| {
            let filter = Address::read(query).filter(Utc::now()).unwrap();
            (filter.first, filter.last)
        };
        assert_eq!(bounds("id=%237"), (Some(7), Some(7)));
        assert_eq!(bounds("from=3&to=9"), (Some(3), Some(9)));
        assert_eq!(bounds("id=7&to=5"), (Some(7), Some(5)));
        assert!(Address::read("from=x").filter(Utc::now()).is_err());
    }
}
