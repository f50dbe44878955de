//! An idle worker: how it is notified of jobs, that it sends heartbeats, and how it stops.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use procrastinate::{App, DieselConnector, Error, JobStatus, task};
use throwaway_postgres::Database;
use tokio::sync::Notify;

use crate::support::{
    Running, connect, connector, database, empty_database, eventually, sql, statuses, within_patience, workers,
};

/// So long that only something else can have woken a worker.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn an_idle_worker_is_notified_on_its_queues_channel() {
    static RAN: Notify = Notify::const_new();

    #[task(queue = "heard")]
    async fn ring() {
        RAN.notify_one();
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<ring>().build().unwrap();
    app.defer(ring()).await.unwrap();
    let worker = Running::start(app.worker().queues(["heard", "other"]).fetch_job_polling_interval(NEVER));
    within_patience(RAN.notified()).await;
    // The worker has looked at the table now, and waits, or is about to; it must not miss this one either way.
    for _ in 0..20 {
        app.defer(ring()).await.unwrap();
        within_patience(RAN.notified()).await;
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_worker_of_all_queues_or_a_queue_with_a_long_name_is_notified() {
    static RAN: Notify = Notify::const_new();

    #[task]
    async fn ring_loudly() {
        RAN.notify_one();
    }

    let long = "a queue with a name that does not fit into the name of a channel of its own".to_owned();
    let database = database();
    let app = App::builder(connector(&database).await).task::<ring_loudly>().build().unwrap();
    for worker in [app.worker(), app.worker().queues([&long])] {
        app.defer(ring_loudly().queue(&long)).await.unwrap();
        let worker = Running::start(worker.fetch_job_polling_interval(NEVER));
        within_patience(RAN.notified()).await;
        app.defer(ring_loudly().queue(&long)).await.unwrap();
        within_patience(RAN.notified()).await;
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn without_notifications_polling_finds_jobs() {
    static RAN: Notify = Notify::const_new();

    #[task]
    async fn wait_for_poll() {
        RAN.notify_one();
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<wait_for_poll>().build().unwrap();
    let worker = app.worker().listen_notify(false).fetch_job_polling_interval(Duration::from_millis(20));
    let worker = Running::start(worker);
    for _ in 0..2 {
        app.defer(wait_for_poll()).await.unwrap();
        within_patience(RAN.notified()).await;
    }
    worker.stop().await.unwrap();
}

async fn pool_of_one(database: &Database) -> bb8::Pool<AsyncPgConnection> {
    let manager = AsyncDieselConnectionManager::new(database.url());
    bb8::Pool::builder().max_size(1).connection_timeout(Duration::from_secs(5)).build(manager).await.unwrap()
}

#[tokio::test]
async fn an_idle_worker_that_polls_all_the_time_leaves_the_connection_to_others() {
    let database = database();
    let pool = pool_of_one(&database).await;
    let app = App::builder(DieselConnector::new(pool.clone())).build().unwrap();
    let worker = app.worker().listen_notify(false).fetch_job_polling_interval(Duration::from_millis(20));
    let worker = Running::start(worker);
    for _ in 0..3 {
        eventually("the worker polls", || pool.state().idle_connections == 0).await;
        drop(pool.get().await.unwrap());
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_pool_of_one_connection_is_enough() {
    static RAN: Notify = Notify::const_new();

    #[task]
    async fn modest() {
        RAN.notify_one();
    }

    let database = database();
    let pool = pool_of_one(&database).await;
    let app = App::builder(DieselConnector::new(pool)).task::<modest>().build().unwrap();
    let worker = app.worker().concurrency(4).update_heartbeat_interval(Duration::from_millis(5));
    let worker = Running::start(worker);
    for _ in 0..20 {
        app.defer(modest()).await.unwrap();
        within_patience(RAN.notified()).await;
    }
    worker.stop().await.unwrap();
    assert_eq!(statuses(&mut connect(&database)), vec![JobStatus::Succeeded; 20]);
}

#[tokio::test]
async fn a_worker_is_registered_while_it_runs_and_sends_heartbeats() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).build().unwrap();
    let worker = Running::start(app.worker().update_heartbeat_interval(Duration::from_millis(20)));
    eventually("it is registered", || workers(&mut connection).len() == 1).await;
    let first = workers(&mut connection)[0].clone();
    eventually("its heart beats", || workers(&mut connection)[0].last_heartbeat > first.last_heartbeat).await;
    worker.stop().await.unwrap();
    assert_eq!(workers(&mut connection), []);
}

#[tokio::test]
async fn a_starting_worker_prunes_dead_workers_and_no_others() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '31 s'), (now() - interval '20 s')",
    );
    let app = App::builder(connector(&database).await).build().unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(workers(&mut connection).iter().map(|worker| worker.id).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_its_jobs_and_fetches_no_more() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn finish_in_peace() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<finish_in_peace>().build().unwrap();
    app.batch_defer([finish_in_peace(), finish_in_peace()]).await.unwrap();
    let worker = Running::start(app.worker());
    within_patience(STARTED.notified()).await;

    let stopped = worker.ask_to_stop();
    assert_eq!(workers(&mut connection).len(), 1, "it is registered until its jobs have ended");
    GO_ON.notify_one();
    within_patience(stopped).await.unwrap().unwrap();

    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Todo]);
    assert_eq!(workers(&mut connection), []);
}

#[tokio::test]
async fn invalid_settings_are_refused() {
    let database = database();
    let app = App::builder(connector(&database).await).build().unwrap();
    let zero = Duration::ZERO;
    for (worker, expected) in [
        (app.worker().concurrency(0), r#"invalid concurrency "0": must be from 1 to"#),
        (app.worker().queues([""; 0]), r#"invalid queues "": must name at least one queue"#),
        (app.worker().queues(["x".repeat(129)]), "must be at most 128 bytes, but is 129"),
        (app.worker().fetch_job_polling_interval(zero), "invalid fetch_job_polling_interval \"0s\""),
        (app.worker().update_heartbeat_interval(zero), "invalid update_heartbeat_interval \"0s\""),
        (app.worker().fetch_job_polling_interval(Duration::MAX), "must be at most 1,000 years"),
        (app.worker().stalled_worker_timeout(Duration::MAX), "must be at most 1,000 years"),
        (app.worker().stalled_worker_timeout(Duration::from_secs(10)), "longer than update_heartbeat_interval (10s)"),
    ] {
        let error = worker.run().await.unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_worker_on_a_database_without_the_queue_fails_with_advice() {
    let database = empty_database();
    let app = App::builder(connector(&database).await).build().unwrap();
    let error = app.worker().run().await.unwrap_err();
    assert!(matches!(error, Error::SchemaMissing { .. }), "{error}");
    assert!(error.to_string().contains("run the migrations of the procrastinate crate"), "{error}");
}
