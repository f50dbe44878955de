//! What must hold after transactions that ran at the same time, whatever their order was.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::{By, Call, Ending};
use super::model::{Job, Model};

/// What committed statements have reported.
#[derive(Debug, Default)]
pub struct Claims {
    inserted: BTreeSet<i64>,
    /// How often each job was fetched.
    started: BTreeMap<i64, usize>,
    /// How often the attempt of each job may have ended or it was retried, and how often at least.
    most_changes: BTreeMap<i64, usize>,
    least_changes: BTreeMap<i64, usize>,
    /// The jobs that may be deleted, and the number of other deleted jobs.
    may_be_deleted: BTreeSet<i64>,
    deleted: usize,
    /// Whether running jobs may have lost their workers.
    releases: bool,
}

impl Claims {
    /// Adds what a statement that succeeded has reported.
    pub fn add(&mut self, call: &Call, found: &[String]) {
        let ids = || found.iter().filter_map(|row| row.split(' ').next().and_then(|id| id.parse::<i64>().ok()));
        match call {
            Call::Defer(_) | Call::DeferJobs(..) | Call::DeferEach(_) | Call::Tick { .. } => {
                self.inserted.extend(ids());
            }
            Call::DeferOrReplace(..) => {
                let new = found.iter().filter_map(|row| row.strip_suffix(" | new")?.parse::<i64>().ok());
                self.inserted.extend(new);
            }
            Call::Fetch { .. } => ids().for_each(|id| *self.started.entry(id).or_default() += 1),
            Call::FinishAndFetch { outcomes, .. } => {
                for id in found.iter().filter_map(|row| row.strip_prefix("fetched | ")) {
                    *self.started.entry(id.parse().unwrap()).or_default() += 1;
                }
                for outcome in outcomes {
                    let id = outcome.id;
                    if found.contains(&format!("lost | {id}")) {
                        continue;
                    }
                    let has_failed = found.contains(&format!("failed | {id}"));
                    match outcome.ending {
                        Ending::Delete => drop(self.may_be_deleted.insert(id)),
                        Ending::Retry { is_deleted_if_failed: true, .. } if has_failed => {
                            self.may_be_deleted.insert(id);
                        }
                        // It may have been stored before.
                        Ending::Finish { .. } | Ending::Retry { .. } => self.changes(id, has_failed),
                    }
                }
            }
            Call::Finish { by, id, delete, .. } => {
                let is_done = *by == By::Contract || found[0].starts_with("true");
                match (is_done, delete) {
                    (true, true) => drop(self.may_be_deleted.insert(*id)),
                    (true, false) => self.changes(*id, true),
                    _ => {}
                }
            }
            Call::Cancel { id, delete, .. } if found[0] != "NULL" => {
                self.changes(*id, false);
                if *delete {
                    self.may_be_deleted.insert(*id);
                }
            }
            Call::Retry { version: Some(_), id, .. } => self.changes(*id, true),
            Call::Retry { version: None, id, .. } if found[0].split(" | ").nth(1) != Some("NULL") => {
                self.changes(*id, true);
            }
            Call::Rescue(_) => ids().for_each(|id| self.changes(id, true)),
            Call::DeleteOld { .. } => self.deleted += found[0].split(' ').next().unwrap().parse::<usize>().unwrap(),
            Call::DeleteJob { id } if found[0] == "changed" => drop(self.may_be_deleted.insert(*id)),
            Call::Unregister { .. } | Call::Prune | Call::ReleaseStalled | Call::RemoveWorker { .. } => {
                self.releases = true;
            }
            // The former ID's other links are cut.
            Call::Reregister { .. } => self.releases = true,
            _ => {}
        }
    }

    fn changes(&mut self, id: i64, surely: bool) {
        *self.most_changes.entry(id).or_default() += 1;
        *self.least_changes.entry(id).or_default() += usize::from(surely);
    }
}

/// Checks the way from one state without open transactions to the next one.
pub fn check(before: &Model, after: &Model, claims: &Claims) -> Result<(), String> {
    for (id, job) in &after.jobs {
        let former = before.jobs.get(id);
        if former.is_none() && !claims.inserted.contains(id) {
            return Err(format!("nobody has deferred job {id}"));
        }
        check_job(*id, former, job, claims)
            .map_err(|problem| format!("job {id} {problem}: {former:?} became {job:?}"))?;
        if job.worker.is_some_and(|worker| !after.workers.contains_key(&worker)) {
            return Err(format!("the worker of job {id} is not registered"));
        }
    }
    let is_gone = |id: &&i64| !after.jobs.contains_key(id) && !claims.may_be_deleted.contains(id);
    let gone = before.jobs.keys().chain(&claims.inserted).filter(is_gone).collect::<BTreeSet<_>>();
    if gone.len() > claims.deleted {
        return Err(format!("nobody has deleted the jobs {gone:?}"));
    }
    check_locks(after)
}

fn check_locks(model: &Model) -> Result<(), String> {
    let mut locks = BTreeSet::new();
    let mut queueing_locks = BTreeSet::new();
    for (id, job) in &model.jobs {
        if job.status == "doing" && job.new.lock.is_some_and(|lock| !locks.insert(lock)) {
            return Err(format!("job {id} runs, and so does another job with its lock"));
        }
        if job.status == "todo" && job.new.queueing_lock.is_some_and(|lock| !queueing_locks.insert(lock)) {
            return Err(format!("job {id} is pending, and so is another job with its queueing lock"));
        }
    }
    Ok(())
}

fn check_job(id: i64, former: Option<&Job>, job: &Job, claims: &Claims) -> Result<(), String> {
    let former_events = former.map(|former| former.events.as_slice()).unwrap_or_default();
    let kinds = |events: &[(&'static str, _)]| events.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    if !kinds(&job.events).starts_with(&kinds(former_events)) {
        return Err("has lost events".to_owned());
    }
    let new_events = kinds(&job.events[former_events.len()..]);
    let mut status = former.map_or("", |former| former.status);
    let mut is_abort_requested = former.is_some_and(|former| former.status == "doing" && former.abort_requested);
    let (mut started, mut changes, mut least_attempts, mut most_attempts) = (0, 0, 0, 0);
    for event in new_events {
        is_abort_requested =
            (is_abort_requested && event != "started") || (event == "abort_requested" && status == "doing");
        if is_abort_requested && event == "deferred_for_retry" {
            return Err("was retried although its abort was requested".to_owned());
        }
        let (from, to, least, most) = match event {
            "scheduled" | "abort_requested" => continue,
            "deferred" => ("", "todo", 0, 0),
            "started" => ("todo", "doing", 0, 0),
            "deferred_for_retry" => ("doing", "todo", 0, 1),
            "retried" => ("failed", "todo", 1, 1),
            "failed" => ("doing", "failed", 0, 1),
            "succeeded" | "aborted" => ("doing", event, 1, 1),
            // It can be followed by a retry, if the pending job was finished as failed.
            _ => ("todo", "cancelled", 0, 0),
        };
        let is_legal = status == from || (status == "cancelled" && from == "failed");
        if !is_legal {
            return Err(format!("has the event {event} after the status \"{status}\""));
        }
        started += usize::from(event == "started");
        changes += usize::from(!matches!(event, "started" | "deferred"));
        least_attempts += least;
        most_attempts += most;
        status = to;
    }
    let was_finished_without_start =
        status == "cancelled" && matches!(job.status, "failed" | "succeeded" | "cancelled");
    // A pending job that is finished as aborted has no event.
    let was_aborted_without_start = status == "todo" && job.status == "aborted";
    changes += usize::from(was_aborted_without_start);
    if status != job.status && !was_finished_without_start && !was_aborted_without_start {
        return Err(format!("should have the status {status}"));
    }
    let attempts = job.attempts - former.map_or(0, |former| former.attempts);
    if attempts < least_attempts || attempts > most_attempts {
        return Err(format!("should have {least_attempts} to {most_attempts} more attempts"));
    }
    let number = |numbers: &BTreeMap<i64, usize>| numbers.get(&id).copied().unwrap_or_default();
    if started != number(&claims.started) {
        return Err(format!("was started {started} times, and fetched {} times", number(&claims.started)));
    }
    if changes > number(&claims.most_changes) || changes < number(&claims.least_changes) {
        return Err(format!("has ended or was retried {changes} times"));
    }
    check_holder(former, job, claims)
}

/// Checks the worker and the errors of a job.
fn check_holder(former: Option<&Job>, job: &Job, claims: &Claims) -> Result<(), String> {
    let had_no_worker = former.is_some_and(|former| former.is_held_by(None));
    if job.is_held_by(None) && !had_no_worker && !claims.releases {
        return Err("runs without a worker".to_owned());
    }
    if job.errors.keys().next_back().is_some_and(|attempt| *attempt > job.attempts + 1) {
        return Err("has an error of an attempt that was not made".to_owned());
    }
    Ok(())
}
