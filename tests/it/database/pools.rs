//! Pools that have no connection to give: what went wrong is said soon, and nothing hangs.

use std::net::TcpListener;
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8, deadpool};
use procrastinate::{App, DieselConnector, Error, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{connect, database, impatient_pool, jobs, sql, within_patience};

/// How long the pools of these tests wait for a connection.
const SOON: Duration = Duration::from_millis(200);

fn manager(url: &str) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    AsyncDieselConnectionManager::new(url)
}

/// Where no server listens: a port that was free just now.
fn dead_url() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("postgres://postgres@127.0.0.1:{port}/shop")
}

fn dead_bb8() -> DieselConnector {
    DieselConnector::new(bb8::Pool::builder().connection_timeout(SOON).build_unchecked(manager(&dead_url())))
}

fn dead_deadpool() -> DieselConnector {
    DieselConnector::new(deadpool::Pool::builder(manager(&dead_url())).build().unwrap())
}

/// What deferring on the pool fails with.
async fn failure(connector: DieselConnector) -> String {
    let app = App::builder(connector).build().unwrap();
    let error = within_patience(app.defer(configure_task("task", json!({})))).await.unwrap_err();
    assert!(matches!(error, Error::Pool { .. }), "{error:?}");
    error.to_string()
}

fn end_other_connections(database: &Database) {
    sql(
        &mut connect(database),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

#[tokio::test]
async fn an_exhausted_bb8_pool_says_that_its_connections_are_in_use() {
    let database = database();
    let pool = bb8::Pool::builder().max_size(1).connection_timeout(SOON).build(manager(database.url())).await.unwrap();
    let held = pool.get().await.unwrap();
    let message = failure(DieselConnector::new(pool.clone())).await;
    assert!(message.contains("defer the job") && message.contains("all 1 connections"), "{message}");
    assert_eq!(jobs(&mut connect(&database)).len(), 0);

    drop(held);
    let app = App::builder(DieselConnector::new(pool)).build().unwrap();
    app.defer(configure_task("task", json!({}))).await.unwrap();
}

#[tokio::test]
async fn a_dead_server_is_named_by_every_pool_and_by_every_way_to_ask() {
    for connector in [dead_bb8(), dead_deadpool()] {
        let message = failure(connector.clone()).await;
        // diesel-async does not pass on what the operating system said beyond this.
        assert!(message.contains("error connecting to server"), "{message}");

        let app = App::builder(connector.clone()).build().unwrap();
        let worker = within_patience(app.worker().install_signal_handlers(false).run()).await;
        assert!(matches!(worker, Err(Error::Pool { .. })), "{worker:?}");
        let migrated = within_patience(connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS)).await;
        assert!(matches!(migrated, Err(Error::Pool { .. })), "{migrated:?}");
    }
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_replaced_unseen() {
    let database = database();
    let of_deadpool = deadpool::Pool::builder(manager(database.url())).max_size(1).build().unwrap();
    let of_bb8 = impatient_pool(&database, Duration::from_secs(10)).await;
    for connector in [DieselConnector::new(of_deadpool), DieselConnector::new(of_bb8)] {
        let app = App::builder(connector).build().unwrap();
        app.defer(configure_task("before", json!({}))).await.unwrap();
        end_other_connections(&database);
        within_patience(app.defer(configure_task("after", json!({})))).await.unwrap();
    }
    assert_eq!(jobs(&mut connect(&database)).len(), 4);
}
