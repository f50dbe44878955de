//! Which jobs run when, and how many at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use chrono::{TimeDelta, Utc};
use procrastinate::{App, JobStatus, task};
use tokio::sync::{Barrier, Notify, Semaphore};

use crate::support::{Running, connect, connector, database, jobs, statuses, within_patience};

#[tokio::test]
async fn jobs_run_by_priority_and_then_in_the_order_of_deferring() {
    static RAN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

    #[task]
    async fn note(number: u32) {
        RAN.lock().unwrap().push(number);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<note>().build().unwrap();
    let priorities = [0, 5, -3, 5, 0];
    app.batch_defer((0..5).map(|n| note(n).priority(priorities[n as usize]))).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(*RAN.lock().unwrap(), [1, 3, 0, 4, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_limits_how_many_jobs_run_at_the_same_time() {
    static TOGETHER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(3));
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    #[task]
    async fn meet() {
        MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Three have to be running for any of them to go on.
        TOGETHER.wait().await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<meet>().build().unwrap();
    app.batch_defer((0..30).map(|_| meet())).await.unwrap();

    within_patience(app.worker().concurrency(3).stop_when_empty().run()).await.unwrap();

    assert_eq!(MOST.load(Ordering::SeqCst), 3);
    assert_eq!(statuses(&mut connect(&database)), vec![JobStatus::Succeeded; 30]);
}

#[tokio::test]
async fn a_worker_fetches_no_more_jobs_than_it_has_slots() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Semaphore = Semaphore::const_new(0);

    #[task]
    async fn hold() {
        STARTED.notify_one();
        GO_ON.acquire().await.unwrap().forget();
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<hold>().build().unwrap();
    let worker = Running::start(app.worker().concurrency(2));
    app.defer(hold()).await.unwrap();
    within_patience(STARTED.notified()).await;
    app.batch_defer([hold(), hold(), hold()]).await.unwrap();
    within_patience(STARTED.notified()).await;

    use JobStatus::{Doing, Succeeded, Todo};
    assert_eq!(statuses(&mut connection), [Doing, Doing, Todo, Todo]);
    GO_ON.add_permits(1);
    within_patience(STARTED.notified()).await;
    let mut now = statuses(&mut connection);
    now.sort_by_key(ToString::to_string);
    assert_eq!(now, [Doing, Doing, Succeeded, Todo]);
    GO_ON.add_permits(3);
    within_patience(STARTED.notified()).await;
    worker.stop().await.unwrap();
    assert_eq!(statuses(&mut connection), vec![Succeeded; 4]);
}

#[tokio::test]
async fn a_worker_serves_its_queues_only() {
    #[task]
    async fn nothing() {}

    let database = database();
    let app = App::builder(connector(&database).await).task::<nothing>().build().unwrap();
    app.batch_defer(["a", "b", "c"].map(|queue| nothing().queue(queue))).await.unwrap();

    app.worker().queues(["a", "c"]).stop_when_empty().run().await.unwrap();

    use JobStatus::{Succeeded, Todo};
    assert_eq!(statuses(&mut connect(&database)), [Succeeded, Todo, Succeeded]);
}

#[tokio::test]
async fn a_job_that_is_scheduled_for_later_stays() {
    #[task]
    async fn nothing() {}

    let database = database();
    let app = App::builder(connector(&database).await).task::<nothing>().build().unwrap();
    let times = [Utc::now() - TimeDelta::hours(1), Utc::now() + TimeDelta::hours(1)];
    app.batch_defer(times.map(|time| nothing().schedule_at(time))).await.unwrap();

    app.worker().concurrency(2).stop_when_empty().run().await.unwrap();

    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Todo]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_with_one_lock_run_one_at_a_time_while_others_run_concurrently() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static RAN: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    static BESIDE: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

    #[task(lock = "one")]
    async fn locked(number: u32) {
        assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0);
        if number == 0 {
            BESIDE.wait().await;
        }
        RAN.lock().unwrap().push(number);
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
    #[task]
    async fn free() {
        BESIDE.wait().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<locked>().task::<free>().build().unwrap();
    app.batch_defer((0..20).map(locked)).await.unwrap();
    app.defer(free()).await.unwrap();

    within_patience(app.worker().concurrency(5).stop_when_empty().run()).await.unwrap();

    assert_eq!(*RAN.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert!(jobs(&mut connect(&database)).iter().all(|job| job.status == JobStatus::Succeeded));
}

#[tokio::test]
async fn settings_of_a_worker_take_precedence_over_the_applications_defaults() {
    static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[task(pass_context)]
    async fn say_who(context: procrastinate::JobContext) {
        NAMES.lock().unwrap().push(context.worker_name().to_owned());
    }

    let database = database();
    let app = App::builder(connector(&database).await)
        .task::<say_who>()
        .worker_defaults(|worker| worker.name("by default").stop_when_empty())
        .build()
        .unwrap();
    for worker in [app.worker(), app.worker().name("otherwise")] {
        app.defer(say_who()).await.unwrap();
        worker.run().await.unwrap();
    }
    assert_eq!(*NAMES.lock().unwrap(), ["by default", "otherwise"]);
}
