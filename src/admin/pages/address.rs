//! The address of a list of jobs, which contains its filter.

use axum::http::StatusCode;

use crate::admin::guard::Problem;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::jobs::{Cursor, PageFilter};
use crate::database::statements::cli::JobSelection;
use crate::database::statements::inspect::JobFilter;
use crate::job::STATUSES;

/// The names of the fields of the filter.
const FILTERS: [&str; 9] =
    ["status", "queue", "task", "lock", "queueing_lock", "worker", "priority", "scheduled", "text"];

/// The fields of the address that are set.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Address(Vec<(String, String)>);

impl Address {
    /// Reads the query of an address. A field that is empty does not count.
    pub(crate) fn read(query: &str) -> Self {
        let fields = form_urlencoded::parse(query.as_bytes());
        let fields = fields.map(|(name, value)| (name.into_owned(), value.trim().to_owned()));
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

    pub(crate) fn filter(&self) -> Result<PageFilter, Problem> {
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

    /// Whether all jobs that match can be changed together. An index must find them.
    pub(crate) fn is_selection(&self) -> bool {
        let others = ["priority", "scheduled", "text"];
        !matches!(self.get("status"), "" | "succeeded") && others.iter().all(|name| self.get(name).is_empty())
    }

    /// All jobs that match.
    pub(crate) fn selection(&self) -> Result<JobSelection, Problem> {
        if !self.is_selection() {
            let text = "Nothing was changed. Select jobs, or filter by a status other than succeeded, and by no text, \
                        priority or schedule.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "The request cannot be used", text));
        }
        let PageFilter { status, queue, task, lock, queueing_lock, worker, .. } = self.filter()?;
        let filter = JobFilter { id: None, queue, task, status, lock, queueing_lock, worker_id: worker };
        Ok(JobSelection { filter, are_stalled: false })
    }

    pub(crate) fn cursor(&self) -> Result<Cursor, Problem> {
        let id = |value: &str| {
            let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, "There is no such page", "A job's ID is a number.");
            value.parse().map_err(wrong)
        };
        match (self.get("before"), self.get("after")) {
            ("", "") => Ok(Cursor::Newest),
            (before, "") => Ok(Cursor::Before(id(before)?)),
            (_, after) => Ok(Cursor::After(id(after)?)),
        }
    }
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
        ] {
            assert_eq!(Address::read(query).selection().is_ok(), expected, "{query}");
        }
    }
}
