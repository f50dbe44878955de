//! How a worker handles an unreachable database, lost responses, and other workers that take its jobs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use procrastinate::{App, DieselConnector, Error, JobContext, JobStatus, Worker, task};
use tokio::sync::{Notify, Semaphore};

use crate::support::{
    PATIENCE, Running, close_database, connect, connector, database, end_other_connections, eventually, impatient_pool,
    job, open_database, sql, statuses, within_patience, workers,
};

/// A worker whose heartbeat is quick, so that a test need not wait for it.
fn quick(worker: Worker) -> Worker {
    worker.update_heartbeat_interval(Duration::from_millis(20)).stalled_worker_timeout(Duration::from_millis(500))
}

#[tokio::test]
async fn a_worker_survives_the_loss_of_every_connection() {
    static RAN: Notify = Notify::const_new();

    #[task]
    async fn survive() {
        RAN.notify_one();
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<survive>().build().unwrap();
    let worker = Running::start(app.worker().fetch_job_polling_interval(Duration::from_secs(3_600)));
    for _ in 0..3 {
        survive().defer_blocking(&mut connection).unwrap();
        within_patience(RAN.notified()).await;
        end_other_connections(&mut connection);
    }
    // Deferred while nobody may be listening: the listener looks once when it is back.
    survive().defer_blocking(&mut connection).unwrap();
    within_patience(RAN.notified()).await;
    worker.stop().await.unwrap();
    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; 4]);
}

#[tokio::test]
async fn the_outcome_of_a_job_is_stored_when_the_database_is_reachable_again() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn end_in_the_dark() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let pool = impatient_pool(&database, Duration::from_millis(300)).await;
    let app = App::builder(DieselConnector::new(pool)).task::<end_in_the_dark>().build().unwrap();
    let id = app.defer(end_in_the_dark()).await.unwrap();
    let worker = Running::start(app.worker());
    within_patience(STARTED.notified()).await;

    close_database(&database, &mut connection).await;
    GO_ON.notify_one();
    // Nothing can be stored now. The connection that was there before still reads.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(job(&mut connection, id).status, JobStatus::Doing);

    open_database(&database);
    eventually("the job has succeeded", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_stops_while_the_database_is_unreachable_names_its_unsaved_jobs() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn remain_unsaved() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let pool = impatient_pool(&database, Duration::from_millis(300)).await;
    let app = App::builder(DieselConnector::new(pool)).task::<remain_unsaved>().build().unwrap();
    let id = app.defer(remain_unsaved()).await.unwrap();
    let worker = Running::start(quick(app.worker()));
    within_patience(STARTED.notified()).await;

    close_database(&database, &mut connection).await;
    GO_ON.notify_one();
    let error = worker.stop().await.unwrap_err();
    open_database(&database);
    match error {
        Error::UnsavedJobs { job_ids, .. } => assert_eq!(job_ids, [id]),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_job_fetched_in_a_lost_response_is_found_and_run() {
    static RAN: Notify = Notify::const_new();

    #[task(queue = "elsewhere")]
    async fn get_lost() {
        RAN.notify_one();
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<get_lost>().build().unwrap();
    let worker = Running::start(quick(app.worker()).queues(["mine"]));
    eventually("it is registered", || workers(&mut connection).len() == 1).await;
    let id = get_lost().defer_blocking(&mut connection).unwrap();
    // As if the worker had fetched it in a lost response.
    sql(
        &mut connection,
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)",
    );
    within_patience(RAN.notified()).await;
    eventually("the job has succeeded", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(job(&mut connection, id).attempts, 1);
}

#[tokio::test]
async fn a_pruned_worker_re_registers_and_cannot_finish_jobs_that_it_has_lost() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn be_taken_over() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_taken_over>().build().unwrap();
    let taken = app.defer(be_taken_over()).await.unwrap();
    let worker = Running::start(quick(app.worker()));
    within_patience(STARTED.notified()).await;

    // Somebody declares it dead, and another worker has its job.
    sql(&mut connection, "DELETE FROM procrastinate_workers");
    sql(&mut connection, "SELECT procrastinate_register_worker_v1()");
    sql(&mut connection, "UPDATE procrastinate_jobs SET worker_id = (SELECT id FROM procrastinate_workers)");
    let other = workers(&mut connection)[0].id;
    GO_ON.notify_one();
    let next = app.defer(be_taken_over()).await.unwrap();
    within_patience(STARTED.notified()).await;
    GO_ON.notify_one();
    eventually("the job has succeeded", || job(&mut connection, next).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();

    let taken = job(&mut connection, taken);
    assert_eq!((taken.status, taken.worker_id, taken.attempts), (JobStatus::Doing, Some(other), 0));
    assert_eq!(workers(&mut connection).iter().map(|worker| worker.id).collect::<Vec<_>>(), [other]);
}

#[tokio::test]
async fn a_job_that_was_finished_elsewhere_meanwhile_is_unchanged() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn come_too_late() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<come_too_late>().build().unwrap();
    let id = app.defer(come_too_late()).await.unwrap();
    let worker = Running::start(app.worker());
    within_patience(STARTED.notified()).await;
    sql(&mut connection, &format!("SELECT procrastinate_finish_job_v1({id}, 'failed', false)"));
    GO_ON.notify_one();
    worker.stop().await.unwrap();

    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Failed, 1));
}

#[tokio::test]
async fn a_late_attempt_cannot_finish_the_next_attempt_of_the_same_worker() {
    static STARTED: Semaphore = Semaphore::const_new(0);
    static ENDED: Notify = Notify::const_new();
    static MAY_END: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

    /// Does not ask whether it is to stop.
    #[task(pass_context)]
    fn outlive(context: JobContext) {
        STARTED.add_permits(1);
        let attempt = usize::try_from(context.job().attempts).unwrap();
        let started = Instant::now();
        while !MAY_END[attempt].load(Ordering::SeqCst) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        ENDED.notify_one();
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<outlive>().build().unwrap();
    let id = app.defer(outlive()).await.unwrap();
    let worker = Running::start(quick(app.worker().concurrency(2)));
    within_patience(STARTED.acquire()).await.unwrap().forget();

    // Somebody prunes the worker and requeues its job; the worker itself fetches it again.
    sql(
        &mut connection,
        "BEGIN; DELETE FROM procrastinate_workers;
         UPDATE procrastinate_jobs SET status = 'todo', attempts = attempts + 1; COMMIT",
    );
    eventually("the worker has fetched it again", || {
        let fetched = job(&mut connection, id);
        fetched.status == JobStatus::Doing && fetched.worker_id.is_some() && fetched.attempts == 1
    })
    .await;
    MAY_END[0].store(true, Ordering::SeqCst);
    within_patience(ENDED.notified()).await;
    // The next attempt starts after the end of the first one.
    within_patience(STARTED.acquire()).await.unwrap().forget();
    // The outcome of the first attempt would be sent now; another job goes through the same stages meanwhile.
    let other = app.defer(outlive()).await.unwrap();
    eventually("the other job has succeeded", || job(&mut connection, other).status == JobStatus::Succeeded).await;
    let again = job(&mut connection, id);
    assert_eq!((again.status, again.attempts), (JobStatus::Doing, 1));

    MAY_END[1].store(true, Ordering::SeqCst);
    eventually("the job has succeeded", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(job(&mut connection, id).attempts, 2);
}
