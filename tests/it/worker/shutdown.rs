//! How a worker stops.

use std::sync::Mutex;
use std::time::Duration;

use procrastinate::{AbortReason, App, JobContext, JobStatus, Worker, task};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::support::{
    connect, connector, database, errors, events, eventually, job, jobs, rows, sql, statuses, within_patience, workers,
};

type Run = JoinHandle<Result<(), procrastinate::Error>>;

async fn ends_well(run: Run) {
    within_patience(run).await.unwrap().unwrap();
}

fn start(worker: Worker) -> Run {
    tokio::spawn(worker.install_signal_handlers(false).run())
}

#[tokio::test]
async fn a_handle_stops_the_worker_after_its_jobs() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn wait_for_word() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<wait_for_word>().build().unwrap();
    app.batch_defer([wait_for_word(), wait_for_word()]).await.unwrap();
    let worker = app.worker();
    let handle = worker.handle();
    let run = start(worker);
    within_patience(STARTED.notified()).await;
    assert!(!handle.is_stopping());
    handle.stop();
    handle.stop();
    assert!(handle.is_stopping() && !run.is_finished());
    GO_ON.notify_one();
    ends_well(run).await;
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Todo]);
    assert_eq!(workers(&mut connection).len(), 0);
}

#[tokio::test]
async fn a_job_can_stop_its_worker() {
    #[task(pass_context)]
    async fn last(context: JobContext) {
        context.worker().stop();
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<last>().build().unwrap();
    app.batch_defer([last(), last()]).await.unwrap();
    ends_well(start(app.worker())).await;
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Todo]);
}

#[tokio::test]
async fn after_the_graceful_timeout_jobs_are_aborted_and_requeued_if_their_task_retries() {
    static STARTED: Semaphore = Semaphore::const_new(0);
    static REASON: Mutex<Option<AbortReason>> = Mutex::new(None);

    #[task(retry = 3)]
    async fn is_retried() {
        STARTED.add_permits(1);
        std::future::pending::<()>().await;
    }

    #[task]
    async fn is_not_retried() {
        STARTED.add_permits(1);
        std::future::pending::<()>().await;
    }

    #[task(retry = 3, pass_context)]
    fn blocks(context: JobContext) -> Result<(), procrastinate::JobAborted> {
        STARTED.add_permits(1);
        while !context.should_abort() {
            std::thread::sleep(Duration::from_millis(1));
        }
        *REASON.lock().unwrap() = context.abort_reason();
        Err(procrastinate::JobAborted)
    }

    let database = database();
    let app = App::builder(connector(&database).await)
        .task::<is_retried>()
        .task::<is_not_retried>()
        .task::<blocks>()
        .build()
        .unwrap();
    let ids = app.batch_defer([is_retried(), is_not_retried(), blocks()]).await.unwrap();
    let worker = app.worker().concurrency(3).shutdown_graceful_timeout(Duration::from_millis(50));
    let handle = worker.handle();
    let run = start(worker);
    drop(within_patience(STARTED.acquire_many(3)).await.unwrap());
    handle.stop();
    ends_well(run).await;

    let mut connection = connect(&database);
    let ends: Vec<_> = jobs(&mut connection).into_iter().map(|job| (job.status, job.attempts)).collect();
    assert_eq!(ends, [(JobStatus::Todo, 1), (JobStatus::Aborted, 1), (JobStatus::Todo, 1)]);
    assert_eq!(*REASON.lock().unwrap(), Some(AbortReason::Shutdown));
    assert_eq!(errors(&mut connection, ids[0]), ["1: the worker was shut down before the task finished"]);
    assert_eq!(workers(&mut connection).len(), 0);
}

#[tokio::test]
async fn abort_on_a_handle_stops_the_worker_immediately() {
    static STARTED: Notify = Notify::const_new();

    #[task(retry = true)]
    async fn endless() {
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<endless>().build().unwrap();
    let id = app.defer(endless()).await.unwrap();
    let worker = app.worker();
    let handle = worker.handle();
    let run = start(worker);
    within_patience(STARTED.notified()).await;
    handle.stop();
    handle.abort();
    ends_well(run).await;
    assert_eq!(job(&mut connect(&database), id).status, JobStatus::Todo);
}

#[tokio::test]
async fn a_worker_whose_future_is_dropped_stores_outcomes_in_the_background() {
    static STARTED: Notify = Notify::const_new();

    #[task(retry = true)]
    async fn endless() {
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<endless>().build().unwrap();
    let id = app.defer(endless()).await.unwrap();
    let run = start(app.worker());
    within_patience(STARTED.notified()).await;
    run.abort();
    let mut connection = connect(&database);
    eventually("the worker is gone", || workers(&mut connection).is_empty()).await;
    assert_eq!(job(&mut connection, id).status, JobStatus::Todo);
    assert!(events(&mut connection, id).contains(&"deferred_for_retry".to_owned()));
}

#[tokio::test]
async fn a_worker_that_is_stopped_before_it_starts_fetches_no_job() {
    #[task]
    async fn nothing() {}

    let database = database();
    let app = App::builder(connector(&database).await).task::<nothing>().build().unwrap();
    app.defer(nothing()).await.unwrap();
    let worker = app.worker();
    worker.handle().stop();
    ends_well(start(worker)).await;
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Todo]);
}

#[tokio::test]
async fn a_worker_that_is_stopped_during_a_fetch_finishes_the_fetched_jobs() {
    #[task]
    async fn nothing() {}

    let database = database();
    let mut connection = connect(&database);
    let mut observer = connect(&database);
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    for is_aborted in [false, true] {
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
        let app = App::builder(connector(&database).await).task::<nothing>().build().unwrap();
        app.batch_defer([nothing(), nothing(), nothing()]).await.unwrap();
        // The fetch waits for the table.
        sql(&mut connection, "BEGIN; LOCK TABLE procrastinate_events IN SHARE MODE");
        let worker = app.worker().concurrency(2);
        let handle = worker.handle();
        let run = start(worker);
        eventually("the worker waits", || !rows(&mut observer, waiting).is_empty()).await;
        if is_aborted {
            handle.abort();
        } else {
            handle.stop();
        }
        sql(&mut connection, "COMMIT");
        ends_well(run).await;
        let ends: Vec<_> = jobs(&mut connection).into_iter().map(|job| (job.status, job.attempts)).collect();
        let fetched = if is_aborted { (JobStatus::Todo, 0) } else { (JobStatus::Succeeded, 1) };
        assert_eq!(ends, [fetched.clone(), fetched, (JobStatus::Todo, 0)]);
        assert_eq!(workers(&mut connection).len(), 0);
    }
}
