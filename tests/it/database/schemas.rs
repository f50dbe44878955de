//! Two queues in two schemas of one database, with workers at the same time. They share the channels of notifications
//! and nothing else.

use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::cancel_job;
use procrastinate::migrations::MIGRATIONS;
use procrastinate::{App, DieselConnector, JobContext, JobId, JobStatus, task};
use throwaway_postgres::Database;
use tokio::sync::Notify;

use crate::support::{Running, connect, empty_database, events, eventually, job, jobs, rows, sql, within_patience};

/// So long that only something else can have woken a worker.
const NEVER: Duration = Duration::from_secs(3_600);

/// One of the two queues.
struct Queue {
    app: App,
    stage: Arc<Stage>,
    connection: PgConnection,
}

#[derive(Default)]
struct Stage {
    holding: Notify,
    go_on: Notify,
    noted: Notify,
}

#[task(pass_context)]
async fn note(context: JobContext) -> Result<(), procrastinate::Error> {
    context.state::<Arc<Stage>>()?.noted.notify_one();
    Ok(())
}

#[task(pass_context)]
async fn hold(context: JobContext) -> Result<(), procrastinate::Error> {
    let stage: &Arc<Stage> = context.state()?;
    stage.holding.notify_one();
    stage.go_on.notified().await;
    Ok(())
}

/// A queue in a schema of its own, found by the `search_path` of its pool.
async fn queue_in(schema: &str, database: &Database) -> Queue {
    let mut connection = connect(database);
    sql(&mut connection, &format!("CREATE SCHEMA {schema}; SET search_path TO {schema}"));
    let separator = if database.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}options=-csearch_path%3D{schema}", database.url());
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(&url);
    let connector = DieselConnector::new(Pool::builder().max_size(3).build(manager).await.unwrap());
    connector.run_pending_migrations(MIGRATIONS).await.unwrap();
    let stage = Arc::new(Stage::default());
    let app = App::builder(connector).state(stage.clone()).task::<note>().task::<hold>().build().unwrap();
    Queue { app, stage, connection }
}

impl Queue {
    /// A worker that polls so seldom that it is only woken.
    fn start_worker(&self) -> Running {
        let worker = self.app.worker().concurrency(2).fetch_job_polling_interval(NEVER);
        Running::start(worker.abort_job_polling_interval(NEVER).update_heartbeat_interval(Duration::from_secs(10)))
    }

    async fn hold_a_job(&self) -> JobId {
        let id = self.app.defer(hold()).await.unwrap();
        within_patience(self.stage.holding.notified()).await;
        id
    }
}

#[tokio::test]
async fn each_worker_runs_the_jobs_of_its_own_schema_and_no_others() {
    let database = empty_database();
    let mut first = queue_in("first", &database).await;
    let mut second = queue_in("second", &database).await;
    let workers = [first.start_worker(), second.start_worker()];
    for queue in [&first, &second, &first] {
        queue.app.defer(note().lock("same").queueing_lock("same")).await.unwrap();
        within_patience(queue.stage.noted.notified()).await;
    }
    for worker in workers {
        worker.stop().await.unwrap();
    }
    let ends =
        |connection: &mut PgConnection| -> Vec<_> { jobs(connection).into_iter().map(|job| job.status).collect() };
    assert_eq!(ends(&mut first.connection), vec![JobStatus::Succeeded; 2]);
    assert_eq!(ends(&mut second.connection), vec![JobStatus::Succeeded; 1]);
    let registered = "SELECT last_value FROM procrastinate_workers_id_seq";
    assert_eq!(rows(&mut first.connection, registered), ["1"]);
    assert_eq!(rows(&mut second.connection, registered), ["1"]);
}

#[tokio::test]
async fn aborting_a_job_does_not_abort_a_job_with_the_same_id_in_another_schema() {
    let database = empty_database();
    let mut first = queue_in("first", &database).await;
    let mut second = queue_in("second", &database).await;
    let workers = [first.start_worker(), second.start_worker()];
    let id = first.hold_a_job().await;
    assert_eq!(second.hold_a_job().await, id);

    assert!(second.app.perform(cancel_job(id).abort(true)).await.unwrap());
    eventually("the job is aborted", || job(&mut second.connection, id).status == JobStatus::Aborted).await;

    // The first worker has received it before it is notified of this job.
    first.app.defer(note()).await.unwrap();
    within_patience(first.stage.noted.notified()).await;
    assert_eq!(job(&mut first.connection, id).status, JobStatus::Doing);
    first.stage.go_on.notify_one();
    eventually("the job ends", || job(&mut first.connection, id).status != JobStatus::Doing).await;
    for worker in workers {
        worker.stop().await.unwrap();
    }
    assert_eq!(events(&mut first.connection, id), ["deferred", "started", "succeeded"]);
    assert_eq!(events(&mut second.connection, id), ["deferred", "started", "abort_requested", "aborted"]);
}
