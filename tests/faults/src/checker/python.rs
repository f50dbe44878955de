//! Jobs for which Python's worker is an excuse.
//!
//! Its functions do not name the attempt, and it does not abort its jobs when it cannot send heartbeats. So a job that
//! it ran and that was requeued meanwhile, or aborted, can still run there and get its outcome from there.

use std::collections::HashSet;

use super::Evidence;
use super::runs::Run;
use crate::ledger::Line;

/// Returns the jobs that Python ran and that were requeued or aborted. No task of Python retries.
pub(super) fn excused(evidence: &Evidence, runs: &[Run<'_>]) -> HashSet<i64> {
    let processes: HashSet<u32> = evidence
        .lines
        .iter()
        .filter_map(|line| if let Line::Python { pid } = line { Some(*pid) } else { None })
        .collect();
    let of_python: HashSet<i64> = runs.iter().filter(|run| processes.contains(&run.pid)).map(|run| run.job).collect();
    let requeued = evidence.events.iter().filter(|event| matches!(&*event.kind, "deferred_for_retry" | "aborted"));
    requeued.map(|event| event.job).filter(|job| of_python.contains(job)).collect()
}
