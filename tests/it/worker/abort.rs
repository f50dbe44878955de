//! Jobs that somebody asks to abort.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procrastinate::job_manager::cancel_job;
use procrastinate::{AbortReason, App, JobAborted, JobContext, JobId, JobStatus, task};
use tokio::sync::Notify;

use crate::support::{
    Running, connect, connector, database, errors, events, eventually, job, pool, rows, sql, transaction,
    within_patience,
};

/// So long that only something else can have woken a worker.
const NEVER: Duration = Duration::from_secs(3_600);

async fn request_abort(app: &App, id: JobId) {
    assert!(app.perform(cancel_job(id).abort(true)).await.unwrap());
}

#[tokio::test]
async fn an_async_task_is_cancelled_at_its_await_point_and_drops_its_values() {
    static STARTED: Notify = Notify::const_new();
    static FREED: Notify = Notify::const_new();

    struct Held;
    impl Drop for Held {
        fn drop(&mut self) {
            FREED.notify_one();
        }
    }

    #[task(retry = true)]
    async fn wait_for_ever() {
        let _held = Held;
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<wait_for_ever>().build().unwrap();
    let id = app.defer(wait_for_ever()).await.unwrap();
    let polling = |worker: procrastinate::Worker| {
        worker.abort_job_polling_interval(NEVER).update_heartbeat_interval(Duration::from_secs(10))
    };
    let worker = Running::start(polling(app.worker()));
    within_patience(STARTED.notified()).await;
    // Found by notification: nothing is polled so soon.
    request_abort(&app, id).await;
    within_patience(FREED.notified()).await;

    let mut connection = connect(&database);
    eventually("the job is aborted", || job(&mut connection, id).status == JobStatus::Aborted).await;
    worker.stop().await.unwrap();
    let aborted = job(&mut connection, id);
    assert_eq!((aborted.attempts, aborted.abort_requested), (1, false));
    assert_eq!(events(&mut connection, id), ["deferred", "started", "abort_requested", "aborted"]);
    assert_eq!(errors(&mut connection, id), ["1: an abort of the job was requested"]);
}

#[tokio::test]
async fn an_abort_request_without_a_notification_is_found_by_polling() {
    static STARTED: Notify = Notify::const_new();

    #[task]
    async fn wait_for_ever() {
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<wait_for_ever>().build().unwrap();
    let id = app.defer(wait_for_ever()).await.unwrap();
    let worker = app.worker().listen_notify(false).abort_job_polling_interval(Duration::from_millis(20));
    let worker = Running::start(worker);
    within_patience(STARTED.notified()).await;
    request_abort(&app, id).await;
    let mut connection = connect(&database);
    eventually("the job is aborted", || job(&mut connection, id).status == JobStatus::Aborted).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_blocking_task_sees_that_it_should_abort_and_why() {
    static STARTED: Notify = Notify::const_new();
    static SEEN: Mutex<Option<AbortReason>> = Mutex::new(None);

    #[task(pass_context, retry = true)]
    fn wait_until_told(context: JobContext) -> Result<(), JobAborted> {
        assert_eq!(context.abort_reason(), None);
        STARTED.notify_one();
        while !context.should_abort() {
            std::thread::sleep(Duration::from_millis(1));
        }
        *SEEN.lock().unwrap() = context.abort_reason();
        Err(JobAborted)
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<wait_until_told>().build().unwrap();
    let id = app.defer(wait_until_told()).await.unwrap();
    let worker = Running::start(app.worker());
    within_patience(STARTED.notified()).await;
    request_abort(&app, id).await;
    let mut connection = connect(&database);
    eventually("the job is aborted", || job(&mut connection, id).status == JobStatus::Aborted).await;
    worker.stop().await.unwrap();
    assert_eq!(*SEEN.lock().unwrap(), Some(AbortReason::UserRequest));
}

#[tokio::test]
async fn a_blocking_task_that_does_not_check_runs_to_its_end() {
    static STARTED: Notify = Notify::const_new();
    static TOLD: Notify = Notify::const_new();

    #[task(pass_context)]
    async fn mixed(context: JobContext) {
        let inner = context.clone();
        procrastinate::blocking(move || {
            STARTED.notify_one();
            while !inner.should_abort() {
                std::thread::sleep(Duration::from_millis(1));
            }
            TOLD.notify_one();
        })
        .await;
        // Here it waits, and is cancelled.
        std::future::pending::<()>().await;
    }

    #[task(pass_context)]
    fn deaf(context: JobContext) {
        STARTED.notify_one();
        while !context.should_abort() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<mixed>().task::<deaf>().build().unwrap();
    let worker = Running::start(app.worker());
    let mut connection = connect(&database);
    for (to_defer, end) in [(mixed(), JobStatus::Aborted), (deaf(), JobStatus::Succeeded)] {
        let id = app.defer(to_defer).await.unwrap();
        within_patience(STARTED.notified()).await;
        request_abort(&app, id).await;
        eventually("the job has ended", || job(&mut connection, id).status == end).await;
    }
    within_patience(TOLD.notified()).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_abort_request_wins_over_a_retry_even_at_the_last_moment() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[task(retry = true, pass_context)]
    fn fail_all_the_same(context: JobContext) -> Result<(), String> {
        STARTED.notify_one();
        while !context.should_abort() && !GO_ON.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("it failed".to_owned())
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<fail_all_the_same>().build().unwrap();
    let mut connection = connect(&database);

    // The task returns its own error after the abort request: the request is pending, and the job fails.
    let id = app.defer(fail_all_the_same()).await.unwrap();
    let worker = Running::start(app.worker());
    within_patience(STARTED.notified()).await;
    request_abort(&app, id).await;
    eventually("the job has ended", || job(&mut connection, id).status == JobStatus::Failed).await;
    worker.stop().await.unwrap();
    assert_eq!(errors(&mut connection, id), ["1: it failed"]);

    // The worker does not know of the request when it asks for the retry.
    let id = app.defer(fail_all_the_same()).await.unwrap();
    let worker = Running::start(app.worker().listen_notify(false).abort_job_polling_interval(NEVER));
    within_patience(STARTED.notified()).await;
    request_abort(&app, id).await;
    GO_ON.store(true, Ordering::SeqCst);
    eventually("the job has ended", || job(&mut connection, id).status == JobStatus::Failed).await;
    worker.stop().await.unwrap();
    assert_eq!(events(&mut connection, id), ["deferred", "started", "abort_requested", "failed"]);
}

#[tokio::test]
async fn an_abort_request_that_is_rolled_back_or_too_late_aborts_nothing() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn wait_for_word() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let pool = pool(&database).await;
    let app = App::builder(procrastinate::DieselConnector::new(pool.clone())).task::<wait_for_word>().build().unwrap();
    let id = app.defer(wait_for_word()).await.unwrap();
    let worker = Running::start(app.worker().abort_job_polling_interval(Duration::from_millis(20)));
    within_patience(STARTED.notified()).await;

    let mut connection = pool.get().await.unwrap();
    let rolled_back = transaction(&mut connection, async |connection| {
        assert!(cancel_job(id).abort(true).execute(connection).await.unwrap());
        // The worker polls meanwhile.
        tokio::time::sleep(Duration::from_millis(60)).await;
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    })
    .await;
    assert!(rolled_back.is_err());
    GO_ON.notify_one();
    let mut blocking = connect(&database);
    eventually("the job has succeeded", || job(&mut blocking, id).status == JobStatus::Succeeded).await;
    assert!(!app.perform(cancel_job(id).abort(true)).await.unwrap());
    worker.stop().await.unwrap();
    assert_eq!(job(&mut blocking, id).status, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_task_can_abort_its_own_job() {
    #[task(retry = true)]
    async fn give_up() -> Result<(), JobAborted> {
        Err(JobAborted)
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<give_up>().build().unwrap();
    let id = app.defer(give_up()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    assert_eq!(events(&mut connection, id), ["deferred", "started", "aborted"]);
    assert_eq!(errors(&mut connection, id), ["1: the task aborted its job"]);
}

#[tokio::test]
async fn an_application_can_listen_for_the_notifications_of_workers() {
    use procrastinate::job_manager::Notification::{AbortJobRequested, JobInserted};
    let database = database();
    let app = App::builder(connector(&database).await).build().unwrap();
    let mut mails = app.listen_for_jobs(&["mails"]).await.unwrap();
    let mut all = app.listen_for_jobs(&[]).await.unwrap();
    let to = |queue: &str| procrastinate::configure_task("t", serde_json::json!({})).queue(queue);
    let other = app.defer(to("other")).await.unwrap();
    let mail = app.defer(to("mails")).await.unwrap();
    assert_eq!(within_patience(mails.next()).await.unwrap(), JobInserted(mail));
    assert_eq!(within_patience(all.next()).await.unwrap(), JobInserted(other));
    assert_eq!(within_patience(all.next()).await.unwrap(), JobInserted(mail));

    let worker = app.perform(procrastinate::job_manager::register_worker()).await.unwrap();
    app.perform(procrastinate::job_manager::fetch_job(worker).queues(["mails"])).await.unwrap().unwrap();
    request_abort(&app, mail).await;
    assert_eq!(within_patience(mails.next()).await.unwrap(), AbortJobRequested(mail));
    assert!(app.listen_for_jobs(&[""]).await.unwrap_err().is_invalid());
}

#[tokio::test]
async fn an_abort_request_when_the_job_finishes_is_too_late_and_is_cleared() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn end_at_once() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<end_at_once>().build().unwrap();
    let id = app.defer(end_at_once()).await.unwrap();
    let worker = Running::start(app.worker().abort_job_polling_interval(NEVER));
    within_patience(STARTED.notified()).await;
    // The request is made and not committed when the worker stores the outcome, and waits for it.
    sql(&mut connection, "BEGIN");
    assert!(cancel_job(id).abort(true).execute_blocking(&mut connection).unwrap());
    GO_ON.notify_one();
    let mut observer = connect(&database);
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("the worker waits", || !rows(&mut observer, waiting).is_empty()).await;
    sql(&mut connection, "COMMIT");
    eventually("the job has ended", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    let ended = job(&mut connection, id);
    assert_eq!((ended.abort_requested, ended.attempts), (false, 1));
    assert_eq!(events(&mut connection, id), ["deferred", "started", "abort_requested", "succeeded"]);
}
