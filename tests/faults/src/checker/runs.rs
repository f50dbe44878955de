//! The runs of tasks, put together from the lines of the ledgers.

use std::collections::HashMap;

use crate::ledger::{Ending, Line};

/// One run of a task.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    pub(crate) job: i64,
    pub(crate) attempts: i32,
    pub(crate) lock: Option<&'a str>,
    pub(crate) token: &'a str,
    pub(crate) pid: u32,
    pub(crate) begin: i64,
    /// When the task ended, or its process.
    pub(crate) end: i64,
    /// `None` if the process ended before the task.
    pub(crate) ending: Option<Ending>,
}

/// Returns all runs, in the order of their beginnings.
pub(crate) fn of(lines: &[Line]) -> Vec<Run<'_>> {
    let (mut ends, mut gone) = (HashMap::new(), HashMap::<u32, Vec<i64>>::new());
    for line in lines {
        match line {
            Line::End { run, ending, at, .. } => drop(ends.insert(*run, (*at, *ending))),
            Line::Gone { pid, at } => gone.entry(*pid).or_default().push(*at),
            _ => {}
        }
    }
    let mut runs: Vec<Run<'_>> = Vec::new();
    for line in lines {
        if let Line::Begin { run, job, attempts, lock, token, at, pid } = line {
            let (end, ending) = match ends.get(run) {
                Some((end, ending)) => (*end, Some(*ending)),
                None => (end_of_process(gone.get(pid), *at), None),
            };
            let (job, attempts, lock) = (*job, *attempts, lock.as_deref());
            runs.push(Run { job, attempts, lock, token, pid: *pid, begin: *at, end, ending });
        }
    }
    runs.sort_by_key(|run| run.begin);
    runs
}

/// Returns when the process ended that ran at this time. In a long run, another one can get its ID later.
fn end_of_process(ends: Option<&Vec<i64>>, at: i64) -> i64 {
    ends.into_iter().flatten().copied().filter(|end| *end >= at).min().unwrap_or(i64::MAX)
}
