//! Random statements about priorities that age.

use chrono::{TimeDelta, Utc};
use fastrand::Rng;

use super::{Both, Known, QUEUES, debug, step};
use crate::database::models::ProcrastinatePriorityAgeing;
use crate::database::statements::ageing::{
    AgePrioritiesQuery, AgedPriorities, ListPriorityAgeingsQuery, SetAgeingQuery, StopAgeingQuery,
};

/// Changes the ageing of a queue, or raises priorities at some time.
fn age(both: &mut Both, random: &mut Rng) {
    let queue = random.choice(QUEUES).unwrap().to_owned();
    match random.u8(..8) {
        0 => drop(both.ask(|| StopAgeingQuery { queue: queue.clone() }, debug)),
        1..=2 => {
            let (every_seconds, step, max_priority) = (random.choice([60.0, 90.5]).unwrap(), random.i32(1..3), 4);
            both.ask(|| SetAgeingQuery { queue: queue.clone(), every_seconds, step, max_priority }, debug);
        }
        _ => {
            let due_at = Some(Utc::now() + TimeDelta::seconds(30 * random.i64(0..40)));
            // In memory, a pass is one step. In PostgreSQL, it is one if it reads fewer jobs than this.
            both.ask(|| AgePrioritiesQuery { due_at, most: 10_000 }, aged_text);
        }
    }
    both.ask(|| ListPriorityAgeingsQuery, ageing_text);
}

fn aged_text((queue, raised, has_more, wait_seconds, problem): &AgedPriorities) -> String {
    format!("{queue:?} raised {raised} {has_more} {:?} {problem:?}", wait_seconds.map(f64::round))
}

fn ageing_text(ageing: &ProcrastinatePriorityAgeing) -> String {
    let ProcrastinatePriorityAgeing { queue_name, every_seconds, step, max_priority, last_aged_at, .. } = ageing;
    format!("{queue_name} {every_seconds} {step} {max_priority} {last_aged_at:?}")
}

#[test]
fn every_statement_about_ageing_returns_what_postgresql_returns() {
    let mut most_raised = 0;
    for seed in 0..3 {
        let mut random = Rng::with_seed(seed);
        let mut both = Both::new();
        let mut known = Known::default();
        for number in 0..150 {
            if random.u8(..3) == 0 {
                age(&mut both, &mut random);
            } else {
                step(&mut both, &known, &mut random);
            }
            known = both.look(&format!("step {number} of seed {seed}"));
        }
        let raised = both.told.iter().filter_map(|told| told.split_once(" raised ")?.1.split(' ').next()?.parse().ok());
        most_raised = raised.max().unwrap_or(0).max(most_raised);
    }
    assert!(most_raised >= 3, "at most {most_raised} jobs were raised at once");
}
