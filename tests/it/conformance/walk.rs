//! Random operations, each on both sides: after each of them, both have the same results and tables.
//!
//! What is done depends on a seed alone, and a test that fails prints it. With `PROCRASTINATE_TEST_SEED` set to a number
//! only that seed is used.

use std::time::Duration;

use procrastinate::{AppBuilder, PeriodicTask, task};

use super::running::orders;
use super::steps::Step;
use super::{assert_same, both};
use crate::random_model::Random;

#[task(queue = "third")]
async fn tick(timestamp: i64) {
    assert!(timestamp > 0);
}

fn tasks(app: AppBuilder) -> AppBuilder {
    // None of these has a tick in the days around now but what the walk asks for.
    let every_ten_minutes = PeriodicTask::new::<tick>("*/10 0 1 1 *").max_delay(Duration::from_secs(1_200));
    let exclusive = PeriodicTask::new::<tick>("*/15 0 1 1 *").periodic_id("exclusive").queueing_lock("x").lock("lock");
    orders(app).task::<tick>().periodic(every_ten_minutes).periodic(exclusive)
}

/// Each seed on a database of its own.
#[tokio::test]
async fn after_each_random_step_both_have_the_same_results_and_tables() {
    const STEPS: usize = 150;
    for mut random in Random::each(0..2) {
        let (mut in_memory, mut in_postgres) = both(tasks).await;
        let (mut deferred, mut registered) = (0, 0);
        for number in 0..STEPS {
            let step = Step::any(&mut random, deferred, registered);
            for side in [&mut in_memory, &mut in_postgres] {
                side.notes.clear();
                step.take(side).await;
                side.look();
            }
            assert_same(&in_memory, &in_postgres, &format!("after step {number}, {step:?}"));
            let last = |ids: Option<i64>, before: usize| before.max(ids.map_or(0, |id| usize::try_from(id).unwrap()));
            deferred = last(in_memory.jobs().last().map(|job| job.id), deferred);
            registered = last(in_memory.workers().last().map(|worker| worker.id), registered);
        }
    }
}
