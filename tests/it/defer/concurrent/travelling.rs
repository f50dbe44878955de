//! Which jobs travel together.

use chrono::{Duration, Utc};
use diesel::prelude::*;
use futures_util::future::join_all;
use procrastinate::testing::test_pool;
use procrastinate::{App, DieselConnector, JobId};

use super::{Held, send, start};
use crate::support::{connect, connector, database, events, eventually, job, rows, sql, within_patience};

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

#[tokio::test]
async fn calls_that_come_while_a_statement_is_in_flight_travel_in_the_next_one() {
    let mut held = Held::new().await;
    let mut listener = connect(&held.database);
    sql(
        &mut listener,
        "LISTEN \"procrastinate_queue_v1#mails\"; LISTEN \"procrastinate_queue_v1#other\"; LISTEN procrastinate_any_queue_v1",
    );
    let first = held.first(send(0)).await;
    let app = held.app.clone();
    let later = Utc::now() + Duration::hours(1);
    let scheduled = send(98).schedule_at(later).queue("other");
    let jobs = (1..=98).map(|n| send(n).lock("one").priority(4)).chain([scheduled, send(99).queue("other")]);
    let calls = start(&app, jobs);
    assert!(heard(&mut listener).is_empty());
    held.release();
    let first = first.await.unwrap().unwrap();
    let ids: Vec<JobId> = join_all(calls).await.into_iter().collect::<Result<_, _>>().unwrap();

    assert_eq!(held.statements(), ["1", "100"]);
    assert!(first < ids[0] && ids.is_sorted(), "{ids:?}");
    let mut connection = connect(&held.database);
    for (n, id) in (1..=98_u64).zip(&ids) {
        let job = job(&mut connection, *id);
        assert_eq!((job.args["to"].as_u64(), job.lock.as_deref(), job.priority), (Some(n), Some("one"), 4));
        assert_eq!(events(&mut connection, *id), ["deferred"]);
    }
    assert_eq!(events(&mut connection, ids[98]), ["scheduled", "deferred"]);
    // One notification for each queue and statement.
    let [mails, other, any] =
        ["procrastinate_queue_v1#mails", "procrastinate_queue_v1#other", "procrastinate_any_queue_v1"]
            .map(str::to_owned);
    let [first, second, third] = [first, ids[0], ids[98]].map(i64::from);
    let expected = [(&mails, first), (&any, first), (&mails, second), (&any, second), (&other, third), (&any, third)];
    assert_eq!(heard(&mut listener), expected.map(|(channel, id)| (channel.clone(), id)));
}

#[tokio::test]
async fn calls_that_come_while_the_first_one_gets_its_connection_travel_with_it() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    let ids = join_all((0..10).map(|n| app.defer(send(n)))).await;
    assert!(ids.iter().all(Result::is_ok), "{ids:?}");
    let transactions = "SELECT count(DISTINCT xmin::text) FROM procrastinate_jobs";
    assert_eq!(rows(&mut connect(&database), transactions), ["1"]);
}

#[tokio::test]
async fn a_statement_has_at_most_a_thousand_jobs_and_four_megabytes() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    let app = held.app.clone();
    let calls = start(&app, (0..1_001).map(send));
    held.release();
    first.await.unwrap().unwrap();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(held.statements(), ["1", "1000", "1"]);

    sql(&mut held.holder, "DELETE FROM procrastinate_jobs");
    held.hold();
    let first = held.first(send(0)).await;
    let megabytes = |n: usize| {
        let text = "x".repeat(n << 20);
        procrastinate::configure_task("send", serde_json::json!({ "to": text }))
    };
    let calls = start(&app, [1, 2, 3, 1, 5, 1].map(megabytes));
    held.release();
    first.await.unwrap().unwrap();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(held.statements(), ["1", "2", "1", "1", "1", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_of_many_producers_is_stored_once_and_in_the_order_of_its_producer() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    let producers = (0..100).map(|producer| {
        let app = app.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for n in 0..10 {
                ids.push(app.defer(send(10 * producer + n)).await.unwrap());
            }
            ids
        })
    });
    let mut all = Vec::new();
    for ids in within_patience(join_all(producers)).await {
        let ids = ids.unwrap();
        assert!(ids.is_sorted(), "{ids:?}");
        all.extend(ids);
    }
    let mut connection = connect(&database);
    for (n, id) in all.iter().enumerate() {
        assert_eq!(job(&mut connection, *id).args["to"], n);
    }
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), ["1000"]);
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_events WHERE type = 'deferred'"), ["1000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_block_on_a_call_travel_together_too() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    let runtime = tokio::runtime::Handle::current();
    let waiting = std::sync::Arc::new(tokio::sync::Barrier::new(6));
    let threads: Vec<_> = (1..=5)
        .map(|n| {
            let (app, runtime, waiting) = (held.app.clone(), runtime.clone(), waiting.clone());
            tokio::task::spawn_blocking(move || {
                runtime.block_on(async move {
                    let [call] = <[_; 1]>::try_from(start(&app, [send(n)])).unwrap_or_else(|_| unreachable!());
                    waiting.wait().await;
                    call.await
                })
            })
        })
        .collect();
    waiting.wait().await;
    held.release();
    first.await.unwrap().unwrap();
    for thread in threads {
        within_patience(thread).await.unwrap().unwrap();
    }
    assert_eq!(held.statements(), ["1", "5"]);
}

#[tokio::test]
async fn in_a_transaction_of_the_connection_they_are_part_of_it() {
    let database = database();
    let pool = test_pool(database.url()).await.unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).task::<send>().build().unwrap();
    let mut listener = connect(&database);
    sql(&mut listener, "LISTEN procrastinate_any_queue_v1");
    let results = join_all((0..5).map(|n| app.defer(send(n).queueing_lock(format!("lock {}", n % 3))))).await;
    let are_stored: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(are_stored, [true, true, true, false, false]);
    let mut connection = pool.get().await.unwrap();
    let stored = procrastinate::schema::procrastinate_jobs::table.count();
    assert_eq!(diesel_async::RunQueryDsl::get_result::<i64>(stored, &mut connection).await.unwrap(), 3);
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

#[tokio::test]
async fn in_a_transaction_of_the_connection_the_reason_of_a_refusal_is_told() {
    let database = database();
    sql(&mut connect(&database), "ALTER TABLE procrastinate_jobs ADD CONSTRAINT not_urgent CHECK (priority < 100)");
    let pool = test_pool(database.url()).await.unwrap();
    let app = App::builder(DieselConnector::new(pool)).task::<send>().build().unwrap();
    let results = join_all([send(1), send(2).priority(100), send(3)].map(|job| app.defer(job))).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert!(results[1].as_ref().is_err_and(|error| error.to_string().contains("not_urgent")), "{results:?}");
    assert!(results[2].is_err(), "{results:?}");
}
