//! Pools that have no connection to give, or a closed one: what went wrong is said soon, and nothing hangs.

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError, PoolableConnection, bb8, deadpool};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use procrastinate::job_manager::get_job_status;
use procrastinate::pool::{self, AsyncPool, BoxFuture, PooledConnection};
use procrastinate::{App, DieselConnector, Error, JobStatus, configure_task, task};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{
    Running, connect, database, empty_database, end_other_connections, eventually, impatient_pool, job, jobs, rows,
    sql, within_patience,
};

/// How long the pools of these tests wait for a connection.
const SOON: Duration = Duration::from_millis(200);

fn manager(url: &str) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    AsyncDieselConnectionManager::new(url)
}

/// Where no server listens: a port that was free just now.
pub fn dead_url() -> String {
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

#[tokio::test]
async fn the_error_of_an_exhausted_bb8_pool_says_that_its_connections_are_in_use() {
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
async fn every_pool_and_every_call_names_an_unreachable_server() {
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
        end_other_connections(&mut connect(&database));
        within_patience(app.defer(configure_task("after", json!({})))).await.unwrap();
    }
    assert_eq!(jobs(&mut connect(&database)).len(), 4);
}

// ---- Dedicated connections ----

/// What hooks set, and what a dedicated connection has.
const SETTING: &str = "SET application_name = 'made by the pool'";

fn pool_with_hooks(database: &Database, size: usize) -> deadpool::Pool<AsyncPgConnection> {
    let hook = deadpool::Hook::async_fn(|connection: &mut AsyncPgConnection, _| {
        Box::pin(async {
            connection.batch_execute(SETTING).await.map_err(|error| deadpool::HookError::message(error.to_string()))
        })
    });
    deadpool::Pool::builder(manager(database.url())).max_size(size).post_create(hook).build().unwrap()
}

#[derive(Debug)]
struct Customizer;

impl ::bb8::CustomizeConnection<AsyncPgConnection, PoolError> for Customizer {
    fn on_acquire<'a>(
        &'a self,
        connection: &'a mut AsyncPgConnection,
    ) -> Pin<Box<dyn Future<Output = Result<(), PoolError>> + Send + 'a>> {
        Box::pin(async { connection.batch_execute(SETTING).await.map_err(PoolError::QueryError) })
    }
}

async fn name_of(connection: &mut AsyncPgConnection) -> String {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
    }
    let query = diesel::sql_query("SELECT current_setting('application_name') AS name");
    diesel_async::RunQueryDsl::get_result::<Name>(query, connection).await.unwrap().name
}

#[tokio::test]
async fn a_dedicated_connection_is_made_as_the_pool_makes_its_own() {
    let database = database();
    let of_bb8 = bb8::Pool::builder().max_size(1).connection_customizer(Box::new(Customizer));
    let of_bb8 = of_bb8.build(manager(database.url())).await.unwrap();
    let of_deadpool = pool_with_hooks(&database, 1);
    let mut dedicated = vec![AsyncPool::dedicated(&of_bb8).await.unwrap()];
    for _ in 0..3 {
        dedicated.push(AsyncPool::dedicated(&of_deadpool).await.unwrap());
    }
    for connection in &mut dedicated {
        assert_eq!(name_of(connection).await, "made by the pool");
    }
    // The pool has kept its place.
    let mut held = of_deadpool.get().await.unwrap();
    assert_eq!(name_of(&mut held).await, "made by the pool");
}

#[tokio::test]
async fn a_pool_without_a_free_connection_gives_a_dedicated_one_and_keeps_its_size() {
    let database = database();
    let pool = pool_with_hooks(&database, 2);
    let held = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    let mut dedicated = Vec::new();
    for _ in 0..3 {
        dedicated.push(within_patience(AsyncPool::dedicated(&pool)).await.unwrap());
    }
    assert_eq!(name_of(&mut dedicated[2]).await, "made by the pool");
    let status = pool.status();
    assert_eq!((status.max_size, status.size), (2, 2));
    assert!(tokio::time::timeout(SOON, pool.get()).await.is_err(), "the pool has a third connection");
    drop(held);
    let held = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    assert!(tokio::time::timeout(SOON, pool.get()).await.is_err(), "the pool has a third connection");
    drop(held);
}

#[tokio::test]
async fn a_dedicated_connection_is_never_that_of_a_test() {
    let database = database();
    let hook = deadpool::Hook::async_fn(|connection: &mut AsyncPgConnection, _| {
        Box::pin(async {
            let begun = connection.begin_test_transaction().await;
            begun.map_err(|error| deadpool::HookError::message(error.to_string()))
        })
    });
    let pool = deadpool::Pool::builder(manager(database.url())).max_size(1).post_create(hook).build().unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).build().unwrap();
    let id = app.defer(configure_task("task", json!({}))).await.unwrap();
    for _ in 0..2 {
        let _dedicated = within_patience(AsyncPool::dedicated(&pool)).await.unwrap();
    }
    assert_eq!(app.perform(get_job_status(id)).await.unwrap(), Some(JobStatus::Todo));
    assert!(jobs(&mut connect(&database)).is_empty());
}

#[tokio::test]
async fn a_hook_that_fails_is_named_and_leaves_the_pool_as_it_was() {
    let database = database();
    let hook = deadpool::Hook::sync_fn(|_: &mut AsyncPgConnection, _| Err(deadpool::HookError::message("no luck")));
    let pool = deadpool::Pool::builder(manager(database.url())).max_size(1).post_create(hook).build().unwrap();
    for _ in 0..3 {
        let Err(error) = within_patience(AsyncPool::dedicated(&pool)).await else { panic!("connected") };
        assert!(error.to_string().contains("no luck"), "{error}");
    }
    assert_eq!(pool.status().max_size, 1);
    pool.close();
    let Err(error) = within_patience(AsyncPool::dedicated(&pool)).await else { panic!("connected") };
    assert!(error.to_string().contains("closed"), "{error}");
}

#[tokio::test]
async fn migrations_and_workers_use_the_schema_that_a_hook_sets() {
    #[task]
    async fn stay_in_the_schema() {}

    let database = empty_database();
    let mut connection = connect(&database);
    sql(&mut connection, "CREATE SCHEMA shop; SET search_path = shop");
    let hook = deadpool::Hook::async_fn(|connection: &mut AsyncPgConnection, _| {
        Box::pin(async {
            let set = connection.batch_execute("SET search_path = shop").await;
            set.map_err(|error| deadpool::HookError::message(error.to_string()))
        })
    });
    let pool = deadpool::Pool::builder(manager(database.url())).max_size(1).post_create(hook).build().unwrap();
    let app = App::builder(DieselConnector::new(pool)).task::<stay_in_the_schema>().build().unwrap();
    app.connector().run_pending_migrations(procrastinate::migrations::MIGRATIONS).await.unwrap();
    let id = app.defer(stay_in_the_schema()).await.unwrap();
    let beat = Duration::from_millis(20);
    let worker = Running::start(app.worker().install_signal_handlers(false).update_heartbeat_interval(beat));
    eventually("the job has run", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    let has_beaten = "SELECT id FROM shop.procrastinate_workers WHERE last_heartbeat > (
        SELECT max(at) FROM shop.procrastinate_events)";
    eventually("a heartbeat arrives", || !rows(&mut connection, has_beaten).is_empty()).await;
    worker.stop().await.unwrap();
    let in_public = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(rows(&mut connection, in_public), [""; 0]);
}

/// A pool that lends connections in this order, without a test, and then opens new ones.
struct Untested {
    url: String,
    idle: Mutex<Vec<AsyncPgConnection>>,
}

impl AsyncPool for Untested {
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, pool::PoolError>> {
        Box::pin(async {
            let idle = self.idle.lock().unwrap().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => self.dedicated().await?,
            };
            Ok(PooledConnection::new(Box::new(connection)))
        })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, pool::PoolError>> {
        Box::pin(async { Ok(AsyncPgConnection::establish(&self.url).await?) })
    }
}

#[tokio::test]
async fn closed_connections_of_a_pool_that_does_not_test_them_are_not_used() {
    let database = database();
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(AsyncPgConnection::establish(database.url()).await.unwrap());
    }
    end_other_connections(&mut connect(&database));
    eventually("all are closed", || idle.iter_mut().all(PoolableConnection::is_broken)).await;
    let untested = Untested { url: database.url().to_owned(), idle: Mutex::new(idle) };
    let app = App::builder(DieselConnector::new(untested)).build().unwrap();
    app.defer(configure_task("task", json!({}))).await.unwrap();
    assert_eq!(jobs(&mut connect(&database)).len(), 1);
}
