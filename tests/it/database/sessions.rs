//! Sessions that are of no use although their sockets work, and statements that nobody waits for: their connections are
//! closed, and the pool has room for better ones.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8, deadpool};
use procrastinate::job_manager::{check_connection, finish_job, list_queues};
use procrastinate::{App, DieselConnector, Error, JobId, JobStatus, configure_task, task};
use serde_json::json;
use throwaway_postgres::Database;
use tokio::time::timeout;

use crate::support::{
    Running, connect, database, end_other_connections, eventually, job, jobs, rows, sql, within_patience,
};
use crate::worker::silent_proxy::SilentProxy;

fn manager(url: &str) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    AsyncDieselConnectionManager::new(url)
}

/// Pools of one connection each, which they never renew by themselves.
async fn small_pools(url: &str) -> [DieselConnector; 2] {
    let of_bb8 = bb8::Pool::builder().max_size(1).max_lifetime(None).idle_timeout(None);
    let of_deadpool = deadpool::Pool::builder(manager(url)).max_size(1).build().unwrap();
    [DieselConnector::new(of_bb8.build(manager(url)).await.unwrap()), DieselConnector::new(of_deadpool)]
}

fn set_read_only(connection: &mut PgConnection, database: &Database, is_read_only: bool) {
    sql(
        connection,
        &format!("ALTER DATABASE \"{}\" SET default_transaction_read_only = {is_read_only}", database.name()),
    );
}

/// Makes all sessions but this one read-only ones, and new sessions ordinary ones.
fn make_sessions_read_only(connection: &mut PgConnection, database: &Database) {
    set_read_only(connection, database, true);
    end_other_connections(connection);
}

/// How many sessions there are besides this one.
fn other_sessions(connection: &mut PgConnection) -> String {
    rows(
        connection,
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    .remove(0)
}

#[tokio::test]
async fn a_read_only_session_fails_one_call_and_no_more() {
    let database = database();
    let mut connection = connect(&database);
    for connector in small_pools(database.url()).await {
        let app = App::builder(connector).build().unwrap();
        make_sessions_read_only(&mut connection, &database);
        // Reading works, so the pool sees nothing wrong.
        within_patience(app.perform(list_queues())).await.unwrap();
        set_read_only(&mut connection, &database, false);
        let error = within_patience(app.defer(configure_task("task", json!({})))).await.unwrap_err();
        assert!(error.as_diesel().is_some(), "{error}");
        within_patience(app.defer(configure_task("task", json!({})))).await.unwrap();
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
    }
}

#[tokio::test]
async fn a_session_of_other_settings_fails_one_call_and_no_more() {
    let database = database();
    let mut connection = connect(&database);
    let name = database.name();
    for connector in small_pools(database.url()).await {
        let app = App::builder(connector).build().unwrap();
        sql(&mut connection, &format!("ALTER DATABASE \"{name}\" SET search_path = nowhere"));
        end_other_connections(&mut connection);
        within_patience(app.perform(check_connection())).await.unwrap();
        sql(&mut connection, &format!("ALTER DATABASE \"{name}\" RESET search_path"));
        let error = within_patience(app.defer(configure_task("task", json!({})))).await.unwrap_err();
        assert!(matches!(error, Error::SchemaMissing { .. }), "{error}");
        within_patience(app.defer(configure_task("task", json!({})))).await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_does_not_stay_on_a_read_only_session() {
    #[task]
    async fn be_written_down() {}

    let database = database();
    let mut connection = connect(&database);
    for connector in small_pools(database.url()).await {
        let app = App::builder(connector).task::<be_written_down>().build().unwrap();
        let poll = Duration::from_millis(50);
        let worker = Running::start(app.worker().fetch_job_polling_interval(poll).install_signal_handlers(false));
        let ran_before = be_written_down().defer_blocking(&mut connection).unwrap();
        eventually("it has run a job", || job(&mut connection, ran_before).status == JobStatus::Succeeded).await;

        make_sessions_read_only(&mut connection, &database);
        let id = be_written_down().defer_blocking(&mut connection).unwrap();
        let failures = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        let before = rows(&mut connection, failures);
        eventually("a statement has failed", || rows(&mut connection, failures) != before).await;
        set_read_only(&mut connection, &database, false);
        eventually("it has run the job", || job(&mut connection, id).status == JobStatus::Succeeded).await;
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_violated_constraint_costs_no_connection() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "ALTER TABLE procrastinate_jobs ADD CONSTRAINT no_seven CHECK (priority <> 7)");
    for connector in small_pools(database.url()).await {
        let app = App::builder(connector).build().unwrap();
        let pid = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        within_patience(app.perform(check_connection())).await.unwrap();
        eventually("the sessions of the last pool are gone", || other_sessions(&mut connection) == "1").await;
        let before = rows(&mut connection, pid);
        within_patience(app.defer(configure_task("task", json!({})).priority(7))).await.unwrap_err();
        within_patience(app.perform(finish_job(JobId::from(1), JobStatus::Failed))).await.unwrap_err();
        assert_eq!(rows(&mut connection, pid), before);
        within_patience(app.perform(check_connection())).await.unwrap();
    }
}

#[tokio::test]
async fn an_abandoned_statement_does_not_use_up_a_connection_of_the_pool() {
    let database = database();
    let mut connection = connect(&database);
    for connector in small_pools(database.url()).await {
        let app = App::builder(connector).build().unwrap();
        within_patience(app.perform(check_connection())).await.unwrap();
        sql(&mut connection, "BEGIN; LOCK TABLE procrastinate_jobs");
        let late = timeout(Duration::from_millis(200), app.defer(configure_task("task", json!({})))).await;
        assert!(late.is_err(), "{late:?}");
        // The lock is still there, and so is the statement that waits for it.
        within_patience(app.perform(check_connection())).await.unwrap();
        sql(&mut connection, "ROLLBACK");
        eventually("the connection is closed", || other_sessions(&mut connection) == "1").await;
    }
}

#[tokio::test]
async fn a_statement_without_a_response_does_not_use_up_a_connection_of_the_pool() {
    let database = database();
    let proxy = SilentProxy::start(&database).await;
    // Without a test of connections, which would have no response, either.
    let manager = || {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(proxy.url(), config)
    };
    let of_bb8 = bb8::Pool::builder().max_size(1).build(manager()).await.unwrap();
    let of_deadpool = deadpool::Pool::builder(manager()).max_size(1).build().unwrap();
    for connector in [DieselConnector::new(of_bb8), DieselConnector::new(of_deadpool)] {
        let app = App::builder(connector).build().unwrap();
        within_patience(app.perform(check_connection())).await.unwrap();
        proxy.silence();
        let late = timeout(Duration::from_millis(200), app.perform(list_queues())).await;
        assert!(late.is_err(), "{late:?}");
        within_patience(app.perform(check_connection())).await.unwrap();
        eventually("its connection is closed", || proxy.open() == 1).await;
        drop(app);
        eventually("all are closed", || proxy.open() == 0).await;
    }
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_test_keeps_its_connection_and_its_data_after_a_failed_statement() {
    let database = database();
    let pool = procrastinate::testing::test_pool(database.url()).await.unwrap();
    let app = App::builder(DieselConnector::new(pool)).build().unwrap();
    app.defer(configure_task("task", json!({}))).await.unwrap();
    let late = timeout(Duration::from_nanos(1), app.perform(list_queues())).await;
    assert!(late.is_err());
    assert_eq!(within_patience(app.perform(list_queues())).await.unwrap().len(), 1);
    assert!(jobs(&mut connect(&database)).is_empty());
}
