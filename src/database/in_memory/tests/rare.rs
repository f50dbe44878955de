//! Plays random statements until all rare cases were compared, too.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::{Both, Known, step};

/// What some row must contain, so that rare cases are compared, too.
const RARE: [&str; 24] = [
    "is lost",
    "is not retried",
    "now Job {",
    "is not registered",
    "violates foreign key constraint",
    "jobs_queueing_lock_idx_v1",
    "invalid status to retry",
    "1 it failed Some(",
    "1 the worker died None",
    "Aborted)",
    "queueing_lock_taken",
    "wait for 1 s",
    "wait for an hour",
    "max_running: Some(2)",
    "\"new\"",
    "\"kept\"",
    "\"replaced\"",
    "(None, None, Some(",
    "is_expired: true",
    ")), None, None, Some(",
    "Some(\"kept\"), None, None)",
    "is held by a job",
    "the job is stalled",
    "is limited to",
];

/// Compares the answers of random statements, and returns them.
fn play(seed: u64) -> BTreeSet<String> {
    let mut random = Rng::with_seed(seed);
    let mut both = Both::new();
    let mut known = Known::default();
    for number in 0..200 {
        step(&mut both, &known, &mut random);
        known = both.look(&format!("step {number} of seed {seed}"));
    }
    both.told
}

#[test]
fn every_statement_returns_what_postgresql_returns() {
    let mut told = BTreeSet::new();
    let is_told = |told: &BTreeSet<String>, part: &str| told.iter().any(|told| told.contains(part));
    for first in (0..60).step_by(2) {
        std::thread::scope(|scope| {
            let played = [first, first + 1].map(|seed| scope.spawn(move || play(seed)));
            for played in played {
                told.append(&mut played.join().unwrap());
            }
        });
        if first >= 14 && RARE.iter().all(|part| is_told(&told, part)) {
            return;
        }
    }
    let missing: Vec<_> = RARE.iter().filter(|part| !is_told(&told, part)).collect();
    panic!("no row contained {missing:?}");
}
