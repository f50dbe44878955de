//! Workers whose queues and tasks are paused and limited.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use procrastinate::job_manager::{
    age_priorities, limit_queue, limit_task, pause_queue, pause_task, resume_queue, resume_task,
};
use procrastinate::{App, JobStatus, task};
use tokio::sync::{Notify, Semaphore};

use crate::support::{Running, connect, connector, database, eventually, rows, sql, statuses, within_patience};

/// So long that only something else can have woken a worker.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn resuming_wakes_the_worker() {
    static RAN: Notify = Notify::const_new();

    #[task(queue = "paused")]
    async fn ring() {
        RAN.notify_one();
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<ring>().build().unwrap();
    app.defer(ring()).await.unwrap();
    let worker = Running::start(app.worker().queues(["paused"]).fetch_job_polling_interval(NEVER));
    within_patience(RAN.notified()).await;
    for is_task in [false, true] {
        app.perform(if is_task { pause_task("ring") } else { pause_queue("paused") }).await.unwrap();
        app.defer(ring()).await.unwrap();
        // The worker has been notified of the job, and found the pause.
        let mut connection = connect(&database);
        let waits = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'";
        assert_eq!(rows(&mut connection, waits), ["1"]);
        app.perform(if is_task { resume_task("ring") } else { resume_queue("paused") }).await.unwrap();
        within_patience(RAN.notified()).await;
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_found_a_full_limit_looks_again_when_there_may_be_room() {
    static STARTED: Semaphore = Semaphore::const_new(0);
    static MAY_END: Semaphore = Semaphore::const_new(0);

    #[task]
    async fn hold() {
        STARTED.add_permits(1);
        drop(MAY_END.acquire().await);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<hold>().build().unwrap();
    app.perform(limit_task("hold").max_running(1)).await.unwrap();
    for queue in ["one", "other"] {
        app.defer(hold().queue(queue)).await.unwrap();
    }
    // Each serves one of the queues, so the place that one of them releases is for the other.
    let workers = ["one", "other"].map(|queue| {
        Running::start(app.worker().queues([queue]).fetch_job_polling_interval(NEVER).listen_notify(false))
    });
    within_patience(STARTED.acquire()).await.unwrap().forget();
    assert_eq!(STARTED.available_permits(), 0);
    MAY_END.add_permits(1);
    within_patience(STARTED.acquire()).await.unwrap().forget();
    for worker in workers {
        worker.stop().await.unwrap();
    }
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Succeeded]);
}

#[tokio::test]
async fn starts_within_a_period_are_limited_and_the_worker_sleeps_until_the_next_one() {
    static STARTS: std::sync::Mutex<Vec<Instant>> = std::sync::Mutex::new(Vec::new());

    #[task]
    async fn call() {
        STARTS.lock().unwrap().push(Instant::now());
    }

    let period = Duration::from_millis(500);
    let database = database();
    let app = App::builder(connector(&database).await).task::<call>().build().unwrap();
    app.perform(limit_queue("default").max_starts(2, period)).await.unwrap();
    for _ in 0..6 {
        app.defer(call()).await.unwrap();
    }
    let worker = Running::start(app.worker().concurrency(5).fetch_job_polling_interval(NEVER));
    eventually("all jobs run", || STARTS.lock().unwrap().len() == 6).await;
    worker.stop().await.unwrap();
    // The database counts a start a moment before the job runs.
    let starts = STARTS.lock().unwrap().clone();
    for pair in starts.windows(3) {
        assert!(pair[2] - pair[0] > period - Duration::from_millis(250), "{starts:?}");
    }
    let fetches = "SELECT fetches FROM procrastinate_diesel_limit_states";
    assert_eq!(rows(&mut connect(&database), fetches), ["3"]);
}

#[tokio::test]
async fn workers_together_run_no_more_jobs_than_the_limit_allows() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static HIGHEST: AtomicUsize = AtomicUsize::new(0);

    #[task(queue = "limited")]
    async fn work() {
        HIGHEST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<work>().build().unwrap();
    app.perform(limit_queue("limited").max_running(3)).await.unwrap();
    for _ in 0..200 {
        app.defer(work()).await.unwrap();
    }
    let worker = || Running::start(app.worker().concurrency(10).fetch_job_polling_interval(NEVER));
    let workers = [worker(), worker(), worker()];
    let mut connection = connect(&database);
    let left = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'";
    eventually("all jobs run", || rows(&mut connection, left) == ["0"]).await;
    for worker in workers {
        worker.stop().await.unwrap();
    }
    let highest = HIGHEST.load(Ordering::SeqCst);
    assert!((1..=3).contains(&highest), "{highest} were running");
}

#[tokio::test]
async fn a_worker_raises_the_priorities_of_every_queue() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).build().unwrap();
    app.perform(age_priorities("reports").every(Duration::from_secs(60)).up_to(5)).await.unwrap();
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('reports', 't'), ('mails', 't');
         UPDATE procrastinate_diesel_priority_ageings SET last_aged_at = now() - interval '150 seconds', last_job_id = 2",
    );
    let worker = Running::start(app.worker().queues(["other"]));
    let priorities = "SELECT priority FROM procrastinate_jobs ORDER BY id";
    eventually("the priority is raised", || rows(&mut connection, priorities) == ["2", "0"]).await;
    worker.stop().await.unwrap();
    assert_eq!(rows(&mut connection, "SELECT pass_began_at FROM procrastinate_diesel_priority_ageings"), ["NULL"]);
}

#[tokio::test]
async fn a_worker_that_stops_when_empty_waits_a_moment_for_a_key_that_another_fetch_has_locked() {
    #[task]
    async fn import(tenant: String) {
        let _ = tenant;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<import>().build().unwrap();
    app.perform(limit_task("import").per_key("tenant").max_running(5)).await.unwrap();
    app.defer(import("a".to_owned())).await.unwrap();
    sql(
        &mut connection,
        "SELECT procrastinate_diesel_assign_keys_v1(10, now()); BEGIN; SELECT FROM procrastinate_diesel_limit_keys FOR UPDATE",
    );
    let unlock = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sql(&mut connection, "COMMIT");
    };
    let (stopped, ()) = tokio::join!(app.worker().stop_when_empty().run(), unlock);
    stopped.unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded]);

    // But not without end.
    app.defer(import("a".to_owned())).await.unwrap();
    sql(
        &mut connection,
        "SELECT procrastinate_diesel_assign_keys_v1(10, now()); BEGIN; SELECT FROM procrastinate_diesel_limit_keys FOR UPDATE",
    );
    within_patience(app.worker().stop_when_empty().run()).await.unwrap();
    sql(&mut connection, "COMMIT");
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Todo]);
}
