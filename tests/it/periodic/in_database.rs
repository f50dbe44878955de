//! Schedules in the database, and what workers do with them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::PgConnection;
use procrastinate::job_manager::{
    change_schedule, create_schedule, list_schedules, pause_schedule, remove_schedule, resume_schedule,
    run_schedule_now,
};
use procrastinate::testing::{InMemoryConnector, at_blocking};
use procrastinate::{App, Error, MissedTicks, Overlap, PeriodicTask, task};
use serde_json::json;
use throwaway_postgres::Database;

use super::deferring::{app_with, at, report, ticks};
use crate::support::{Running, connect, connector, database, eventually, jobs, rows, sql};

/// Does something at a time of the day on which the tests of ticks play.
fn at_time<T>(time: &str, operation: impl FnOnce() -> Result<T, Error>) -> T {
    at_blocking(at(time), operation).unwrap()
}

/// Calls the function that defers a tick of a schedule, by default one in the code.
fn defer_tick(connection: &mut PgConnection, time: &str, version: &str) -> Vec<String> {
    let timestamp = at(time).timestamp();
    rows(
        connection,
        &format!(
            "SELECT * FROM procrastinate_diesel_defer_scheduled_job_v1(
                 'default', NULL, NULL, 'report', 0, '', {timestamp}, '{{}}', {version}, NULL)"
        ),
    )
}

#[tokio::test]
async fn a_tick_becomes_a_job_with_the_values_of_the_schedule_and_otherwise_those_of_the_task() {
    let database = database();
    let mut connection = connect(&database);
    at_time("08:00:30", || {
        create_schedule("report", "* * * * *").execute_blocking(&mut connection)?;
        let daily = create_schedule("report", "2 8 * * *").periodic_id("daily").args(json!({ "customer": 7 }));
        daily.queue("slow").priority(3).lock("l").queueing_lock("q").execute_blocking(&mut connection)
    });
    let app = app_with(&database, []).await;
    let mut deferrer = app.periodic_deferrer();
    // The tick before they were created is left out.
    assert_eq!(deferrer.defer_due(at("08:00:40")).await, at("08:01:00"));
    assert_eq!(ticks(&database), [""; 0]);
    deferrer.defer_due(at("08:02:00")).await;
    // Another worker finds nothing to do.
    app_with(&database, []).await.periodic_deferrer().defer_due(at("08:02:10")).await;

    let shown: Vec<_> = jobs(&mut connection)
        .into_iter()
        .map(|job| (job.queue_name, job.priority, job.lock, job.queueing_lock, job.args))
        .collect();
    let tick = |time| json!({ "timestamp": at(time).timestamp() });
    let daily = json!({ "timestamp": at("08:02:00").timestamp(), "customer": 7 });
    assert_eq!(
        shown,
        [
            ("reports".to_owned(), 0, None, None, tick("08:01:00")),
            ("slow".to_owned(), 3, Some("l".to_owned()), Some("q".to_owned()), daily),
            ("reports".to_owned(), 0, None, None, tick("08:02:00")),
        ]
    );
    let listed = list_schedules().execute_blocking(&mut connection).unwrap();
    let last: Vec<_> = listed.iter().map(|listed| (listed.last_tick, listed.schedule.last_job_id)).collect();
    assert_eq!(last, [(Some(at("08:02:00")), Some(3)), (Some(at("08:02:00")), Some(2))]);
}

#[tokio::test]
async fn a_schedule_of_an_unknown_task_or_with_bad_values_delays_no_other() {
    #[task]
    async fn strict(timestamp: i64, customer: i64) {
        let _ = (timestamp, customer);
    }

    let database = database();
    let mut connection = connect(&database);
    at_time("08:00:30", || {
        create_schedule("unknown", "* * * * *").execute_blocking(&mut connection)?;
        create_schedule("strict", "* * * * *").execute_blocking(&mut connection)?;
        create_schedule("report", "* * * * *").execute_blocking(&mut connection)
    });
    let app = App::builder(connector(&database).await).task::<report>().task::<strict>().build().unwrap();
    let mut deferrer = app.periodic_deferrer();
    deferrer.defer_due(at("08:01:00")).await;
    assert_eq!(ticks(&database), ["08:01"]);
    change_schedule("strict", "").args(json!({ "customer": 7 })).execute_blocking(&mut connection).unwrap();
    sql(&mut connection, "UPDATE procrastinate_diesel_schedules SET missed_ticks = 'all' WHERE task_name = 'strict'");
    deferrer.defer_due(at("08:02:00")).await;
    assert_eq!(jobs(&mut connection).len(), 4, "the one that was repaired also makes up for the tick that it missed");
}

#[tokio::test]
async fn a_change_counts_from_the_next_tick_and_a_removed_schedule_has_none() {
    let database = database();
    let mut connection = connect(&database);
    at_time("08:00:30", || create_schedule("report", "* * * * *").execute_blocking(&mut connection));
    let mut deferrer = app_with(&database, []).await.periodic_deferrer();
    deferrer.defer_due(at("08:01:00")).await;
    // The new expression would have selected ticks of the last minutes.
    at_time("08:01:30", || change_schedule("report", "").cron("* * * * * */20").execute_blocking(&mut connection));
    deferrer.defer_due(at("08:01:40")).await;
    at_time("08:01:50", || change_schedule("report", "").queue("slow").execute_blocking(&mut connection));
    deferrer.defer_due(at("08:02:00")).await;
    remove_schedule("report", "").execute_blocking(&mut connection).unwrap();
    deferrer.defer_due(at("08:03:00")).await;
    let found: Vec<_> =
        jobs(&mut connection).into_iter().map(|job| (job.queue_name, job.args["timestamp"].clone())).collect();
    let expected = [("reports", "08:01:00"), ("reports", "08:01:40"), ("slow", "08:02:00")];
    assert_eq!(found, expected.map(|(queue, time)| (queue.to_owned(), json!(at(time).timestamp()))));
}

#[tokio::test]
async fn ticks_during_a_pause_are_skipped_by_every_policy() {
    for missed in [MissedTicks::Procrastinate, MissedTicks::Skip, MissedTicks::Last, MissedTicks::All] {
        let database = database();
        let mut connection = connect(&database);
        at_time("08:00:30", || {
            create_schedule("report", "* * * * *").periodic_id("db").missed(missed).execute_blocking(&mut connection)
        });
        let app = app_with(&database, [PeriodicTask::new::<report>("* * * * *").missed(missed)]).await;
        let mut deferrer = app.periodic_deferrer();
        deferrer.defer_due(at("08:00:40")).await;
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
        for id in ["", "db"] {
            at_time("08:00:50", || pause_schedule("report", id).execute_blocking(&mut connection));
        }
        deferrer.defer_due(at("08:03:00")).await;
        // A worker that starts meanwhile, or after that.
        app.periodic_deferrer().defer_due(at("08:03:10")).await;
        assert_eq!(ticks(&database), [""; 0], "{missed:?}");
        for id in ["", "db"] {
            at_time("08:03:30", || resume_schedule("report", id).execute_blocking(&mut connection));
        }
        deferrer.defer_due(at("08:03:40")).await;
        app.periodic_deferrer().defer_due(at("08:03:50")).await;
        assert_eq!(ticks(&database), [""; 0], "{missed:?}");
        deferrer.defer_due(at("08:04:00")).await;
        assert_eq!(ticks(&database), ["08:04", "08:04"], "{missed:?}");
    }
}

#[test]
fn the_database_refuses_the_tick_of_a_schedule_that_has_changed_since_it_was_read() {
    let database = database();
    let mut connection = connect(&database);
    assert_eq!(defer_tick(&mut connection, "08:00:00", "NULL"), ["1 | deferred"]);
    assert_eq!(defer_tick(&mut connection, "08:00:00", "NULL"), ["NULL | already_deferred"]);
    assert_eq!(defer_tick(&mut connection, "08:01:00", "7"), ["NULL | changed"], "it is gone");

    at_time("08:02:00", || create_schedule("report", "* * * * *").execute_blocking(&mut connection));
    let version = |connection: &mut PgConnection| {
        rows(connection, "SELECT version FROM procrastinate_diesel_schedules").remove(0)
    };
    let old = version(&mut connection);
    assert_eq!(defer_tick(&mut connection, "08:03:00", "NULL"), ["NULL | conflict"]);
    assert_eq!(defer_tick(&mut connection, "08:02:00", &old), ["NULL | paused"], "it is not newer than the schedule");
    change_schedule("report", "").priority(1).execute_blocking(&mut connection).unwrap();
    assert_eq!(defer_tick(&mut connection, "08:03:00", &old), ["NULL | changed"]);
    let new = version(&mut connection);
    pause_schedule("report", "").execute_blocking(&mut connection).unwrap();
    assert_eq!(defer_tick(&mut connection, "08:03:00", &new), ["NULL | paused"]);
    at_time("08:02:30", || resume_schedule("report", "").execute_blocking(&mut connection));

    // Somebody changes it and takes long over it. Workers do not wait.
    let mut other = connect(&database);
    sql(&mut other, "BEGIN; UPDATE procrastinate_diesel_schedules SET priority = 2");
    assert_eq!(defer_tick(&mut connection, "08:03:00", &new), ["NULL | locked"]);
    sql(&mut other, "ROLLBACK");
    assert_eq!(defer_tick(&mut connection, "08:03:00", &new), ["2 | deferred"]);

    remove_schedule("report", "").execute_blocking(&mut connection).unwrap();
    at_time("08:02:00", || create_schedule("report", "* * * * *").execute_blocking(&mut connection));
    assert_eq!(defer_tick(&mut connection, "08:04:00", &new), ["NULL | changed"], "it is another one");
}

#[tokio::test]
async fn a_schedule_that_somebody_takes_long_to_change_delays_no_other() {
    let database = database();
    let mut connection = connect(&database);
    at_time("08:00:30", || {
        create_schedule("report", "* * * * *").periodic_id("a").execute_blocking(&mut connection)?;
        create_schedule("report", "* * * * *").periodic_id("b").execute_blocking(&mut connection)
    });
    let mut deferrer = app_with(&database, []).await.periodic_deferrer();
    sql(&mut connection, "BEGIN; UPDATE procrastinate_diesel_schedules SET priority = 2 WHERE periodic_id = 'a'");
    let again_at = deferrer.defer_due(at("08:01:00")).await;
    assert!(again_at < at("08:01:01"), "{again_at}");
    sql(&mut connection, "ROLLBACK");
    assert_eq!(ticks(&database), ["08:01"]);
    deferrer.defer_due(at("08:01:05")).await;
    assert_eq!(ticks(&database), ["08:01", "08:01"]);
}

#[tokio::test]
async fn a_schedule_in_the_database_replaces_one_in_the_code_until_it_is_removed() {
    let database = database();
    let mut connection = connect(&database);
    at_time("08:00:30", || create_schedule("report", "*/2 * * * *").execute_blocking(&mut connection));
    let mut deferrer = app_with(&database, [PeriodicTask::new::<report>("* * * * *")]).await.periodic_deferrer();
    for time in ["08:01:00", "08:02:00", "08:03:00"] {
        deferrer.defer_due(at(time)).await;
    }
    assert_eq!(ticks(&database), ["08:02"]);
    remove_schedule("report", "").execute_blocking(&mut connection).unwrap();
    deferrer.defer_due(at("08:04:00")).await;
    deferrer.defer_due(at("08:05:00")).await;
    assert_eq!(ticks(&database).last().unwrap(), "08:05");
}

#[tokio::test]
async fn a_tick_is_skipped_while_the_last_job_is_pending_or_running() {
    let in_database = database();
    at_time("08:00:30", || {
        create_schedule("report", "* * * * *").overlap(Overlap::Skip).execute_blocking(&mut connect(&in_database))
    });
    skips_overlapping_ticks(&in_database, app_with(&in_database, []).await).await;
    let in_code = database();
    let schedule = PeriodicTask::new::<report>("* * * * *").overlap(Overlap::Skip);
    skips_overlapping_ticks(&in_code, app_with(&in_code, [schedule]).await).await;
}

async fn skips_overlapping_ticks(database: &Database, app: App) {
    let mut connection = connect(database);
    let mut deferrer = app.periodic_deferrer();
    for time in ["08:01:00", "08:02:00"] {
        deferrer.defer_due(at(time)).await;
    }
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'doing'");
    deferrer.defer_due(at("08:03:00")).await;
    assert_eq!(ticks(database), ["08:01"]);
    let claimed = rows(&mut connection, "SELECT defer_timestamp, job_id FROM procrastinate_periodic_defers");
    assert_eq!(claimed, [format!("{} | NULL", at("08:03:00").timestamp())], "claimed, and nothing is left over");
    run_schedule_now("report", "").execute_blocking(&mut connection).unwrap();
    deferrer.defer_due(at("08:03:10")).await;
    assert_eq!(ticks(database), ["08:01"]);
    assert_eq!(rows(&mut connection, "SELECT run_requested_at FROM procrastinate_diesel_schedules"), ["NULL"]);

    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'succeeded'");
    // The tick that was skipped stays skipped.
    app.periodic_deferrer().defer_due(at("08:03:30")).await;
    assert_eq!(ticks(database), ["08:01"]);
    deferrer.defer_due(at("08:04:00")).await;
    assert_eq!(ticks(database), ["08:01", "08:04"]);
}

#[tokio::test]
async fn a_request_becomes_one_job_and_is_no_tick() {
    let database = database();
    let mut connection = connect(&database);
    at_time("08:00:30", || {
        create_schedule("report", "0 9 * * *").priority(7).execute_blocking(&mut connection)?;
        pause_schedule("report", "").execute_blocking(&mut connection)
    });
    let app = app_with(&database, [PeriodicTask::new::<report>("0 9 * * *").periodic_id("code").priority(8)]).await;
    let mut deferrers = [app.periodic_deferrer(), app.periodic_deferrer()];
    for deferrer in &mut deferrers {
        deferrer.defer_due(at("08:10:00")).await;
    }
    for id in ["", "", "code"] {
        run_schedule_now("report", id).execute_blocking(&mut connection).unwrap();
    }
    for deferrer in &mut deferrers {
        deferrer.defer_due(at("08:10:30")).await;
    }
    let mut found: Vec<_> =
        jobs(&mut connection).into_iter().map(|job| (job.priority, job.args["timestamp"].clone())).collect();
    found.sort_by_key(|(priority, _)| *priority);
    let now = json!(at("08:10:30").timestamp());
    assert_eq!(found, [(7, now.clone()), (8, now)]);
    assert_eq!(rows(&mut connection, "SELECT * FROM procrastinate_periodic_defers"), [""; 0]);
    let requests = "SELECT count(*) FROM procrastinate_diesel_schedules WHERE run_requested_at IS NOT NULL";
    assert_eq!(rows(&mut connection, requests), ["0"]);
}

/// Starts a worker, and checks that it uses each change of a schedule within a second.
async fn a_running_worker_uses_changes(listen_notify: bool) {
    let database = database();
    let mut connection = connect(&database);
    let app = app_with(&database, []).await;
    let running = Running::start(app.worker().queues(["not served"]).listen_notify(listen_notify));
    let is_there = "SELECT count(*) FROM procrastinate_workers";
    eventually("the worker has started", || rows(&mut connection, is_there) == ["1"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let yearly = create_schedule("report", "0 0 1 1 *").execute_blocking(&mut connection);
    yearly.unwrap();
    let asked_at = Utc::now();
    run_schedule_now("report", "").execute_blocking(&mut connection).unwrap();
    eventually("the request has become a job", || jobs(&mut connection).len() == 1).await;
    assert!(Utc::now() - asked_at < TimeDelta::seconds(2), "{}", Utc::now() - asked_at);

    change_schedule("report", "").cron("* * * * * *").execute_blocking(&mut connection).unwrap();
    eventually("the new expression is used", || jobs(&mut connection).len() > 2).await;
    pause_schedule("report", "").execute_blocking(&mut connection).unwrap();
    let paused = jobs(&mut connection).len();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(jobs(&mut connection).len(), paused);
    resume_schedule("report", "").execute_blocking(&mut connection).unwrap();
    eventually("it goes on", || jobs(&mut connection).len() > paused).await;
    remove_schedule("report", "").execute_blocking(&mut connection).unwrap();
    let removed = jobs(&mut connection).len();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(jobs(&mut connection).len(), removed);
    running.stop().await.unwrap();

    let timestamps: Vec<_> =
        jobs(&mut connection)[1..].iter().map(|job| job.args["timestamp"].as_i64().unwrap()).collect();
    assert!(timestamps.is_sorted_by(|one, next| one < next), "{timestamps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_uses_changes_within_a_second_of_the_notification() {
    a_running_worker_uses_changes(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_uses_changes_within_a_second_without_notifications() {
    a_running_worker_uses_changes(false).await;
}

#[tokio::test]
async fn the_clock_of_a_test_moves_schedules_of_the_database_too() {
    let memory = InMemoryConnector::new();
    let app = App::builder(memory.clone()).task::<report>().build().unwrap();
    let mut worker = app.test_worker().unwrap().at(at("07:00:00"));
    let tick = |jobs: &procrastinate::testing::JobRuns| -> Vec<DateTime<Utc>> {
        let time = |run: &procrastinate::testing::JobRun| run.job.args["timestamp"].as_i64().unwrap();
        jobs.iter().map(|run| DateTime::from_timestamp(time(run), 0).unwrap()).collect()
    };
    let create = create_schedule("report", "0 * * * *").missed(MissedTicks::All).max_delay(Duration::from_secs(86_400));
    procrastinate::testing::at(at("07:30:00"), app.perform(create)).await.unwrap();
    worker.advance_to(at("09:30:00"));
    let ran = worker.run_until_empty().await.unwrap().expect_success();
    assert_eq!(tick(&ran), [at("08:00:00"), at("09:00:00")]);
    app.perform(run_schedule_now("report", "")).await.unwrap();
    let ran = worker.run_until_empty().await.unwrap().expect_success();
    assert_eq!(tick(&ran), [at("09:30:00")]);
    app.perform(remove_schedule("report", "")).await.unwrap();
    worker.advance_to(at("12:30:00"));
    assert!(worker.run_until_empty().await.unwrap().is_empty());
}
