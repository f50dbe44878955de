//! Promises 4 and 5: runs of one lock or of one job do not overlap.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::runs::Run;
use super::{Evidence, Violation};
use crate::ledger::Line;

/// How long after a stop the task of a stalled worker may still run until it is aborted, in nanoseconds.
const GRACE: i64 = 2_000_000_000;

/// A process that was stopped.
struct Stop {
    pid: u32,
    from: i64,
    to: i64,
}

pub(super) fn check(evidence: &Evidence, runs: &[Run<'_>], excused: &HashSet<i64>, violations: &mut Vec<Violation>) {
    let stops: Vec<Stop> = evidence
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Stopped { pid, from, to } => Some(Stop { pid: *pid, from: *from, to: *to }),
            _ => None,
        })
        .filter(|stop| stop.to - stop.from > evidence.timeout)
        .collect();
    let mut check = |promise, pairs: Vec<(&Run<'_>, &Run<'_>)>| {
        for (earlier, later) in pairs {
            if !excused.contains(&earlier.job) && !stops.iter().any(|stop| is_excuse(stop, earlier, later)) {
                violations.push(Violation { promise, job: Some(later.job), text: describe(earlier, later) });
            }
        }
    };
    let with_lock = runs.iter().filter_map(|run| Some((run.lock?, run)));
    check(4, overlapping(with_lock).into_iter().filter(|(earlier, later)| earlier.job != later.job).collect());
    check(5, overlapping(runs.iter().map(|run| (run.job, run))));
}

/// Returns the pairs of runs with the same key that overlap. The runs are in the order of their beginnings.
fn overlapping<'r, 'a, K: Eq + Hash>(runs: impl Iterator<Item = (K, &'r Run<'a>)>) -> Vec<(&'r Run<'a>, &'r Run<'a>)> {
    let mut active: HashMap<K, Vec<&Run<'a>>> = HashMap::new();
    let mut pairs = Vec::new();
    for (key, run) in runs {
        let active = active.entry(key).or_default();
        active.retain(|earlier| earlier.end > run.begin);
        pairs.extend(active.iter().map(|earlier| (*earlier, run)));
        active.push(run);
    }
    pairs
}

/// Whether the earlier run was in a process that was stopped when another worker could start the later one. The last
/// heartbeat can be nearly as old as the timeout when the process is stopped, because of other faults.
fn is_excuse(stop: &Stop, earlier: &Run<'_>, later: &Run<'_>) -> bool {
    stop.pid == earlier.pid && earlier.begin <= stop.from && later.begin >= stop.from && earlier.end <= stop.to + GRACE
}

fn describe(earlier: &Run<'_>, later: &Run<'_>) -> String {
    let milliseconds = |nanoseconds: i64| nanoseconds / 1_000_000;
    format!(
        "job {} (attempts {}, lock {:?}, process {}) began {} ms after job {} (attempts {}, process {}) \
         and {} ms before that one ended ({:?})",
        later.job,
        later.attempts,
        later.lock,
        later.pid,
        milliseconds(later.begin - earlier.begin),
        earlier.job,
        earlier.attempts,
        earlier.pid,
        milliseconds(earlier.end - later.begin),
        earlier.ending,
    )
}
