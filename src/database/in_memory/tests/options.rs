//! Jobs that replace others, and options that few jobs have.

use fastrand::Rng;

use super::choices::{any_extras, any_if_enqueued, any_job, maybe};
use super::{Both, debug};
use crate::database::connection::run::{Blocking, Run, complete};
use crate::database::models::ProcrastinateJobOptions;
use crate::database::statements::defer::{DeferOrReplaceJobs, DeferUniqueJobs, DeferWithOptions};
use crate::database::statements::options::{OptionsOfJobs, TendJobOptions};

impl Both {
    /// Cancels what is late in both. A fetch of PostgreSQL does so only if its queues have jobs.
    pub(super) fn tend(&mut self) {
        let statement = || TendJobOptions { start_after: 0, start_keys_after: 0 };
        complete(Blocking(&mut self.postgres).load(statement())).unwrap();
        complete(self.memory.load(statement())).unwrap();
    }

    /// Compares the options of the jobs up to this one.
    pub(super) fn look_at_options(&mut self, last_id: i64) {
        self.ask(
            || OptionsOfJobs { job_ids: (0..=last_id).collect() },
            |row| {
                let is_checked = row.checked_at.is_some();
                format!("checked: {is_checked} {:?}", ProcrastinateJobOptions { checked_at: None, ..row.clone() })
            },
        );
    }
}

/// Jobs of which some can replace pending ones, with further options or without.
pub(super) fn defer_or_replace(both: &mut Both, random: &mut Rng) {
    let jobs: Vec<_> = (0..random.usize(1..3)).map(|_| any_job(random)).collect();
    let if_enqueued: Vec<_> = jobs.iter().map(|_| any_if_enqueued(random)).collect();
    let extras: Vec<_> = jobs.iter().map(|_| any_extras(random)).collect();
    let kind = random.u8(..5);
    if kind == 0 {
        let statement =
            || DeferOrReplaceJobs { jobs: jobs.iter().cloned().collect(), if_enqueued: if_enqueued.clone() };
        both.ask(statement, debug);
    } else {
        let (start_before, limit_keys): (Vec<_>, Vec<_>) =
            extras.into_iter().map(|extras| (extras.start_before, extras.limit_key)).unzip();
        let statement = |if_enqueued: &[&'static str]| DeferWithOptions {
            jobs: jobs.iter().cloned().collect(),
            if_enqueued: if_enqueued.to_vec(),
            start_before: start_before.clone(),
            limit_keys: limit_keys.clone(),
        };
        if kind == 1 {
            both.ask(|| statement(&if_enqueued), debug);
            return;
        }
        // Jobs with a key cannot replace others.
        let labels: Vec<_> = jobs.iter().map(|_| random.choice(["fail", "keep", "keep"]).unwrap()).collect();
        let unique_keys: Vec<_> = jobs.iter().map(|_| maybe(random, &["a", "b"]).or(maybe(random, &["a"]))).collect();
        let unique_seconds: Vec<_> = jobs.iter().map(|_| random.choice([0.0, 3_600.0]).unwrap()).collect();
        let unique = || DeferUniqueJobs {
            jobs: statement(&labels),
            unique_keys: unique_keys.clone(),
            unique_seconds: unique_seconds.clone(),
        };
        both.ask(unique, |row| format!("unique {row:?}"));
    }
}
