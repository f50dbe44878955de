//! The list of jobs.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::shared::Shared;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::jobs::{Cursor, EndOfWindow, ListOfJobs, ListedJob, PageFilter};
use crate::database::statements::admin::overview::CountByStatus;
use crate::error::Error;
use crate::job::JobStatus;

/// How many jobs a page lists.
const PAGE_SIZE: i64 = 25;

/// The filter as it stands in the address. A field that is empty does not count.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Address {
    status: String,
    queue: String,
    task: String,
    lock: String,
    queueing_lock: String,
    worker: String,
    priority: String,
    scheduled: String,
    text: String,
    before: String,
    after: String,
}

/// A status with its number of jobs, as a link.
struct Tab {
    label: &'static str,
    query: String,
    count: Option<String>,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    layout: Layout,
    address: Address,
    tabs: Vec<Tab>,
    jobs: Vec<ListedJob>,
    /// The addresses of the next pages.
    newer: Option<String>,
    older: Option<String>,
    /// The last job that was passed by, if the search stopped before the end.
    searched_to: Option<i64>,
    is_filtered: bool,
    window: String,
}

impl Address {
    /// The fields that are set, without the page.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("status", &self.status),
            ("queue", &self.queue),
            ("task", &self.task),
            ("lock", &self.lock),
            ("queueing_lock", &self.queueing_lock),
            ("worker", &self.worker),
            ("priority", &self.priority),
            ("scheduled", &self.scheduled),
            ("text", &self.text),
        ];
        fields.into_iter().map(|(name, value)| (name, value.trim())).filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The query of an address with these fields, in which one is replaced.
    fn with(&self, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (other, value) in self.fields().into_iter().filter(|(other, _)| *other != name) {
            query.append_pair(other, value);
        }
        if !value.is_empty() {
            query.append_pair(name, value);
        }
        query.finish()
    }

    fn filter(&self) -> Result<PageFilter, Problem> {
        let mut filter = PageFilter::default();
        for (name, value) in self.fields() {
            let wrong = |rule: &str| {
                let text = format!("{name} is {value:?}, and must be {rule}.");
                Problem::new(StatusCode::BAD_REQUEST, "The filter cannot be used", text)
            };
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
                "priority" => filter.priority = Some(value.parse().map_err(|_| wrong("a whole number"))?),
                "scheduled" => match value {
                    "yes" => filter.is_scheduled = Some(true),
                    "no" => filter.is_scheduled = Some(false),
                    _ => return Err(wrong("yes or no")),
                },
                _ => filter.text = text,
            }
        }
        Ok(filter)
    }

    fn cursor(&self) -> Result<Cursor, Problem> {
        let id = |value: &str| {
            let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, "There is no such page", "A job's ID is a number.");
            value.trim().parse().map_err(wrong)
        };
        match (self.before.as_str(), self.after.as_str()) {
            ("", "") => Ok(Cursor::Newest),
            (before, "") => Ok(Cursor::Before(id(before)?)),
            (_, after) => Ok(Cursor::After(id(after)?)),
        }
    }
}

const STATUSES: [JobStatus; 6] = [
    JobStatus::Todo,
    JobStatus::Doing,
    JobStatus::Succeeded,
    JobStatus::Failed,
    JobStatus::Cancelled,
    JobStatus::Aborted,
];

/// `GET /jobs`
pub(crate) async fn jobs(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    Query(address): Query<Address>,
) -> PageResult {
    let (mut filter, cursor) = (address.filter()?, address.cursor()?);
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        filter.has_errors = layout.has_companions;
        let counts = started.reading.load_one(CountByStatus).await?;
        let list = ListOfJobs { filter: filter.clone(), cursor, limit: PAGE_SIZE + 1 };
        let jobs = started.reading.load(list).await?;
        let is_short = i64::try_from(jobs.len()).is_ok_and(|jobs| jobs <= PAGE_SIZE);
        let end = if is_short && filter.is_selective() {
            started.reading.load_one(EndOfWindow { filter: filter.clone(), cursor }).await?
        } else {
            None
        };
        started.reading.end().await?;
        Ok::<_, Error>((counts, jobs, end))
    };
    let (counts, jobs, end) = found.await.map_err(|error| shared.problem(began, &error))?;
    let found = Found { counts, jobs, end, window: filter.window() };
    Ok(html(&page(layout, address, cursor, found)))
}

type Counts = (i64, i64, i64, i64, i64, i64);

/// What the database said.
struct Found {
    counts: Counts,
    jobs: Vec<ListedJob>,
    /// Where the search stopped before the end.
    end: Option<i64>,
    window: i64,
}

fn page(layout: Layout, address: Address, cursor: Cursor, found: Found) -> JobsPage {
    let Found { counts, mut jobs, end, window } = found;
    let has_more = i64::try_from(jobs.len()).is_ok_and(|jobs| jobs > PAGE_SIZE);
    jobs.truncate(usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX));
    let is_upwards = matches!(cursor, Cursor::After(_));
    if is_upwards {
        jobs.reverse();
    }
    let newest = jobs.first().map(|job| job.id);
    let oldest = jobs.last().map(|job| job.id);
    // Where the page goes on: behind its last job, or where the search stopped.
    let (up, down) = match cursor {
        Cursor::After(id) => (if has_more { newest } else { end }, oldest.or(Some(id + 1))),
        Cursor::Before(id) => (newest.or(Some(id - 1)), if has_more { oldest } else { end }),
        Cursor::Newest => (None, if has_more { oldest } else { end }),
    };
    JobsPage {
        tabs: tabs(&address, counts),
        newer: up.map(|id| address.with("after", &id.to_string())),
        older: down.map(|id| address.with("before", &id.to_string())),
        searched_to: end.filter(|_| !has_more),
        is_filtered: !address.fields().is_empty(),
        window: grouped(window),
        layout,
        address,
        jobs,
    }
}

fn tabs(address: &Address, (todo, doing, failed, cancelled, aborted, all): Counts) -> Vec<Tab> {
    // What is left of the estimate.
    let succeeded = all - todo - doing - failed - cancelled - aborted;
    let tabs = [
        ("All", "", None),
        ("Pending", "todo", Some(count(todo))),
        ("Running", "doing", Some(count(doing))),
        ("Failed", "failed", Some(count(failed))),
        ("Succeeded", "succeeded", (succeeded > 0).then(|| format!("≈ {}", grouped(succeeded)))),
        ("Cancelled", "cancelled", Some(count(cancelled))),
        ("Aborted", "aborted", Some(count(aborted))),
    ];
    let tab = |(label, status, count)| Tab {
        label,
        query: address.with("status", status),
        count,
        is_current: address.status == status,
    };
    tabs.into_iter().map(tab).collect()
}

/// A count that stops at the ceiling.
pub(crate) fn count(jobs: i64) -> String {
    if jobs > CEILING { format!("{}+", grouped(CEILING)) } else { grouped(jobs) }
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
        let address = Address { queue: "a&b".to_owned(), status: "failed".to_owned(), ..Address::default() };
        assert_eq!(address.with("status", "todo"), "queue=a%26b&status=todo");
        assert_eq!(address.with("status", ""), "queue=a%26b");
        assert_eq!(address.with("before", "7"), "status=failed&queue=a%26b&before=7");
    }
}
