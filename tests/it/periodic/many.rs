//! Many schedules that tick in the same second.

use std::collections::BTreeSet;
use std::sync::Arc;

use procrastinate::job_manager::{create_schedule, pause_schedule};
use procrastinate::testing::{InMemoryConnector, at_blocking};
use procrastinate::{App, AppBuilder, PeriodicTask};
use tokio::sync::Barrier;

use super::deferring::{app_with, at, report, ticks};
use crate::support::{connect, database, rows, sql, within_patience};

/// So many schedules, each with a name of its own.
fn schedules(number: usize) -> impl Iterator<Item = PeriodicTask> {
    (0..number).map(|number| PeriodicTask::new::<report>("* * * * *").periodic_id(format!("{number:03}")))
}

#[tokio::test]
async fn a_statement_defers_the_ticks_of_fifty_schedules() {
    let memory = InMemoryConnector::new();
    // One with a queueing lock has a statement of its own.
    let locked = PeriodicTask::new::<report>("* * * * *").periodic_id("locked").queueing_lock("one");
    let builder = App::builder(memory.clone()).task::<report>().periodic(locked);
    let app = schedules(120).fold(builder, AppBuilder::periodic).build().unwrap();
    app.periodic_deferrer().defer_due(at("08:00:00")).await;
    let mut names: Vec<_> = memory.queries().into_iter().map(|query| query.name).collect();
    names.retain(|name| name.starts_with("Defer"));
    names.sort_unstable();
    assert_eq!(names, ["DeferPeriodicJob", "DeferPeriodicJobs", "DeferPeriodicJobs", "DeferPeriodicJobs"]);
    assert_eq!(memory.jobs().len(), 121);
}

#[tokio::test]
async fn each_tick_of_many_schedules_is_deferred_once_by_workers_that_tick_together() {
    let database = database();
    let mut connection = connect(&database);
    // The first half is in the code, the second one in the database.
    at_blocking(at("07:59:30"), || {
        (100..200).try_for_each(|number| {
            let schedule = create_schedule("report", "* * * * *").periodic_id(format!("{number:03}"));
            schedule.execute_blocking(&mut connection).map(drop)
        })
    })
    .unwrap();
    let app = app_with(&database, schedules(100)).await;
    let barrier = Arc::new(Barrier::new(4));
    let running: Vec<_> = (0..4)
        .map(|_| {
            let (app, barrier) = (app.clone(), barrier.clone());
            tokio::spawn(async move {
                let mut deferrer = app.periodic_deferrer();
                for time in ["08:00:00", "08:01:00", "08:02:00"] {
                    barrier.wait().await;
                    assert_eq!(deferrer.defer_due(at(time)).await, at(time) + chrono::TimeDelta::minutes(1));
                }
            })
        })
        .collect();
    for running in running {
        within_patience(running).await.unwrap();
    }
    let claimed = rows(
        &mut connection,
        "SELECT count(*), count(DISTINCT periodic_id), min(defer_timestamp) = max(defer_timestamp)
         FROM procrastinate_periodic_defers WHERE job_id IS NOT NULL",
    );
    assert_eq!(claimed, ["200 | 200 | true"]);
    let expected: Vec<_> = ["08:00", "08:01", "08:02"].iter().flat_map(|tick| vec![(*tick).to_owned(); 200]).collect();
    assert_eq!(ticks(&database), expected);
}

#[tokio::test]
async fn schedules_that_are_refused_paused_or_being_changed_hold_back_no_others() {
    let database = database();
    let mut connection = connect(&database);
    let app = app_with(&database, schedules(6)).await;
    let mut deferrer = app.periodic_deferrer();
    deferrer.defer_due(at("08:00:00")).await;
    sql(&mut connection, "DELETE FROM procrastinate_jobs");

    let refuse = "ALTER TABLE procrastinate_periodic_defers ADD CONSTRAINT no CHECK (periodic_id <> '001') NOT VALID";
    sql(&mut connection, refuse);
    at_blocking(at("08:00:30"), || pause_schedule("report", "002").execute_blocking(&mut connection)).unwrap();
    let mut other = connect(&database);
    sql(&mut other, "BEGIN");
    sql(&mut other, "UPDATE procrastinate_diesel_schedules SET priority = 1 WHERE periodic_id = '003'");
    deferrer.defer_due(at("08:01:00")).await;
    let deferred =
        "SELECT periodic_id FROM procrastinate_periodic_defers WHERE job_id IN (SELECT id FROM procrastinate_jobs)";
    let deferred_ids = |connection: &mut _| rows(connection, deferred).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(deferred_ids(&mut connection), BTreeSet::from(["000", "004", "005"].map(str::to_owned)));

    sql(&mut other, "COMMIT");
    sql(&mut connection, "ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT no");
    deferrer.defer_due(at("08:01:05")).await;
    assert_eq!(deferred_ids(&mut connection), BTreeSet::from(["000", "001", "003", "004", "005"].map(str::to_owned)));
    assert_eq!(ticks(&database), ["08:01"; 5]);
}
