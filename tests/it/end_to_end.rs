//! All that a worker does, as one story.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use diesel::PgConnection;
use futures_util::future::try_join_all;
use procrastinate::job_manager::{cancel_job, get_job_status, list_jobs, list_queues, retry_job};
use procrastinate::{App, DieselConnector, JobContext, JobId, JobStatus, Worker, periodic, task};
use tokio::sync::Notify;

use crate::support::{Running, errors, eventually, job, rows, sql, within_patience};

/// What the tasks share.
#[derive(Default)]
struct Stage {
    /// The locks of the jobs that run.
    locks: Mutex<HashSet<String>>,
    holding: Notify,
}

#[task(queue = "work", retry = 3, pass_context)]
async fn fail_at_first(context: JobContext) -> Result<(), String> {
    if context.job().attempts == 0 { Err("not yet".to_owned()) } else { Ok(()) }
}

/// Of one lock one runs at a time.
#[task(queue = "work", pass_context)]
async fn run_alone(context: JobContext, number: u32) -> Result<(), String> {
    let stage: &Arc<Stage> = context.state().map_err(|error| error.to_string())?;
    let lock = context.job().lock.clone().ok_or("it has no lock")?;
    if !stage.locks.lock().unwrap().insert(lock.clone()) {
        return Err(format!("job {number} runs beside another one of its lock"));
    }
    tokio::task::yield_now().await;
    stage.locks.lock().unwrap().remove(&lock);
    Ok(())
}

#[task(queue = "work", pass_context)]
async fn wait_for_ever(context: JobContext) -> Result<(), procrastinate::Error> {
    context.state::<Arc<Stage>>()?.holding.notify_one();
    std::future::pending().await
}

#[task(queue = "work", pass_context)]
async fn defer_another(context: JobContext) -> Result<(), procrastinate::Error> {
    context.defer(nothing()).await.map(drop)
}

#[task(queue = "work")]
async fn nothing() {}

#[periodic(cron = "* * * * * *")]
#[task(queue = "work")]
async fn tick(timestamp: i64) {
    let _ = timestamp;
}

/// Defers from many tasks at the same time while a worker runs, aborts a job, and leaves one behind whose worker died.
/// How soon the worker polls is the caller's to choose. The connection is one by which the test looks at the same
/// queue.
pub async fn a_worker_does_all_that_it_is_there_for(
    connector: DieselConnector,
    connection: &mut PgConnection,
    settings: impl FnOnce(Worker) -> Worker,
) {
    let stage = Arc::new(Stage::default());
    let app = App::builder(connector).state(stage.clone());
    let app = app.task::<fail_at_first>().task::<run_alone>().task::<wait_for_ever>().task::<defer_another>();
    let app = app.task::<nothing>().task::<tick>().build().unwrap();
    let orphan = leave_behind(&app, connection).await;
    let worker = Running::start(settings(app.worker()).concurrency(4).name("Ada"));

    let app = &app;
    let jobs = (0..60).map(|number| async move {
        match number % 4 {
            0 => app.defer(fail_at_first()).await,
            1 => app.defer(defer_another()).await,
            _ => app.defer(run_alone(number).lock(format!("lock {}", number % 3))).await,
        }
    });
    let ids = within_patience(try_join_all(jobs)).await.unwrap();
    let batch = app.batch_defer((0..20).map(|_| nothing())).await.unwrap();
    let held = app.defer(wait_for_ever()).await.unwrap();
    within_patience(stage.holding.notified()).await;
    assert_eq!(app.perform(get_job_status(held)).await.unwrap(), Some(JobStatus::Doing));
    assert!(app.perform(cancel_job(held).abort(true)).await.unwrap());

    eventually("the job is aborted", || job(connection, held).status == JobStatus::Aborted).await;
    eventually("the orphan is rescued", || job(connection, orphan).status == JobStatus::Succeeded).await;
    let open = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND task_name <> 'tick'";
    eventually("all jobs have ended", || rows(connection, open) == ["0"]).await;
    let ticks = "SELECT count(*) > 1 FROM procrastinate_jobs WHERE task_name = 'tick' AND status = 'succeeded'";
    eventually("two ticks have run", || rows(connection, ticks) == ["true"]).await;
    let heartbeat = "SELECT last_heartbeat FROM procrastinate_workers";
    let beat = rows(connection, heartbeat);
    eventually("its heart beats", || rows(connection, heartbeat) != beat).await;
    worker.stop().await.unwrap();

    for id in ids.iter().chain(&batch) {
        assert_eq!(job(connection, *id).status, JobStatus::Succeeded, "{id}: {:?}", errors(connection, *id));
    }
    assert_eq!(errors(connection, ids[0]), ["1: not yet"]);
    assert_eq!(rows(connection, "SELECT count(*) FROM procrastinate_workers"), ["0"]);
    manage(app, held).await;
}

/// A job whose worker died while it ran.
async fn leave_behind(app: &App, connection: &mut PgConnection) -> JobId {
    let id = app.defer(nothing()).await.unwrap();
    let dead = "WITH dead AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')
                              RETURNING id)
                UPDATE procrastinate_jobs SET status = 'doing', worker_id = dead.id FROM dead";
    sql(connection, dead);
    id
}

/// What the job manager does.
async fn manage(app: &App, aborted: JobId) {
    assert_eq!(app.perform(list_jobs().id(aborted)).await.unwrap()[0].status, JobStatus::Aborted);
    assert_eq!(app.perform(list_queues()).await.unwrap()[0].aborted, 1);
    let failed = app.defer(nothing()).await.unwrap();
    app.perform(procrastinate::job_manager::finish_job(failed, JobStatus::Failed)).await.unwrap();
    assert_eq!(app.perform(retry_job(failed)).await.unwrap(), JobStatus::Todo);
}
