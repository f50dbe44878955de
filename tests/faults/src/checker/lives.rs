//! Promises 3 and 7: the events of a job tell a possible story, its row ends it, and its runs belong to it.

use std::collections::{HashMap, HashSet};

use super::runs::Run;
use super::{Evidence, Job, Violation};
use crate::ledger::Ending;

pub(super) fn check(evidence: &Evidence, runs: &[Run<'_>], excused: &HashSet<i64>, violations: &mut Vec<Violation>) {
    let mut kinds: HashMap<i64, Vec<&str>> = HashMap::new();
    for event in &evidence.events {
        kinds.entry(event.job).or_default().push(&event.kind);
    }
    let mut runs_of: HashMap<i64, Vec<&Run<'_>>> = HashMap::new();
    for run in runs {
        runs_of.entry(run.job).or_default().push(run);
    }
    for job in &evidence.jobs {
        let kinds = kinds.get(&job.id).map(Vec::as_slice).unwrap_or_default();
        let runs = runs_of.get(&job.id).map(Vec::as_slice).unwrap_or_default();
        if let Some((promise, text)) = problem(job, kinds, runs)
            && !(promise == 3 && excused.contains(&job.id))
        {
            let text = format!("job {}: {text}; its events are {kinds:?}", job.id);
            violations.push(Violation { promise, job: Some(job.id), text });
        }
    }
}

/// Returns which promise the job breaks, and how.
fn problem(job: &Job, kinds: &[&str], runs: &[&Run<'_>]) -> Option<(u8, String)> {
    let mut status = "";
    for kind in kinds {
        status = match (status, *kind) {
            (_, "scheduled" | "abort_requested") => continue,
            ("", "deferred") | ("doing", "deferred_for_retry") | ("failed", "retried") => "todo",
            ("todo", "started") => "doing",
            ("todo", "cancelled") => "cancelled",
            ("doing", "succeeded" | "failed" | "aborted") => kind,
            ("succeeded" | "failed" | "aborted" | "cancelled", "started") => {
                return Some((7, format!("started after it had {status}")));
            }
            (before, kind) => return Some((3, format!("`{kind}` is not possible after `{before}`"))),
        };
    }
    if status != job.status {
        return Some((3, format!("its status is {} and not {status}", job.status)));
    }
    let count = |wanted: &str| kinds.iter().filter(|kind| **kind == wanted).count();
    let started = count("started");
    if runs.len() > started {
        return Some((7, format!("it ran {} times and was started {started} times", runs.len())));
    }
    let most =
        ["succeeded", "failed", "aborted", "deferred_for_retry", "retried"].into_iter().map(count).sum::<usize>();
    // A snoozed attempt, one that never began, and one that failed because it should be aborted and requeued.
    let snoozed = runs.iter().filter(|run| run.ending == Some(Ending::Snoozed)).count();
    let aborted = if count("abort_requested") > 0 { count("failed") } else { 0 };
    let uncounted = snoozed + (started - runs.len()) + aborted;
    let attempts = usize::try_from(job.attempts).unwrap_or_default();
    if attempts > most || attempts + uncounted < most {
        return Some((
            3,
            format!("it has {attempts} attempts, between {} and {most} are possible", most.saturating_sub(uncounted)),
        ));
    }
    None
}
