//! Workers whose pool goes through PgBouncer.

use std::time::Duration;

use procrastinate::{App, DieselConnector, Error, Worker, task};

use super::pgbouncer::{PgBouncer, Settings};
use super::{connector_before, direct, keeping_statements, ordinary_pool_before};
use crate::end_to_end::a_worker_does_all_that_it_is_there_for;
use crate::support::{Running, connect, database, eventually, jobs, sql, within_patience};

/// So long that only something else can have woken a worker.
const NEVER: Duration = Duration::from_secs(3_600);

/// Jobs are not polled, so they are found by notifications only.
fn listening(worker: Worker) -> Worker {
    worker.fetch_job_polling_interval(NEVER).update_heartbeat_interval(Duration::from_millis(100))
}

fn polling(worker: Worker) -> Worker {
    let soon = Duration::from_millis(100);
    let worker = worker.fetch_job_polling_interval(soon).abort_job_polling_interval(soon);
    worker.update_heartbeat_interval(soon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_direct_connections_a_worker_listens_and_works_without_prepared_statements() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    let connector = connector_before(&pooler).await.dedicated_connections(direct(database.url()));
    a_worker_does_all_that_it_is_there_for(connector, &mut connect(&database), listening).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_direct_connections_a_worker_finds_everything_by_polling() {
    for listens in [true, false] {
        let database = database();
        let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
        let connector = connector_before(&pooler).await;
        a_worker_does_all_that_it_is_there_for(connector, &mut connect(&database), |worker| {
            polling(worker).listen_notify(listens)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_pooler_that_keeps_prepared_statements_the_pool_needs_no_settings() {
    for is_direct in [true, false] {
        let database = database();
        let Some(pooler) = PgBouncer::start(&database, keeping_statements()) else { return };
        let connector = DieselConnector::new(ordinary_pool_before(&pooler).await);
        if is_direct {
            let connector = connector.dedicated_connections(direct(database.url()));
            a_worker_does_all_that_it_is_there_for(connector, &mut connect(&database), listening).await;
        } else {
            // It tries to listen, finds that nothing arrives, and says so.
            a_worker_does_all_that_it_is_there_for(connector, &mut connect(&database), polling).await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_cannot_listen_leaves_no_channels_on_the_connections_of_others() {
    #[task(queue = "work")]
    async fn nothing() {}

    let database = database();
    // One connection for all, so that whatever was left on it is seen.
    let one = Settings { pool_size: 1, ..keeping_statements() };
    let Some(pooler) = PgBouncer::start(&database, one) else { return };
    let connector = DieselConnector::new(ordinary_pool_before(&pooler).await);
    let app = App::builder(connector).task::<nothing>().build().unwrap();
    let worker = Running::start(polling(app.worker().queues(["work"])));
    app.defer(nothing()).await.unwrap();
    eventually("the job has run", || jobs(&mut connect(&database))[0].status == procrastinate::JobStatus::Succeeded)
        .await;

    sql(&mut connect(&database), "CREATE TABLE heard AS SELECT ''::text AS channel WHERE false");
    let mut through = ordinary_pool_before(&pooler).await.dedicated_connection().await.unwrap();
    diesel_async::SimpleAsyncConnection::batch_execute(
        &mut through,
        "INSERT INTO heard SELECT * FROM pg_listening_channels() WHERE pg_listening_channels <> 'procrastinate_diesel_probe'",
    )
    .await
    .unwrap();
    worker.stop().await.unwrap();
    assert_eq!(crate::support::rows(&mut connect(&database), "SELECT * FROM heard"), [""; 0]);
}

#[tokio::test]
async fn listening_is_refused_through_the_pooler_and_works_on_direct_connections() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    let connector = connector_before(&pooler).await;
    let app = App::builder(connector.clone()).build().unwrap();
    let error = within_patience(app.listen_for_jobs(&[])).await.unwrap_err();
    assert!(matches!(error, Error::Listening { .. }), "{error:?}");
    assert!(error.to_string().contains("dedicated_connections"), "{error}");

    let app = app.replace_connector(connector.dedicated_connections(direct(database.url())));
    let mut notifications = within_patience(app.listen_for_jobs(&[])).await.unwrap();
    app.defer(procrastinate::configure_task("task", serde_json::json!({}))).await.unwrap();
    within_patience(notifications.next()).await.unwrap();
}
