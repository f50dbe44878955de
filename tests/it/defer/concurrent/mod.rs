//! Jobs that one program defers at the same time, each on its own: stored in one transaction, announced in another.

use std::collections::BTreeSet;

use chrono::{Duration, Utc};
use diesel::prelude::*;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::join_all;
use procrastinate::testing::test_pool;
use procrastinate::{App, DieselConnector, JobId, task};
use throwaway_postgres::Database;

use crate::support::{connect, connector, database, events, eventually, job, rows, sql};

#[task(queue = "mails")]
async fn send(to: i64) {
    let _ = to;
}

/// A connection that listens for new jobs.
fn listener(database: &Database) -> PgConnection {
    let mut listener = connect(database);
    sql(&mut listener, "LISTEN \"procrastinate_queue_v1#mails\"; LISTEN procrastinate_any_queue_v1");
    listener
}

/// The channels and the jobs of what has come in, in their order.
fn heard(listener: &mut PgConnection) -> Vec<(String, i64)> {
    rows(listener, "SELECT 1");
    let of = |payload: &str| serde_json::from_str::<serde_json::Value>(payload).unwrap()["job_id"].as_i64().unwrap();
    listener
        .notifications_iter()
        .map(|notification| notification.unwrap())
        .map(|notification| (notification.channel, of(&notification.payload)))
        .collect()
}

/// Waits until both channels have announced this many jobs, and returns them.
async fn announced(listener: &mut PgConnection, count: usize) -> BTreeSet<i64> {
    let mut told = Vec::new();
    eventually("all are announced", || {
        told.append(&mut heard(listener));
        told.len() >= 2 * count
    })
    .await;
    let of = |name: &str| told.iter().filter(|(channel, _)| channel == name).map(|(_, job)| *job).collect();
    let (queue, any): (BTreeSet<_>, BTreeSet<_>) =
        (of("procrastinate_queue_v1#mails"), of("procrastinate_any_queue_v1"));
    assert_eq!(queue, any);
    queue
}

fn numbers(ids: &[JobId]) -> BTreeSet<i64> {
    ids.iter().map(|id| i64::from(*id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_all_stored_with_their_events_and_announced() {
    let database = database();
    let mut listener = listener(&database);
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    let later = Utc::now() + Duration::hours(1);
    let plain = join_all((0..30).map(|n| app.defer(send(n).lock("one").priority(4))));
    let scheduled = app.defer(send(99).schedule_at(later));
    let (plain, scheduled) = tokio::join!(plain, scheduled);
    let mut ids: Vec<JobId> = plain.into_iter().collect::<Result<_, _>>().unwrap();

    let mut connection = connect(&database);
    for (n, id) in ids.iter().enumerate() {
        let job = job(&mut connection, *id);
        assert_eq!((job.args["to"].as_u64(), job.lock.as_deref(), job.priority), (Some(n as u64), Some("one"), 4));
        assert_eq!(events(&mut connection, *id), ["deferred"]);
    }
    let scheduled = scheduled.unwrap();
    assert_eq!(events(&mut connection, scheduled), ["scheduled", "deferred"]);
    ids.push(scheduled);
    assert_eq!(announced(&mut listener, 31).await, numbers(&ids));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_those_with_the_same_queueing_lock_is_deferred() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    let results = join_all((0..20).map(|n| app.defer(send(n).queueing_lock("only once")))).await;
    let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(errors.len(), 19);
    assert!(errors.iter().all(|error| error.is_already_enqueued()), "{errors:?}");
    assert_eq!(rows(&mut connect(&database), "SELECT count(*) FROM procrastinate_jobs"), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_announced_even_if_the_callers_are_dropped() {
    let database = database();
    let mut listener = listener(&database);
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    // Both connect and are in each other's company; neither can store before the lock is released.
    app.batch_defer([send(0)]).await.unwrap();
    assert_eq!(announced(&mut listener, 1).await.len(), 1);
    let mut holder = connect(&database);
    sql(&mut holder, "BEGIN; LOCK TABLE procrastinate_jobs IN SHARE MODE");
    let both = tokio::spawn(async move { tokio::join!(app.defer(send(1)), app.defer(send(2))) });
    let mut look = connect(&database);
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'procrastinate_jobs'::regclass";
    eventually("both wait", || rows(&mut look, waiting) == ["2"]).await;
    both.abort();
    assert!(both.await.unwrap_err().is_cancelled());
    assert!(heard(&mut listener).is_empty());

    sql(&mut holder, "COMMIT");
    assert_eq!(announced(&mut listener, 2).await.len(), 2);
    assert_eq!(rows(&mut look, "SELECT count(*) FROM procrastinate_jobs"), ["3"]);
}

#[tokio::test]
async fn in_a_transaction_of_the_connections_they_are_part_of_it_and_it_stays_durable() {
    let database = database();
    let pool = test_pool(database.url()).await.unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).task::<send>().build().unwrap();
    let mut listener = listener(&database);
    let mut connection = pool.get().await.unwrap();
    connection.batch_execute("SET synchronous_commit = on").await.unwrap();
    drop(connection);
    for result in join_all((0..5).map(|n| app.defer(send(n)))).await {
        result.unwrap();
    }
    let mut connection = pool.get().await.unwrap();
    let durable = diesel::dsl::sql::<diesel::sql_types::Text>("SELECT current_setting('synchronous_commit')");
    assert_eq!(durable.get_result::<String>(&mut connection).await.unwrap(), "on");
    drop(connection);
    drop((app, pool));
    eventually("the transaction is rolled back", || {
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
        rows(&mut listener, others) == ["0"]
    })
    .await;
    assert!(heard(&mut listener).is_empty());
    assert_eq!(rows(&mut listener, "SELECT count(*) FROM procrastinate_jobs"), ["0"]);
}
