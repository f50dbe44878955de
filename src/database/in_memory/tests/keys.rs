//! Random jobs of a few keys, under a limit for each key. Both start the same ones.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::json;

use super::choices::any_job;
use super::{Both, Known, debug};
use crate::database::statements::defer::{DeferWithOptions, InsertJobs, NewJob};
use crate::database::statements::explain::{RecentStarts, RunningJobs, RunningJobsOfKey};
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
        let (max_starts, start_period_seconds) = (Some(1_000), Some(3_600.0));
        both.ask(
            || SetLimitQuery { kind, name: name.to_owned(), max_running: most, max_starts, start_period_seconds },
            debug,
        );
        both.ask(|| RegisterWorkerQuery, debug);
        let mut started = BTreeMap::new();
        for step in 0..80 {
            let known = both.look(&format!("step {step} of seed {seed}"));
            both.ask(|| RunningJobs { kind: kind.to_owned(), name: name.to_owned() }, debug);
            let recent = || RecentStarts { kind: kind.to_owned(), name: name.to_owned(), period_seconds: 3_600.0 };
            both.ask(recent, |(starts, ends_at)| format!("{starts} {}", ends_at.is_some()));
            count_key(&mut both, random.i64(1..20), (kind, name), &[Some("tenant".to_owned())]);
            play(&mut both, &known, &mut random, of_queue);
            for job in known.jobs.iter().filter(|job| job.status == JobStatus::Doing) {
                *started.entry(job.args["tenant"].to_string()).or_insert(0) += 1;
            }
        }
        assert!(started.len() >= 4, "{started:?}");
    }
}

/// Compares how many running jobs have the key of this one. An object as a key has another text in each.
fn count_key(both: &mut Both, job_id: i64, (kind, name): (&str, &str), path: &[Option<String>]) -> Vec<(String, i64)> {
    let (kind, name) = (kind.to_owned(), name.to_owned());
    let statement =
        || RunningJobsOfKey { job_id: job_id.into(), kind: kind.clone(), name: name.clone(), path: path.to_vec() };
    both.ask(statement, |(key, running)| format!("{} {running}", key.replace(": ", ":")))
}

#[test]
fn the_same_running_jobs_of_a_key_are_counted() {
    let mut both = Both::new();
    let path = [Some("tenant".to_owned())];
    for (kind, name, path) in [("queue", "keyed", Some(vec!["tenant".to_owned()])), ("task", "limited", Some(vec![]))] {
        let (max_running, max_starts, start_period_seconds) = (Some(9), None, None);
        let limit = || LimitKeysQuery {
            kind,
            name: name.to_owned(),
            path: path.clone(),
            max_running,
            max_starts,
            start_period_seconds,
        };
        both.ask(limit, debug);
    }
    both.ask(|| RegisterWorkerQuery, debug);
    let mut random = Rng::with_seed(1);
    // Each with its queue, its tenant and the key that is given with it.
    let jobs = [
        ("keyed", json!("7"), Some("a")),
        ("keyed", json!(7), None),
        ("plain", json!(7), Some("a")),
        ("plain", json!(null), Some("a")),
        ("plain", json!(""), Some("")),
        ("keyed", json!(7.5), Some("a")),
    ];
    let jobs = jobs.map(|(queue, tenant, key)| {
        let args = json!({ "tenant": tenant });
        (NewJob { queue: queue.to_owned(), args, ..any_limited(&mut random, false) }, key.map(str::to_owned))
    });
    let defer = || DeferWithOptions {
        jobs: jobs.iter().map(|(job, _)| job.clone()).collect(),
        if_enqueued: vec!["fail"; jobs.len()],
        start_before: vec![None; jobs.len()],
        limit_keys: jobs.iter().map(|(_, key)| key.clone()).collect(),
    };
    both.ask(defer, debug);
    let worker = both.look("the jobs").workers[0];
    both.ask(|| FinishAndFetchJobs::new(worker, None, jobs.len()), |_| String::new());
    let mut counts = |job_id, target, path: &[Option<String>]| count_key(&mut both, job_id, target, path);
    assert_eq!(counts(2, ("queue", "keyed"), &path), [("7".to_owned(), 2)]);
    assert_eq!(counts(6, ("queue", "keyed"), &path), [("7.5".to_owned(), 1)]);
    assert_eq!(counts(4, ("queue", "plain"), &path), []);
    assert_eq!(counts(5, ("queue", "plain"), &path), []);
    // Those of the limited queue have its keys.
    assert_eq!(counts(3, ("task", "limited"), &[]), [("a".to_owned(), 2)]);
    assert_eq!(counts(5, ("task", "limited"), &[]), []);
    assert_eq!(counts(99, ("task", "limited"), &[]), []);
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
