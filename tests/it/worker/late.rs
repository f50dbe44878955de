//! Requests that arrive late, or whose response is lost, and jobs that somebody requeues while they run: each outcome is
//! stored for its own run, and no job runs twice at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::retry_job;
use procrastinate::{App, DieselConnector, JobContext, JobStatus, TaskControl, Worker, task};
use tokio::sync::Notify;

use super::holding_proxy::HoldingProxy;
use crate::support::{Running, connect, connector, database, eventually, job, rows, sql, within_patience, workers};

/// A worker with frequent heartbeats that abandons a request after a second and a half.
fn impatient(worker: Worker) -> Worker {
    worker
        .install_signal_handlers(false)
        .update_heartbeat_interval(Duration::from_millis(50))
        .abort_job_polling_interval(Duration::from_millis(50))
        .stalled_worker_timeout(Duration::from_millis(1_500))
}

async fn connector_through(proxy: &HoldingProxy) -> DieselConnector {
    let manager = AsyncDieselConnectionManager::new(proxy.url());
    DieselConnector::new(Pool::builder().max_size(5).build(manager).await.unwrap())
}

/// How often a task runs, and how often at the same time.
#[derive(Default)]
struct Runs {
    started: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Runs {
    const fn new() -> Self {
        Self { started: AtomicUsize::new(0), now: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    fn begin(&'static self) -> Run {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Run(self)
    }
}

struct Run(&'static Runs);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

const EXCHANGE: &str = "finish_and_fetch_jobs";

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_arrives_late_does_not_end_the_next_run() {
    static RUNS: Runs = Runs::new();
    static SNOOZE: Notify = Notify::const_new();
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task(pass_context, lock = "late")]
    async fn snooze_and_arrive_late(context: JobContext) -> Result<(), TaskControl> {
        let _run = RUNS.begin();
        STARTED.notify_one();
        if context.job().scheduled_at.is_none() {
            SNOOZE.notified().await;
            return Err(TaskControl::snooze(Duration::ZERO));
        }
        GO_ON.notified().await;
        Ok(())
    }

    let database = database();
    let mut connection = connect(&database);
    let proxy = HoldingProxy::start(&database).await;
    let app = App::builder(connector_through(&proxy).await).task::<snooze_and_arrive_late>().build().unwrap();
    let id = app.defer(snooze_and_arrive_late()).await.unwrap();
    let worker = Running::start(impatient(app.worker()).concurrency(3));
    within_patience(STARTED.notified()).await;
    let first_id = workers(&mut connection)[0].id;
    proxy.hold(EXCHANGE);
    SNOOZE.notify_one();
    proxy.caught().await;
    // The worker abandons the request, and stores the outcome with another.
    within_patience(STARTED.notified()).await;
    assert_ne!(job(&mut connection, id).worker_id, Some(first_id));

    proxy.let_arrive().await;
    let standing = job(&mut connection, id);
    assert_eq!((standing.status, standing.attempts), (JobStatus::Doing, 0));
    GO_ON.notify_one();
    eventually("the job has succeeded", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!((RUNS.started.load(Ordering::SeqCst), RUNS.most.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(job(&mut connection, id).attempts, 1);
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_a_late_request_would_fetch_stay_pending() {
    static STARTED: Notify = Notify::const_new();

    #[task]
    async fn be_fetched_once() {
        STARTED.notify_one();
    }

    let database = database();
    let mut connection = connect(&database);
    let proxy = HoldingProxy::start(&database).await;
    let app = App::builder(connector_through(&proxy).await).task::<be_fetched_once>().build().unwrap();
    let worker = Running::start(impatient(app.worker()));
    eventually("the worker is registered", || workers(&mut connection).len() == 1).await;
    app.defer(be_fetched_once()).await.unwrap();
    within_patience(STARTED.notified()).await;
    proxy.hold(EXCHANGE);
    let other = app.defer(be_fetched_once()).await.unwrap();
    proxy.caught().await;
    within_patience(STARTED.notified()).await;
    eventually("the job has succeeded", || job(&mut connection, other).status == JobStatus::Succeeded).await;

    worker.stop().await.unwrap();
    let last = be_fetched_once().defer_blocking(&mut connection).unwrap();
    proxy.let_arrive().await;
    let standing = job(&mut connection, last);
    assert_eq!((standing.status, standing.worker_id), (JobStatus::Todo, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_continue_when_the_response_to_the_new_registration_is_lost() {
    static RUNS: Runs = Runs::new();
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task(stalled = "fail")]
    async fn run_only_once() {
        let _run = RUNS.begin();
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let proxy = HoldingProxy::start(&database).await;
    let app = App::builder(connector_through(&proxy).await).task::<run_only_once>().build().unwrap();
    let id = app.defer(run_only_once()).await.unwrap();
    let worker = impatient(app.worker()).stalled_worker_timeout(Duration::from_secs(60));
    let worker = Running::start(worker);
    within_patience(STARTED.notified()).await;
    let first_id = workers(&mut connection)[0].id;
    proxy.lose_response("reregister_worker");
    let prune = "SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(-3600)";
    eventually("it is pruned", || !rows(&mut connection, prune).is_empty()).await;
    proxy.caught().await;
    eventually("its job is taken back", || job(&mut connection, id).worker_id.is_some_and(|id| id != first_id)).await;
    GO_ON.notify_one();
    eventually("the job has ended", || job(&mut connection, id).status != JobStatus::Doing).await;
    worker.stop().await.unwrap();
    let ended = job(&mut connection, id);
    assert_eq!((ended.status, ended.attempts, RUNS.started.load(Ordering::SeqCst)), (JobStatus::Succeeded, 1, 1));
    // No registration is left behind.
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_requeued_while_it_runs_runs_again_after_that() {
    static RUNS: Runs = Runs::new();
    static STARTED: Notify = Notify::const_new();
    static NEXT_STARTED: Notify = Notify::const_new();
    static GO_ON: Mutex<Vec<std::sync::mpsc::Receiver<()>>> = Mutex::new(Vec::new());

    // It does not notice that it should abort.
    #[task(lock = "requeued")]
    fn run_twice() {
        let _run = RUNS.begin();
        STARTED.notify_one();
        let go_on = GO_ON.lock().unwrap().remove(0);
        go_on.recv().unwrap();
    }
    #[task(lock = "requeued")]
    fn run_next() {
        let _run = RUNS.begin();
        NEXT_STARTED.notify_one();
    }

    let (end_first, first) = std::sync::mpsc::channel();
    let (end_second, second) = std::sync::mpsc::channel();
    GO_ON.lock().unwrap().extend([first, second]);
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<run_twice>().task::<run_next>().build().unwrap();
    let id = app.defer(run_twice()).await.unwrap();
    let worker = impatient(app.worker()).stalled_worker_timeout(Duration::from_secs(60)).concurrency(4);
    let worker = Running::start(worker);
    within_patience(STARTED.notified()).await;
    retry_job(id).execute_blocking(&mut connection).unwrap();
    let next = app.defer(run_next()).await.unwrap();
    eventually("it is fetched again", || {
        let job = job(&mut connection, id);
        (job.status, job.attempts) == (JobStatus::Doing, 1)
    })
    .await;
    end_first.send(()).unwrap();
    within_patience(STARTED.notified()).await;
    // The outcome of the first run is not stored as that of the second, which still holds the lock.
    let beat = "SELECT max(last_heartbeat)::text FROM procrastinate_workers";
    let before = rows(&mut connection, beat);
    eventually("the worker has sent another heartbeat", || rows(&mut connection, beat) != before).await;
    assert_eq!(
        (job(&mut connection, id).status, job(&mut connection, next).status),
        (JobStatus::Doing, JobStatus::Todo)
    );
    end_second.send(()).unwrap();
    within_patience(NEXT_STARTED.notified()).await;
    eventually("all jobs have succeeded", || job(&mut connection, next).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    let ended = job(&mut connection, id);
    assert_eq!((ended.status, ended.attempts), (JobStatus::Succeeded, 2));
    assert_eq!((RUNS.started.load(Ordering::SeqCst), RUNS.most.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_that_another_worker_has_taken_is_aborted() {
    static STARTED: Notify = Notify::const_new();
    static DROPPED: Notify = Notify::const_new();

    struct NotifyWhenDropped;
    impl Drop for NotifyWhenDropped {
        fn drop(&mut self) {
            DROPPED.notify_one();
        }
    }
    #[task]
    async fn be_taken() {
        let _dropped = NotifyWhenDropped;
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_taken>().build().unwrap();
    let id = app.defer(be_taken()).await.unwrap();
    let worker = Running::start(impatient(app.worker()).stalled_worker_timeout(Duration::from_secs(60)));
    within_patience(STARTED.notified()).await;
    sql(
        &mut connection,
        &format!(
            "WITH other AS (INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id)
             UPDATE procrastinate_jobs SET attempts = 1, worker_id = other.id FROM other
             WHERE procrastinate_jobs.id = {id}"
        ),
    );
    within_patience(DROPPED.notified()).await;
    worker.stop().await.unwrap();
    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Doing, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_table_of_jobs_does_not_make_a_worker_abort_its_jobs() {
    static RUNS: Runs = Runs::new();
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn outlast_the_lock() {
        let _run = RUNS.begin();
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<outlast_the_lock>().build().unwrap();
    let id = app.defer(outlast_the_lock()).await.unwrap();
    let worker = Running::start(impatient(app.worker()));
    within_patience(STARTED.notified()).await;
    let mut locker = connect(&database);
    sql(&mut locker, "BEGIN; LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE");
    let begin = rows(&mut connection, "SELECT now()").remove(0);
    let longer = format!(
        "SELECT FROM procrastinate_workers WHERE last_heartbeat > '{begin}'::timestamptz + interval '4 seconds'"
    );
    eventually("heartbeats went on for more than the timeout", || rows(&mut connection, &longer).len() == 1).await;
    sql(&mut locker, "COMMIT");
    GO_ON.notify_one();
    eventually("the job has ended", || job(&mut connection, id).status != JobStatus::Doing).await;
    worker.stop().await.unwrap();
    let ended = job(&mut connection, id);
    assert_eq!((ended.status, ended.attempts, RUNS.started.load(Ordering::SeqCst)), (JobStatus::Succeeded, 1, 1));
}
