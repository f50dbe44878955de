//! Random jobs of a few keys, under a limit for each key. Both start the same ones.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::json;

use super::choices::any_job;
use super::{Both, Known, debug};
use crate::database::statements::defer::{InsertJobs, NewJob};
use crate::database::statements::finish_and_fetch::{FinishAndFetchJobs, FinishedOrFetched};
use crate::database::statements::flow_control::{LimitKeysQuery, SetLimitQuery};
use crate::database::statements::workers::RegisterWorkerQuery;
use crate::job::JobStatus;

#[test]
fn the_same_jobs_of_each_key_start() {
    for seed in 0..4 {
        let mut random = Rng::with_seed(seed);
        let mut both = Both::new();
        let of_queue = seed % 2 == 0;
        let (kind, name) = if of_queue { ("queue", "limited") } else { ("task", "limited") };
        let (max_running, max_starts) = if seed < 2 { (Some(2), None) } else { (Some(3), Some(8)) };
        let limit = || LimitKeysQuery {
            kind,
            name: name.to_owned(),
            path: Some(vec!["tenant".to_owned()]),
            max_running,
            max_starts,
            start_period_seconds: max_starts.map(|_| 3_600.0),
        };
        both.ask(limit, debug);
        let most = Some(5);
        let (max_starts, start_period_seconds) = (None, None);
        both.ask(
            || SetLimitQuery { kind, name: name.to_owned(), max_running: most, max_starts, start_period_seconds },
            debug,
        );
        both.ask(|| RegisterWorkerQuery, debug);
        let mut started = BTreeMap::new();
        for step in 0..80 {
            let known = both.look(&format!("step {step} of seed {seed}"));
            play(&mut both, &known, &mut random, of_queue);
            for job in known.jobs.iter().filter(|job| job.status == JobStatus::Doing) {
                *started.entry(job.args["tenant"].to_string()).or_insert(0) += 1;
            }
        }
        assert!(started.len() >= 4, "{started:?}");
    }
}

/// Defers, or finishes and fetches jobs.
fn play(both: &mut Both, known: &Known, random: &mut Rng, of_queue: bool) {
    let of_status = |status| known.jobs.iter().filter(move |job| job.status == status);
    match random.u8(..4) {
        0 => {
            let jobs: Vec<_> = (0..random.usize(1..5)).map(|_| any_limited(random, of_queue)).collect();
            both.ask(|| InsertJobs::from_iter(jobs.iter().cloned()), debug);
        }
        _ => {
            let ended: Vec<_> = of_status(JobStatus::Doing).filter(|_| random.u8(..3) == 0).collect();
            let free_slots = random.usize(1..4);
            let statement = || {
                let mut statement = FinishAndFetchJobs::new(known.workers[0], None, free_slots);
                for job in &ended {
                    statement.finish(job.id.into(), job.attempts, "succeeded");
                }
                statement
            };
            both.ask(statement, |row| match row {
                FinishedOrFetched::Fetched(fetched) => format!("{:?}", fetched.job.id),
                // Whether there is anything to wait for is known exactly only in memory.
                _ => String::new(),
            });
        }
    }
}

/// A job of one of four tenants or of none.
fn any_limited(random: &mut Rng, of_queue: bool) -> NewJob {
    let tenant = random.choice([json!("a"), json!("b"), json!(7), json!({ "x": [1] }), json!(null)]).unwrap();
    let (queue, task_name) = if of_queue { ("limited", "task") } else { ("queue", "limited") };
    NewJob {
        queue: queue.to_owned(),
        task_name: task_name.to_owned(),
        lock: None,
        queueing_lock: None,
        scheduled_at: None,
        args: json!({ "tenant": tenant }),
        ..any_job(random)
    }
}
