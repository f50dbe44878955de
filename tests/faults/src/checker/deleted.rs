//! Jobs that do not exist any more, of which only the ledgers know.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::runs::Run;
use super::{Evidence, Job};
use crate::ledger::{Ending, Line};

/// The jobs that ran and do not exist.
pub(super) struct Deleted<'a> {
    evidence: &'a Evidence,
    /// The runs of each, in the order of their beginnings.
    runs: BTreeMap<i64, Vec<&'a Run<'a>>>,
    /// The processes that delete jobs when they succeed.
    deleting: HashSet<u32>,
}

impl<'a> Deleted<'a> {
    pub(super) fn of(evidence: &'a Evidence, runs: &'a [Run<'a>], jobs: &HashMap<i64, &Job>) -> Self {
        let mut missing: BTreeMap<i64, Vec<&Run<'_>>> = BTreeMap::new();
        for run in runs.iter().filter(|run| !jobs.contains_key(&run.job)) {
            missing.entry(run.job).or_default().push(run);
        }
        let deleting = evidence.lines.iter().filter_map(|line| match line {
            Line::DeletesSuccessful { pid } => Some(*pid),
            _ => None,
        });
        Self { evidence, runs: missing, deleting: deleting.collect() }
    }

    pub(super) fn is_missing(&self, job: i64) -> bool {
        self.runs.contains_key(&job)
    }

    /// Says why no worker can have deleted this job, which was deferred with this token.
    pub(super) fn problem(&self, job: i64, token: &str) -> Option<&'static str> {
        let Some(last) = self.runs.get(&job).and_then(|runs| runs.last()) else {
            return Some("it never ran");
        };
        if last.token != token {
            return Some("it ran with another token");
        }
        if last.ending != Some(Ending::Succeeded) {
            return Some("its last run is not complete");
        }
        let is_old = self.evidence.deleted_at_age.is_some_and(|age| last.end + age <= self.evidence.collected_at);
        (!is_old && !self.deleting.contains(&last.pid)).then_some("no worker may delete it yet")
    }

    /// Returns the ticks of periodic jobs, which are in their tokens.
    pub(super) fn ticks(&self) -> impl Iterator<Item = ((String, i64), i64)> {
        self.runs.iter().filter_map(|(job, runs)| {
            let (schedule, timestamp) = runs.first()?.token.rsplit_once(' ')?;
            Some(((schedule.to_owned(), timestamp.parse().ok()?), *job))
        })
    }
}
