//! What a periodic task does where something is in its way.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DieselConnector, JobStatus, PeriodicDeferrer, PeriodicTask, task};

use super::deferring::{app_with, at, ticks};
use crate::support::{
    close_database, connect, database, impatient_pool, open_database, rows, sql, statuses, within_patience,
};

#[task]
async fn report(timestamp: i64) {
    let _ = timestamp;
}

/// Defers what is due until nothing fails any more: a new connection may take longer than the pool has patience.
async fn defer_all(deferrer: &mut PeriodicDeferrer, now: &str, next_tick: &str) {
    let done = async { while deferrer.defer_due(at(now)).await != at(next_tick) {} };
    within_patience(done).await;
}

fn every_minute(periodic_id: &str) -> PeriodicTask {
    PeriodicTask::new::<report>("* * * * *").periodic_id(periodic_id)
}

#[tokio::test]
async fn a_tick_whose_queueing_lock_is_taken_is_skipped_and_delays_no_other() {
    let database = database();
    let app = app_with(&database, [every_minute("a").queueing_lock("one"), every_minute("b")]).await;
    let mut deferrer = app.periodic_deferrer();
    let mut connection = connect(&database);

    deferrer.defer_due(at("08:00:00")).await;
    deferrer.defer_due(at("08:01:00")).await;
    assert_eq!(ticks(&database), ["08:00", "08:00", "08:01"]);
    // It leaves nothing behind, so it is nobody's: as it is there.
    let rows =
        rows(&mut connection, "SELECT periodic_id, defer_timestamp FROM procrastinate_periodic_defers ORDER BY 1");
    assert_eq!(rows, [format!("a | {}", at("08:00:00").timestamp()), format!("b | {}", at("08:01:00").timestamp())]);

    // Once the lock is free, the next one is deferred, and the one that was left out is not.
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'succeeded'");
    let again_at = deferrer.defer_due(at("08:01:30")).await;
    assert_eq!((again_at, ticks(&database).len()), (at("08:02:00"), 3));
    deferrer.defer_due(at("08:02:00")).await;
    assert_eq!(ticks(&database), ["08:00", "08:00", "08:01", "08:02", "08:02"]);
}

#[tokio::test]
async fn a_taken_queueing_lock_does_not_break_a_transaction() {
    let database = database();
    let mut connection = connect(&database);
    let tick = |timestamp: i64| {
        format!(
            "SELECT * FROM procrastinate_diesel_defer_periodic_job_v1(
                 'default', NULL, 'one', 'report', 0, '', {timestamp}, '{{}}')"
        )
    };
    sql(&mut connection, "BEGIN");
    assert_eq!(rows(&mut connection, &tick(60)), ["1 | false"]);
    assert_eq!(rows(&mut connection, &tick(120)), ["NULL | true"]);
    // This tick and an older one.
    assert_eq!(rows(&mut connection, &tick(60)), ["NULL | false"]);
    assert_eq!(rows(&mut connection, &tick(0)), ["NULL | false"]);
    sql(&mut connection, "COMMIT");
    assert_eq!(statuses(&mut connection), [JobStatus::Todo]);
}

#[tokio::test]
async fn ticks_wait_while_the_database_is_unreachable() {
    let database = database();
    let connector = DieselConnector::new(impatient_pool(&database, Duration::from_millis(300)).await);
    let schedules = [every_minute("a"), every_minute("b")];
    let builder = App::builder(connector).task::<report>();
    let app = schedules.into_iter().fold(builder, procrastinate::AppBuilder::periodic).build().unwrap();
    let mut deferrer = app.periodic_deferrer();
    defer_all(&mut deferrer, "08:00:00", "08:01:00").await;

    close_database(&database, &mut connect(&database)).await;
    for time in ["08:01:00", "08:02:00", "08:02:30", "08:12:00.5"] {
        let again_at = deferrer.defer_due(at(time)).await;
        assert!(again_at > at(time) && again_at <= at(time) + chrono::TimeDelta::seconds(5), "{again_at}");
    }
    open_database(&database);

    defer_all(&mut deferrer, "08:12:01", "08:13:00").await;
    // Those that have waited for more than ten minutes are given up.
    let expected: Vec<String> = std::iter::once(0).chain(3..=12).map(|minute| format!("08:{minute:02}")).collect();
    let mut found = ticks(&database);
    found.sort();
    let twice: Vec<String> = expected.iter().flat_map(|tick| [tick.clone(), tick.clone()]).collect();
    assert_eq!(found, twice);
}

#[tokio::test]
async fn ticks_wait_while_the_only_connection_of_the_pool_is_in_use() {
    let database = database();
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(1).connection_timeout(Duration::from_secs(1)).build(manager).await.unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).task::<report>().periodic(every_minute(""));
    let mut deferrer = app.build().unwrap().periodic_deferrer();

    let taken = loop {
        if let Ok(taken) = pool.get().await {
            break taken;
        }
    };
    deferrer.defer_due(at("08:00:00")).await;
    assert_eq!(ticks(&database), [""; 0]);
    drop(taken);

    defer_all(&mut deferrer, "08:00:01", "08:01:00").await;
    assert_eq!(ticks(&database), ["08:00"]);
}

#[tokio::test]
async fn a_schedule_that_the_database_refuses_delays_no_other() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "ALTER TABLE procrastinate_periodic_defers ADD CONSTRAINT no_a CHECK (periodic_id <> 'a')");
    let app = app_with(&database, [every_minute("a"), every_minute("b")]).await;
    let mut deferrer = app.periodic_deferrer();
    for time in ["08:00:00", "08:01:00"] {
        let again_at = deferrer.defer_due(at(time)).await;
        assert!(again_at <= at(time) + chrono::TimeDelta::seconds(5), "{again_at}");
    }
    assert_eq!(ticks(&database), ["08:00", "08:01"]);

    sql(&mut connection, "ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT no_a");
    deferrer.defer_due(at("08:01:05")).await;
    assert_eq!(ticks(&database), ["08:00", "08:01", "08:00", "08:01"]);
}
