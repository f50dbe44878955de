//! Holds the ledgers, the jobs and the events against what the queue promises.
//!
//! | promise | |
//! |---|---|
//! | 1 | A committed job is not lost: it finishes, and one that succeeded has run completely. |
//! | 2 | A job that was rolled back never runs. |
//! | 3 | A job has one outcome in each life, and its attempts are counted. A manual retry begins a new life. |
//! | 4 | Runs with the same lock never overlap. |
//! | 5 | Runs of the same job never overlap. |
//! | 6 | A tick has at most one job. |
//! | 7 | A job never starts after its outcome, except after a manual retry. |
//!
//! A job that does not exist any more must have been deleted by a worker: its last run in the ledgers is complete, and
//! it was in a process that deletes successful jobs, or is old enough. Its outcomes and attempts are not checked.
//!
//! A job that Python's worker ran and that was requeued or aborted meanwhile can still run there and get its outcome
//! from there. It is excused from 3, from the attempt in 1, and as the earlier one of two runs in 4 and 5.
//!
//! Otherwise, the only excuse for 4 and 5 is that the process of the earlier run was stopped for longer than the timeout
//! of stalled workers.

mod deleted;
mod lives;
mod overlaps;
mod python;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use self::deleted::Deleted;
use self::runs::Run;
use crate::ledger::{Ending, Line};

/// A row of the jobs' table.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) status: String,
    pub(crate) attempts: i32,
    pub(crate) token: Option<String>,
    /// The schedule and the timestamp of a periodic job.
    pub(crate) tick: Option<(String, i64)>,
}

/// A row of the events' table.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) job: i64,
    pub(crate) kind: String,
}

/// Everything that is known after a run of the rig.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) lines: Vec<Line>,
    pub(crate) jobs: Vec<Job>,
    /// In the order of their IDs.
    pub(crate) events: Vec<Event>,
    /// Jobs up to this ID had the time to finish.
    pub(crate) drained_up_to: i64,
    /// After how many nanoseconds a worker is considered stalled.
    pub(crate) timeout: i64,
    /// The age in nanoseconds at which workers delete jobs that succeeded. `None`: they delete none.
    pub(crate) deleted_at_age: Option<i64>,
    /// When the tables were read.
    pub(crate) collected_at: i64,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) promise: u8,
    pub(crate) job: Option<i64>,
    pub(crate) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "promise {}: {}", self.promise, self.text)
    }
}

/// Returns the promises that were broken.
pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let runs = runs::of(&evidence.lines);
    let jobs: HashMap<i64, &Job> = evidence.jobs.iter().map(|job| (job.id, job)).collect();
    let mut violations = Vec::new();
    let deleted = Deleted::of(evidence, &runs, &jobs);
    let excused = python::excused(evidence, &runs);
    check_committed(evidence, &jobs, &deleted, &mut violations);
    check_complete(evidence, &runs, &excused, &mut violations);
    check_rolled_back(evidence, &runs, &deleted, &mut violations);
    lives::check(evidence, &runs, &excused, &mut violations);
    overlaps::check(evidence, &runs, &excused, &mut violations);
    check_ticks(evidence, &deleted, &mut violations);
    violations.sort();
    violations
}

/// Promise 1.
fn check_committed(
    evidence: &Evidence,
    jobs: &HashMap<i64, &Job>,
    deleted: &Deleted<'_>,
    violations: &mut Vec<Violation>,
) {
    let mut violate = |job, text| violations.push(Violation { promise: 1, job: Some(job), text });
    for line in &evidence.lines {
        let Line::Acknowledged { token, job } = line else { continue };
        match jobs.get(job) {
            None => {
                if let Some(problem) = deleted.problem(*job, token) {
                    violate(*job, format!("job {job} was committed and does not exist: {problem}"));
                }
            }
            Some(row) if row.token.as_deref() != Some(token) => {
                violate(*job, format!("job {job} was deferred with the token {token} and has {:?}", row.token));
            }
            Some(_) => {}
        }
    }
    for job in evidence.jobs.iter().filter(|job| job.id <= evidence.drained_up_to) {
        if !matches!(&*job.status, "succeeded" | "failed" | "cancelled" | "aborted") {
            violate(job.id, format!("job {} is {} in the end", job.id, job.status));
        }
    }
}

/// Promise 1: a job that succeeded has a complete run.
fn check_complete(evidence: &Evidence, runs: &[Run<'_>], excused: &HashSet<i64>, violations: &mut Vec<Violation>) {
    let mut violate = |job, text| violations.push(Violation { promise: 1, job: Some(job), text });
    let (mut complete, mut in_any_attempt) = (HashSet::new(), HashSet::new());
    for run in runs.iter().filter(|run| run.ending == Some(Ending::Succeeded)) {
        complete.insert((run.job, run.attempts + 1));
        in_any_attempt.insert(run.job);
    }
    for job in evidence.jobs.iter().filter(|job| job.status == "succeeded") {
        let is_excused = excused.contains(&job.id) && in_any_attempt.contains(&job.id);
        if !is_excused && !complete.contains(&(job.id, job.attempts)) {
            violate(job.id, format!("job {} succeeded in attempt {} without a complete run", job.id, job.attempts));
        }
    }
}

/// Promise 2.
fn check_rolled_back(evidence: &Evidence, runs: &[Run<'_>], deleted: &Deleted<'_>, violations: &mut Vec<Violation>) {
    let mut violate = |job, text| violations.push(Violation { promise: 2, job: Some(job), text });
    let rolled_back: HashSet<&str> = evidence
        .lines
        .iter()
        .filter_map(|line| if let Line::RolledBack { token } = line { Some(&**token) } else { None })
        .collect();
    for job in &evidence.jobs {
        if let Some(token) = &job.token
            && rolled_back.contains(&**token)
        {
            violate(job.id, format!("job {} with the token {token} was rolled back and exists", job.id));
        }
    }
    for run in runs {
        if rolled_back.contains(run.token) {
            violate(run.job, format!("job {} with the token {} was rolled back and ran", run.job, run.token));
        } else if deleted.is_missing(run.job)
            && let Some(problem) = deleted.problem(run.job, run.token)
        {
            violate(run.job, format!("job {} ran and does not exist: {problem}", run.job));
        }
    }
}

/// Promise 6.
fn check_ticks(evidence: &Evidence, deleted: &Deleted<'_>, violations: &mut Vec<Violation>) {
    let mut ticks: BTreeMap<(String, i64), Vec<i64>> = BTreeMap::new();
    for job in &evidence.jobs {
        if let Some(tick) = &job.tick {
            ticks.entry(tick.clone()).or_default().push(job.id);
        }
    }
    for (tick, job) in deleted.ticks() {
        ticks.entry(tick).or_default().push(job);
    }
    for ((schedule, timestamp), jobs) in ticks.into_iter().filter(|(_, jobs)| jobs.len() > 1) {
        let text = format!("the tick {timestamp} of the schedule `{schedule}` has the jobs {jobs:?}");
        violations.push(Violation { promise: 6, job: jobs.first().copied(), text });
    }
}
