//! What a worker does besides its jobs: a chore that fails, panics or hangs stops neither the worker nor the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::future::BoxFuture;
use procrastinate::pool::{AsyncPool, PoolError, PooledConnection};
use procrastinate::{App, DieselConnector, Error, JobId, JobStatus, Worker, task};
use throwaway_postgres::Database;

use super::silent_proxy::SilentProxy;
use crate::support::{
    Running, connect, connector, database, end_other_connections, eventually, job, rows, sql, within_patience, workers,
};

/// More than a statement can unlink in half a second.
const MANY: usize = 150_000;

#[task]
async fn be_rescued() {}

/// A worker that checks often, and has short time limits.
fn quick(worker: Worker) -> Worker {
    worker
        .install_signal_handlers(false)
        .update_heartbeat_interval(Duration::from_millis(50))
        .stalled_worker_timeout(Duration::from_secs(2))
}

async fn app(database: &Database) -> App {
    App::builder(connector(database).await).task::<be_rescued>().build().unwrap()
}

/// A job that is running, and whose worker has died.
fn orphan(connection: &mut PgConnection) -> JobId {
    let id = be_rescued().defer_blocking(connection).unwrap();
    sql(
        connection,
        &format!(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour');
             UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers)
             WHERE id = {id}"
        ),
    );
    id
}

/// Links so many finished jobs to a worker.
fn link_jobs(connection: &mut PgConnection, worker_id: i64, number: usize) {
    sql(
        connection,
        &format!(
            "ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER;
             INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)
             SELECT 'default', 'done', 'succeeded', {worker_id} FROM generate_series(1, {number});
             ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER"
        ),
    );
}

async fn is_rescued(connection: &mut PgConnection, id: JobId) {
    eventually("the job is rescued", || job(connection, id).status == JobStatus::Succeeded).await;
    assert_eq!(job(connection, id).attempts, 2);
}

fn limit_statements(connection: &mut PgConnection, database: &Database) {
    sql(connection, &format!("ALTER DATABASE \"{}\" SET statement_timeout = '500ms'", database.name()));
}

// ---- One fails ----

#[tokio::test]
async fn a_worker_starts_and_rescues_although_no_stalled_worker_can_be_pruned() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "ALTER FUNCTION procrastinate_diesel_release_stalled_workers_v1 RENAME TO elsewhere");
    let id = orphan(&mut connection);
    sql(&mut connection, "UPDATE procrastinate_jobs SET worker_id = NULL");
    let worker = Running::start(quick(app(&database).await.worker()));
    is_rescued(&mut connection, id).await;

    let id = orphan(&mut connection);
    sql(&mut connection, "ALTER FUNCTION elsewhere RENAME TO procrastinate_diesel_release_stalled_workers_v1");
    is_rescued(&mut connection, id).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_stops_when_empty_works_although_it_cannot_rescue() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "ALTER FUNCTION procrastinate_diesel_jobs_without_worker_v1 RENAME TO elsewhere");
    orphan(&mut connection);
    let id = be_rescued().defer_blocking(&mut connection).unwrap();
    let worker = quick(app(&database).await.worker()).stop_when_empty();
    within_patience(worker.run()).await.unwrap();
    assert_eq!(job(&mut connection, id).status, JobStatus::Succeeded);
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test]
async fn a_job_that_the_database_refuses_to_release_or_rescue_hides_no_other() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this job stays as it is'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.queue_name = 'kept')
         EXECUTE FUNCTION refuse()",
    );
    // More than are read at once.
    let kept = "INSERT INTO procrastinate_jobs (queue_name, task_name, status) SELECT 'kept', 'be_rescued', 'doing'";
    sql(&mut connection, &format!("{kept} FROM generate_series(1, 1500)"));
    let held = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' RETURNING id";
    rows(&mut connection, "SELECT procrastinate_register_worker_v1()");
    sql(&mut connection, held);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)
         SELECT 'kept', 'be_rescued', 'doing', id FROM procrastinate_workers",
    );
    let id = orphan(&mut connection);
    let worker = Running::start(quick(app(&database).await.worker()));
    is_rescued(&mut connection, id).await;
    worker.stop().await.unwrap();
    let kept = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'kept' AND status = 'doing'";
    assert_eq!(rows(&mut connection, kept), ["1501"]);
    assert_eq!(workers(&mut connection).len(), 1);
}

// ---- Very many jobs ----

#[tokio::test]
async fn a_stalled_worker_with_very_many_finished_jobs_is_pruned_in_steps() {
    let database = database();
    let mut connection = connect(&database);
    let id = orphan(&mut connection);
    let stalled = workers(&mut connection)[0].id;
    link_jobs(&mut connection, stalled, MANY);
    limit_statements(&mut connection, &database);
    let worker = Running::start(quick(app(&database).await.worker()));
    // Long before the rest.
    is_rescued(&mut connection, id).await;
    eventually("it is pruned", || workers(&mut connection).iter().all(|worker| worker.id != stalled)).await;
    worker.stop().await.unwrap();
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test]
async fn a_released_worker_is_told_that_it_is_gone() {
    let database = database();
    let mut connection = connect(&database);
    orphan(&mut connection);
    let stalled = workers(&mut connection)[0].id;
    link_jobs(&mut connection, stalled, 10);
    assert_eq!(
        rows(&mut connection, "SELECT worker_id, is_new FROM procrastinate_diesel_release_stalled_workers_v1(30)"),
        [format!("{stalled} | true")]
    );
    let beat = format!("SELECT * FROM procrastinate_diesel_update_heartbeat_v1({stalled})");
    assert_eq!(rows(&mut connection, &beat), ["0"]);
    let remove = format!("SELECT * FROM procrastinate_diesel_remove_worker_v1({stalled}, 6)");
    assert_eq!(rows(&mut connection, &remove), ["false | 6"]);
    let again = "SELECT worker_id, is_new FROM procrastinate_diesel_release_stalled_workers_v1(30)";
    assert_eq!(rows(&mut connection, again), [format!("{stalled} | false")]);
    assert_eq!(rows(&mut connection, &remove), ["true | 4"]);
    assert_eq!(rows(&mut connection, &remove), ["true | 0"]);
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test]
async fn a_worker_to_which_very_many_jobs_refer_is_unregistered_in_steps() {
    let database = database();
    let mut connection = connect(&database);
    limit_statements(&mut connection, &database);
    let worker = Running::start(app(&database).await.worker().install_signal_handlers(false));
    eventually("it is registered", || workers(&mut connection).len() == 1).await;
    let id = workers(&mut connection)[0].id;
    link_jobs(&mut connection, id, MANY);
    worker.stop().await.unwrap();
    assert!(workers(&mut connection).is_empty());
}

// ---- One panics ----

/// A pool that panics when it is asked for a connection, so many times.
#[derive(Clone)]
struct PanickingPool {
    url: String,
    panics: Arc<AtomicUsize>,
}

impl PanickingPool {
    fn connect(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        let is_left = |left: usize| left.checked_sub(1);
        assert!(self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_left).is_err(), "the pool is cracked");
        Box::pin(async { Ok(AsyncPgConnection::establish(&self.url).await?) })
    }
}

impl AsyncPool for PanickingPool {
    fn get(&self) -> BoxFuture<'_, Result<PooledConnection, PoolError>> {
        let connecting = self.connect();
        Box::pin(async { Ok(PooledConnection::new(Box::new(connecting.await?))) })
    }

    fn dedicated(&self) -> BoxFuture<'_, Result<AsyncPgConnection, PoolError>> {
        self.connect()
    }
}

#[tokio::test]
async fn a_pool_that_panics_is_asked_again() {
    let database = database();
    let mut connection = connect(&database);
    let pool = PanickingPool { url: database.url().to_owned(), panics: Arc::default() };
    let app = App::builder(DieselConnector::new(pool.clone())).task::<be_rescued>().build().unwrap();
    let worker = quick(app.worker()).fetch_job_polling_interval(Duration::from_secs(3_600));
    let worker = Running::start(worker);
    eventually("it is registered", || workers(&mut connection).len() == 1).await;

    // Only the rescuer asks.
    pool.panics.store(3, Ordering::SeqCst);
    eventually("it has panicked", || pool.panics.load(Ordering::SeqCst) == 0).await;
    let id = orphan(&mut connection);
    is_rescued(&mut connection, id).await;

    pool.panics.store(3, Ordering::SeqCst);
    let deferred = within_patience(app.defer(be_rescued())).await;
    assert!(matches!(&deferred, Err(Error::Pool { .. })), "{deferred:?}");
    let message = deferred.unwrap_err().to_string();
    assert!(message.contains("the pool panicked at tests/it/worker/chores.rs"), "{message}");
    // Those who fetch and who send heartbeats ask, too.
    let id = be_rescued().defer_blocking(&mut connection).unwrap();
    end_other_connections(&mut connection);
    eventually("the job has run", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_that_panics_stops_the_worker() {
    let database = database();
    let worker = app(&database).await.worker().install_signal_handlers(false);
    let worker = worker.with_graceful_shutdown(async { panic!("nobody will ever stop this worker") });
    within_patience(worker.run()).await.unwrap();
    assert!(workers(&mut connect(&database)).is_empty());
}

// ---- One hangs ----

#[tokio::test]
async fn a_worker_does_not_wait_for_the_server_without_a_limit_when_it_starts_or_stops() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    let worker = Running::start(quick(app.worker()));
    eventually("it is registered", || workers(&mut connection).len() == 1).await;
    sql(&mut connection, "BEGIN; LOCK TABLE procrastinate_workers");
    worker.stop().await.unwrap();
    let started = within_patience(quick(app.worker()).run()).await;
    assert!(matches!(&started, Err(Error::NoAnswer { action: "register the worker", .. })), "{started:?}");
    sql(&mut connection, "ROLLBACK");
}

#[tokio::test]
async fn rescue_goes_on_after_a_connection_fell_silent() {
    let database = database();
    let mut connection = connect(&database);
    let proxy = SilentProxy::start(&database).await;
    let mut config = ManagerConfig::default();
    // Its test of connections would have no limit.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(proxy.url(), config);
    let pool = bb8::Pool::builder().max_size(3).build(manager).await.unwrap();
    let app = App::builder(DieselConnector::new(pool)).task::<be_rescued>().build().unwrap();
    let worker = Running::start(quick(app.worker()));
    let id = orphan(&mut connection);
    is_rescued(&mut connection, id).await;
    proxy.silence();
    let id = orphan(&mut connection);
    is_rescued(&mut connection, id).await;
    worker.stop().await.unwrap();
}
