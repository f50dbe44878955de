//! Jobs that a worker takes ahead, when it was asked to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use procrastinate::{App, JobContext, JobId, JobStatus, Worker, task};
use tokio::sync::{Notify, Semaphore};

use crate::support::{
    Running, connect, connector, database, events, eventually, job, rows, sql, statuses, within_patience, workers,
};

/// A worker that notices requests soon.
fn quick(worker: Worker) -> Worker {
    let interval = Duration::from_millis(50);
    worker.abort_job_polling_interval(interval).update_heartbeat_interval(interval)
}

#[tokio::test]
async fn jobs_are_fetched_ahead_and_run_in_order_within_the_concurrency() {
    static STARTED: Semaphore = Semaphore::const_new(0);
    static GO_ON: Semaphore = Semaphore::const_new(0);
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static ORDER: Mutex<Vec<i64>> = Mutex::new(Vec::new());

    #[task]
    async fn one_of_two(n: i64) {
        ORDER.lock().unwrap().push(n);
        assert!(RUNNING.fetch_add(1, Ordering::SeqCst) < 2);
        STARTED.add_permits(1);
        GO_ON.acquire().await.unwrap().forget();
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<one_of_two>().build().unwrap();
    app.batch_defer((0..9).map(one_of_two)).await.unwrap();
    let worker = Running::start(app.worker().concurrency(2).local_buffer(3));
    within_patience(STARTED.acquire_many(2)).await.unwrap().forget();
    let mut connection = connect(&database);
    let doing = statuses(&mut connection).iter().filter(|status| **status == JobStatus::Doing).count();
    assert_eq!(doing, 5);

    GO_ON.add_permits(9);
    eventually("all have ended", || statuses(&mut connection).iter().all(|status| *status == JobStatus::Succeeded))
        .await;
    worker.stop().await.unwrap();
    // Two jobs start at the same time, and either can be the first to record it.
    let mut order = ORDER.lock().unwrap().clone();
    assert!(order[..2].contains(&0) && order[..2].contains(&1), "{order:?}");
    order.sort_unstable();
    assert_eq!(order, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_worker_that_stops_when_empty_processes_its_buffer_too() {
    static RAN: AtomicUsize = AtomicUsize::new(0);

    #[task]
    async fn be_counted() {
        RAN.fetch_add(1, Ordering::SeqCst);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<be_counted>().build().unwrap();
    app.batch_defer((0..250).map(|_| be_counted())).await.unwrap();
    app.worker().concurrency(3).local_buffer(100).stop_when_empty().run().await.unwrap();
    assert_eq!(RAN.load(Ordering::SeqCst), 250);
    assert!(statuses(&mut connect(&database)).iter().all(|status| *status == JobStatus::Succeeded));
}

#[tokio::test]
async fn a_worker_that_shuts_down_requeues_its_buffer_immediately() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn hold_the_slot() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<hold_the_slot>().build().unwrap();
    let ids = app.batch_defer([hold_the_slot(), hold_the_slot(), hold_the_slot()]).await.unwrap();
    let worker = app.worker().local_buffer(10).install_signal_handlers(false);
    let handle = worker.handle();
    let run = tokio::spawn(worker.run());
    within_patience(STARTED.notified()).await;
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Doing, JobStatus::Doing, JobStatus::Doing]);

    handle.stop();
    eventually("the others wait again", || {
        statuses(&mut connection) == [JobStatus::Doing, JobStatus::Todo, JobStatus::Todo]
    })
    .await;
    assert!(!run.is_finished());
    GO_ON.notify_one();
    within_patience(run).await.unwrap().unwrap();
    let ends: Vec<_> = ids.iter().map(|id| job(&mut connection, *id)).map(|job| (job.status, job.attempts)).collect();
    assert_eq!(ends, [(JobStatus::Succeeded, 1), (JobStatus::Todo, 0), (JobStatus::Todo, 0)]);
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test]
async fn a_buffered_job_with_an_abort_request_never_starts() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();
    static RAN: Mutex<Vec<i64>> = Mutex::new(Vec::new());

    #[task]
    async fn be_aborted_in_the_buffer(n: i64) {
        RAN.lock().unwrap().push(n);
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<be_aborted_in_the_buffer>().build().unwrap();
    let ids = app.batch_defer([be_aborted_in_the_buffer(1), be_aborted_in_the_buffer(2)]).await.unwrap();
    let worker = Running::start(quick(app.worker()).local_buffer(10));
    within_patience(STARTED.notified()).await;

    let mut connection = connect(&database);
    let ask = |id: JobId| format!("SELECT procrastinate_cancel_job_v1({id}, true, false)");
    sql(&mut connection, &ask(ids[1]));
    eventually("it is aborted", || job(&mut connection, ids[1]).status == JobStatus::Aborted).await;
    GO_ON.notify_one();
    worker.stop().await.unwrap();
    assert_eq!(*RAN.lock().unwrap(), [1]);
    assert_eq!(job(&mut connection, ids[0]).status, JobStatus::Succeeded);
    assert_eq!(events(&mut connection, ids[1]).last().unwrap(), "aborted");
}

#[tokio::test]
async fn a_worker_without_a_heartbeat_starts_no_buffered_job_until_it_reconnects() {
    static STARTED: Notify = Notify::const_new();
    static RAN: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    #[task]
    async fn be_told_to_stop() {
        RAN.lock().unwrap().push("first");
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }
    #[task]
    async fn wait_in_the_buffer() {
        RAN.lock().unwrap().push("buffered");
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_told_to_stop>().task::<wait_in_the_buffer>();
    let app = app.build().unwrap();
    let first = app.defer(be_told_to_stop()).await.unwrap();
    let buffered = app.defer(wait_in_the_buffer()).await.unwrap();
    let worker = quick(app.worker()).stalled_worker_timeout(Duration::from_millis(1_500)).local_buffer(1);
    let worker = Running::start(worker.queues(["default"]));
    within_patience(STARTED.notified()).await;

    // Its heartbeats wait for this row, so that it stops what runs, and its only slot is free.
    sql(&mut connection, "BEGIN; SELECT FROM procrastinate_workers FOR NO KEY UPDATE");
    let mut other = connect(&database);
    eventually("the first one is back in the queue", || job(&mut other, first).status == JobStatus::Todo).await;
    sql(&mut other, &format!("UPDATE procrastinate_jobs SET queue_name = 'elsewhere' WHERE id = {first}"));
    // It would start immediately.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*RAN.lock().unwrap(), ["first"]);
    assert_eq!(job(&mut other, buffered).status, JobStatus::Doing);

    sql(&mut connection, "COMMIT");
    eventually("it goes on", || job(&mut other, buffered).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(*RAN.lock().unwrap(), ["first", "buffered"]);
}

#[tokio::test]
async fn a_buffered_job_that_another_worker_has_taken_never_starts() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();
    static RAN: Mutex<Vec<i64>> = Mutex::new(Vec::new());

    #[task]
    async fn be_taken_from_the_buffer(n: i64) {
        RAN.lock().unwrap().push(n);
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_taken_from_the_buffer>().build().unwrap();
    let ids = app.batch_defer([1, 2, 3].map(be_taken_from_the_buffer)).await.unwrap();
    let worker = Running::start(quick(app.worker()).local_buffer(10));
    within_patience(STARTED.notified()).await;

    // Another worker has run the second one, and is running the third.
    let [second, third] = [ids[1], ids[2]];
    sql(
        &mut connection,
        &format!(
            "SELECT procrastinate_retry_job_v1({second}, now(), NULL, NULL, NULL);
             SELECT procrastinate_retry_job_v1({third}, now(), NULL, NULL, NULL);
             WITH other AS (INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id)
             UPDATE procrastinate_jobs SET status = 'doing', worker_id = other.id FROM other
             WHERE procrastinate_jobs.id IN ({second}, {third});
             SELECT procrastinate_finish_job_v1({second}, 'succeeded', false)"
        ),
    );
    let beat = "SELECT max(last_heartbeat)::text FROM procrastinate_workers";
    for _ in 0..2 {
        let before = rows(&mut connection, beat);
        eventually("the worker has sent another heartbeat", || rows(&mut connection, beat) != before).await;
    }
    GO_ON.notify_one();
    eventually("the first one has succeeded", || job(&mut connection, ids[0]).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(*RAN.lock().unwrap(), [1]);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Succeeded, JobStatus::Doing]);
}

#[tokio::test]
async fn a_worker_that_was_suspended_longer_than_its_lease_starts_no_buffered_job_before_the_next_heartbeat() {
    static ENDS: Notify = Notify::const_new();
    static LOCK: Mutex<Option<PgConnection>> = Mutex::new(None);
    static RAN: AtomicUsize = AtomicUsize::new(0);

    // It stops the only thread of the runtime for longer than the lease. The heartbeats wait for the worker's row.
    #[task(pass_context)]
    async fn suspend_the_worker(context: JobContext) {
        let url: &String = context.state().unwrap();
        let mut connection = PgConnection::establish(url).unwrap();
        sql(&mut connection, "BEGIN; SELECT FROM procrastinate_workers FOR NO KEY UPDATE");
        *LOCK.lock().unwrap() = Some(connection);
        std::thread::sleep(Duration::from_secs(2));
        ENDS.notify_one();
    }
    #[task]
    async fn wait_for_the_heartbeat() {
        RAN.fetch_add(1, Ordering::SeqCst);
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await)
        .task::<suspend_the_worker>()
        .task::<wait_for_the_heartbeat>()
        .state(database.url().to_owned())
        .build()
        .unwrap();
    app.defer(suspend_the_worker()).await.unwrap();
    let buffered = app.defer(wait_for_the_heartbeat()).await.unwrap();
    let worker = quick(app.worker()).stalled_worker_timeout(Duration::from_millis(1_500)).local_buffer(1);
    let worker = Running::start(worker);
    within_patience(ENDS.notified()).await;
    // It would start immediately.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(RAN.load(Ordering::SeqCst), 0);
    assert_eq!(job(&mut connection, buffered).status, JobStatus::Doing);
    drop(LOCK.lock().unwrap().take());
    eventually("it has succeeded", || job(&mut connection, buffered).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(RAN.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_buffer_that_is_too_large_is_refused() {
    let database = database();
    let app = App::builder(connector(&database).await).build().unwrap();
    let error = app.worker().concurrency(2).local_buffer(usize::MAX).run().await.unwrap_err();
    assert!(error.to_string().contains("local_buffer"), "{error}");
}
