//! What the rig prints.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::checker::{Evidence, Violation};
use crate::ledger::Line;
use crate::run::RunArguments;
use crate::schedule::Counts;

/// How many violations are printed in full.
const MOST_VIOLATIONS: usize = 20;

/// Prints a line.
#[allow(clippy::print_stdout, reason = "the rig is a program that shows what it does")]
pub(crate) fn say(line: impl AsRef<str>) {
    println!("{}", line.as_ref());
}

/// Prints what happened. Returns whether all promises were kept.
pub(crate) fn report(
    evidence: &Evidence,
    violations: &[Violation],
    deaths: &[String],
    counts: &Counts,
    arguments: &RunArguments,
    directory: &Path,
) -> bool {
    let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &evidence.jobs {
        *statuses.entry(&job.status).or_default() += 1;
    }
    let statuses: Vec<String> = statuses.iter().map(|(status, count)| format!("{status} {count}")).collect();
    let count = |matches: fn(&Line) -> bool| evidence.lines.iter().filter(|line| matches(line)).count();
    say(format!("faults: {counts}"));
    say(format!("jobs: {} ({}), and {} were deleted", evidence.jobs.len(), statuses.join(", "), deleted(evidence)));
    say(format!(
        "ledger: {} runs ({} in Python), {} jobs acknowledged, {} rolled back, {} retried manually",
        count(|line| matches!(line, Line::Begin { .. })),
        runs_in_python(evidence),
        count(|line| matches!(line, Line::Acknowledged { .. })),
        count(|line| matches!(line, Line::RolledBack { .. })),
        count(|line| matches!(line, Line::RetriedManually { .. })),
    ));
    for name in deaths {
        say(format!("the process {name} ended although nobody asked it to"));
    }
    let mut promises: BTreeMap<u8, usize> = BTreeMap::new();
    for violation in violations {
        *promises.entry(violation.promise).or_default() += 1;
    }
    let promises: String = promises.iter().map(|(promise, count)| format!(", promise {promise}: {count}")).collect();
    say(format!("violations: {}{promises}", violations.len()));
    for violation in violations.iter().take(MOST_VIOLATIONS) {
        say(format!("\n{violation}"));
        if let Some(job) = violation.job {
            describe(job, evidence);
        }
    }
    let is_kept = violations.is_empty() && deaths.is_empty();
    if !is_kept {
        let (seed, seconds) = (arguments.seed, arguments.length.as_secs());
        say(format!("\nledgers and logs are in {}", directory.display()));
        say(format!("run it again: cargo run -p fault-rig -- run --seed {seed} --seconds {seconds}"));
    }
    is_kept
}

/// Returns how many jobs ran and do not exist any more.
fn deleted(evidence: &Evidence) -> usize {
    let existing: HashSet<i64> = evidence.jobs.iter().map(|job| job.id).collect();
    let ran = evidence.lines.iter().filter_map(|line| match line {
        Line::Begin { job, .. } if !existing.contains(job) => Some(*job),
        _ => None,
    });
    ran.collect::<HashSet<i64>>().len()
}

fn runs_in_python(evidence: &Evidence) -> usize {
    let processes: HashSet<u32> = evidence
        .lines
        .iter()
        .filter_map(|line| if let Line::Python { pid } = line { Some(*pid) } else { None })
        .collect();
    let is_there = |line: &&Line| matches!(line, Line::Begin { pid, .. } if processes.contains(pid));
    evidence.lines.iter().filter(is_there).count()
}

/// Prints everything about a job.
fn describe(id: i64, evidence: &Evidence) {
    for job in evidence.jobs.iter().filter(|job| job.id == id) {
        say(format!("  {job:?}"));
    }
    for line in &evidence.lines {
        let is_about_it = match line {
            Line::Begin { job, .. }
            | Line::End { job, .. }
            | Line::Acknowledged { job, .. }
            | Line::RetriedManually { job } => *job == id,
            _ => false,
        };
        if is_about_it {
            say(format!("  {line:?}"));
        }
    }
    let events: Vec<&str> = evidence.events.iter().filter(|event| event.job == id).map(|event| &*event.kind).collect();
    say(format!("  events: {events:?}"));
}
