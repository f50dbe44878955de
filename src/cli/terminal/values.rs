//! Parsers for values on the command line and in the environment.

#[cfg(feature = "probe")]
use std::net::SocketAddr;
use std::time::Duration;

use crate::job::{JobId, JobStatus};
use crate::queue::defer::if_enqueued::IfEnqueued;
pub(crate) use crate::support::values::{arguments, duration, limit, priority, time};
use crate::worker::DeleteJobs;

/// Parses names separated by commas, with optional spaces. An empty text means all queues.
pub(crate) fn queues(text: &str) -> Result<Vec<String>, String> {
    Ok(text.split(',').map(str::trim).filter(|queue| !queue.is_empty()).map(str::to_owned).collect())
}

/// Accepts any text.
pub(crate) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
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

#[cfg(test)]
mod tests {
    use super::{
        Duration, arguments, concurrency, duration, job_id, limit, number, priority, queue_concurrency, queues,
        retention, status, time,
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
