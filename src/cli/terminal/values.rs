//! Parsers for values on the command line and in the environment.

#[cfg(feature = "probe")]
use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;

use crate::job::{JobId, JobStatus};
use crate::queue::defer::if_enqueued::IfEnqueued;
use crate::worker::DeleteJobs;

/// Parses seconds, like Procrastinate, or a number with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const RULE: &str = "must be a number of seconds, such as 2.5, or have a unit: 500ms, 30s, 5m, 2h, 7d";
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(RULE.to_owned()),
    };
    let number: f64 = number.trim().parse().map_err(|_| RULE.to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| RULE.to_owned())
}

/// Parses a time in ISO 8601. Like in Procrastinate, a time without an offset is in UTC.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    const WITH_OFFSET: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"];
    const WITHOUT: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    let written = text.trim().replacen(' ', "T", 1);
    let written = written.strip_suffix(['Z', 'z']).map_or(written.clone(), |start| format!("{start}+00:00"));
    let exact = WITH_OFFSET.iter().find_map(|format| DateTime::parse_from_str(&written, format).ok());
    if let Some(time) = exact {
        return Ok(time.to_utc());
    }
    let naive = WITHOUT.iter().find_map(|format| NaiveDateTime::parse_from_str(&written, format).ok());
    let midnight = || NaiveDate::parse_from_str(&written, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    naive.or_else(midnight).map(|time| time.and_utc()).ok_or_else(|| {
        "must be a time in ISO 8601, such as 2030-01-31T08:00:00+01:00, or in UTC without an offset".to_owned()
    })
}

/// Parses names separated by commas, with optional spaces. An empty text means all queues.
pub(crate) fn queues(text: &str) -> Result<Vec<String>, String> {
    Ok(text.split(',').map(str::trim).filter(|queue| !queue.is_empty()).map(str::to_owned).collect())
}

/// Accepts any text.
pub(crate) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(crate) fn priority(text: &str) -> Result<i32, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number from {} to {}", i32::MIN, i32::MAX))
}

pub(crate) fn concurrency(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("must be a whole number of at least 1".to_owned()),
    }
}

/// Parses a queue and its concurrency. The name may contain a `=`.
pub(crate) fn queue_concurrency(text: &str) -> Result<(String, usize), String> {
    const RULE: &str = "must be a queue and a whole number of at least 1, such as mails=5";
    let (queue, number) = text.rsplit_once('=').ok_or(RULE)?;
    let number = concurrency(number).map_err(|_| RULE)?;
    if queue.is_empty() { Err(RULE.to_owned()) } else { Ok((queue.to_owned(), number)) }
}

pub(crate) fn number(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "must be a whole number of at least 0".to_owned())
}

/// Parses a maximum number.
pub(crate) fn limit(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number from 0 to {}", u32::MAX))
}

pub(crate) fn delete_jobs(text: &str) -> Result<DeleteJobs, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "never" => Ok(DeleteJobs::Never),
        "successful" => Ok(DeleteJobs::Successful),
        "always" => Ok(DeleteJobs::Always),
        _ => Err("must be never, successful or always".to_owned()),
    }
}

pub(crate) fn if_enqueued(text: &str) -> Result<IfEnqueued, String> {
    let label = text.trim().to_ascii_lowercase().replace('-', "_");
    IfEnqueued::from_label(&label).ok_or_else(|| "must be fail, keep, replace or replace_except_schedule".to_owned())
}

/// Parses a job ID, with or without a `#`.
pub(crate) fn job_id(text: &str) -> Result<JobId, String> {
    let number: i64 = text.trim_start_matches('#').parse().map_err(|_| "must be a job ID, such as 7".to_owned())?;
    Ok(number.into())
}

/// Parses a known status, because a misspelt one would silently find nothing.
pub(crate) fn status(text: &str) -> Result<JobStatus, String> {
    match JobStatus::from(text.trim()) {
        JobStatus::Unknown(_) => {
            Err("must be todo, doing, succeeded, failed, cancelled, aborting or aborted".to_owned())
        }
        status => Ok(status),
    }
}

/// Parses a final status and an age.
pub(crate) fn retention(text: &str) -> Result<(JobStatus, Duration), String> {
    const RULE: &str = "must be a final status and an age, such as succeeded=7d";
    let (label, age) = text.split_once('=').ok_or(RULE)?;
    Ok((status(label)?, duration(age)?))
}

/// Parses the address to listen on.
#[cfg(feature = "probe")]
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

/// Parses a JSON object.
pub(crate) fn arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be a JSON object, such as '{\"a\": 3}'".to_owned()),
        Err(error) => Err(format!("must be a JSON object, such as '{{\"a\": 3}}': {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        DateTime, Duration, Utc, arguments, concurrency, duration, job_id, limit, number, priority, queue_concurrency,
        queues, retention, status, time,
    };
    use crate::job::JobStatus;

    #[test]
    fn a_queue_has_a_concurrency_of_at_least_one() {
        assert_eq!(queue_concurrency("mails=5"), Ok(("mails".to_owned(), 5)));
        assert_eq!(queue_concurrency("a=b=2"), Ok(("a=b".to_owned(), 2)));
        for text in ["mails", "mails=", "mails=0", "=5", "mails=many", ""] {
            let rule = "must be a queue and a whole number of at least 1, such as mails=5";
            assert_eq!(queue_concurrency(text), Err(rule.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, seconds) in
            [("2.5", 2.5), ("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("2 h", 7_200.0), ("7d", 604_800.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "-1", "5 weeks", "nan", "inf", "1e400", "h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_in_utc() {
        let expected: DateTime<Utc> = "2030-01-31T07:00:00Z".parse().unwrap();
        for text in [
            "2030-01-31T07:00:00Z",
            "2030-01-31T08:00:00+01:00",
            "2030-01-31T08:00+0100",
            "2030-01-31 07:00:00",
            "2030-01-31T07:00",
            "2030-01-31T07:00:00.000",
        ] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        assert_eq!(time("2030-01-31"), Ok("2030-01-31T00:00:00Z".parse().unwrap()));
        assert!(time("tomorrow").is_err());
    }

    #[test]
    fn queues_are_separated_by_commas() {
        assert_eq!(queues(" a, b ,,c"), Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
        assert_eq!(queues(""), Ok(vec![]));
    }

    #[test]
    fn a_misspelt_status_is_rejected() {
        assert_eq!(status("failed"), Ok(JobStatus::Failed));
        assert!(status("fialed").is_err());
        assert_eq!(retention("failed=2d"), Ok((JobStatus::Failed, Duration::from_secs(172_800))));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value_or_refused(
            text in "[-+.eEna0-9:TZ #=,wdhms\u{0}-\u{20}\u{661}]{0,40}", other in proptest::prelude::any::<String>(),
        ) {
            for text in [&text, &other] {
                let _ = (duration(text), time(text), queues(text), status(text), retention(text));
                let _ = (priority(text), concurrency(text), number(text), limit(text), job_id(text), arguments(text));
            }
        }
    }
}
