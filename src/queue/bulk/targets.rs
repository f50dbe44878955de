//! Which jobs are changed.

use crate::database::statements::cli::JobSelection;
use crate::database::statements::inspect::JobFilter;
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::validation::check_filter;

/// How many jobs an action names in its record. It counts more than these.
const MOST_NAMED: usize = 10;

/// The jobs to change.
#[derive(Debug, Clone)]
pub(crate) enum Targets {
    /// These jobs.
    Ids(Vec<JobId>),
    /// Those of these jobs that still have this status, with which the actor has seen them.
    IdsWithStatus(Vec<JobId>, JobStatus),
    /// The jobs that match when their turn comes. Jobs that are deferred after the beginning do not count.
    Matching(JobSelection),
}

impl Targets {
    pub(super) fn check(&self) -> Result<(), Error> {
        let Self::Matching(JobSelection { filter, .. }) = self else { return Ok(()) };
        check_filter("queue name", filter.queue.as_deref())?;
        check_filter("task name", filter.task.as_deref())?;
        check_filter("lock", filter.lock.as_deref())?;
        check_filter("queueing lock", filter.queueing_lock.as_deref())
    }

    /// The jobs in words, for the record.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Ids(ids) | Self::IdsWithStatus(ids, _) => match ids.as_slice() {
                [id] => format!("job {id}"),
                ids if (1..=MOST_NAMED).contains(&ids.len()) => {
                    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                    format!("jobs {}", ids.join(", "))
                }
                ids => format!("{} jobs", ids.len()),
            },
            Self::Matching(selection) => describe_selection(selection),
        }
    }
}

fn describe_selection(JobSelection { filter, are_stalled }: &JobSelection) -> String {
    let JobFilter { id, queue, task, status, lock, queueing_lock, worker_id } = filter;
    let conditions = [
        ("id", id.map(|id| id.to_string())),
        ("queue", queue.clone()),
        ("task", task.clone()),
        ("status", status.as_ref().map(|status| status.as_str().to_owned())),
        ("lock", lock.clone()),
        ("queueing_lock", queueing_lock.clone()),
        ("worker", worker_id.map(|id| id.to_string())),
    ];
    let conditions = conditions.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let conditions = conditions.collect::<Vec<_>>().join(" ");
    match (are_stalled, conditions.is_empty()) {
        (false, true) => "all jobs".to_owned(),
        (false, false) => format!("jobs with {conditions}"),
        (true, true) => "stalled jobs".to_owned(),
        (true, false) => format!("stalled jobs with {conditions}"),
    }
}
