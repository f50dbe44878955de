//! Queues with a concurrency of their own, in one worker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use procrastinate::{App, JobContext, JobStatus, task};
use tokio::sync::{Notify, Semaphore};

use crate::support::{
    Running, connect, connector, database, eventually, rows, sql, statuses, within_patience, workers,
};

#[tokio::test]
async fn each_queue_has_its_own_concurrency_and_a_full_one_does_not_hold_up_the_others() {
    static GO_ON: Semaphore = Semaphore::const_new(0);
    static SLOW: AtomicUsize = AtomicUsize::new(0);
    static FAST: AtomicUsize = AtomicUsize::new(0);

    #[task]
    async fn hold_one_of_its_queue(limit: usize) {
        let running = if limit == 1 { &SLOW } else { &FAST };
        assert!(running.fetch_add(1, Ordering::SeqCst) < limit);
        GO_ON.acquire().await.unwrap().forget();
        running.fetch_sub(1, Ordering::SeqCst);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<hold_one_of_its_queue>().build().unwrap();
    let jobs = (0..20).map(|n| {
        let (queue, limit) = if n < 10 { ("slow", 1) } else { ("fast", 3) };
        hold_one_of_its_queue(limit).queue(queue)
    });
    app.batch_defer(jobs).await.unwrap();
    let worker = Running::start(app.worker().queue("slow", 1).queue("fast", 3));
    let running = || (SLOW.load(Ordering::SeqCst), FAST.load(Ordering::SeqCst));
    eventually("every slot is taken", || running() == (1, 3)).await;
    let mut connection = connect(&database);
    let doing = rows(
        &mut connection,
        "SELECT queue_name || ' ' || count(*) FROM procrastinate_jobs WHERE status = 'doing' GROUP BY queue_name ORDER BY 1",
    );
    assert_eq!(doing, ["fast 3", "slow 1"]);

    GO_ON.add_permits(20);
    eventually("all have succeeded", || statuses(&mut connection) == vec![JobStatus::Succeeded; 20]).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn all_queues_share_one_registration_and_one_listening_connection() {
    static STARTED: Semaphore = Semaphore::const_new(0);

    #[task(pass_context)]
    async fn say_its_queues(context: JobContext) {
        assert_eq!(context.worker_queues().unwrap(), ["rest", "other", "slow", "fast"]);
        STARTED.add_permits(1);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<say_its_queues>().build().unwrap();
    let interval = Duration::from_secs(600);
    let worker = app.worker().queue("slow", 1).queue("fast", 3).queues(["rest", "other"]).concurrency(2);
    let worker = Running::start(worker.fetch_job_polling_interval(interval));
    let mut connection = connect(&database);
    eventually("the worker listens", || {
        let listening =
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        rows(&mut connection, listening).len() == 1
    })
    .await;
    assert_eq!(workers(&mut connection).len(), 1);
    // Only notifications can start them, because the worker does not poll.
    for queue in ["fast", "rest", "slow", "other", "fast"] {
        app.defer(say_its_queues().queue(queue)).await.unwrap();
        within_patience(STARTED.acquire()).await.unwrap().forget();
    }
    app.defer(say_its_queues().queue("elsewhere")).await.unwrap();
    eventually("five have succeeded", || {
        statuses(&mut connection).iter().filter(|status| **status == JobStatus::Succeeded).count() == 5
    })
    .await;
    worker.stop().await.unwrap();
    assert_eq!(statuses(&mut connection).last(), Some(&JobStatus::Todo));
}

#[tokio::test]
async fn the_next_job_of_a_lock_starts_at_once_in_another_queue_too() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Semaphore = Semaphore::const_new(0);

    #[task]
    async fn pass_the_lock_on() {
        STARTED.notify_one();
        GO_ON.acquire().await.unwrap().forget();
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<pass_the_lock_on>().build().unwrap();
    for queue in ["first", "second", "first"] {
        app.defer(pass_the_lock_on().queue(queue).lock("one at a time")).await.unwrap();
    }
    let worker = app.worker().queue("first", 1).queue("second", 1);
    let worker = Running::start(worker.fetch_job_polling_interval(Duration::from_secs(600)));
    for _ in 0..3 {
        within_patience(STARTED.notified()).await;
        GO_ON.add_permits(1);
    }
    let mut connection = connect(&database);
    eventually("all have succeeded", || statuses(&mut connection) == vec![JobStatus::Succeeded; 3]).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_stops_when_empty_runs_the_jobs_of_every_group() {
    #[task]
    async fn be_one_of_many() {}

    let database = database();
    let app = App::builder(connector(&database).await).task::<be_one_of_many>().build().unwrap();
    let queues = ["a", "b", "c", "elsewhere"];
    app.batch_defer((0..80).map(|n| be_one_of_many().queue(queues[n % 4]))).await.unwrap();
    let worker = app.worker().queue("a", 1).queue("b", 2).queues(["c"]).local_buffer(3).stop_when_empty();
    within_patience(worker.run()).await.unwrap();
    let mut connection = connect(&database);
    let left = rows(&mut connection, "SELECT DISTINCT queue_name FROM procrastinate_jobs WHERE status <> 'succeeded'");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(statuses(&mut connection).iter().filter(|status| **status == JobStatus::Todo).count(), 20);
}

#[tokio::test]
async fn a_job_that_moves_to_another_queue_keeps_its_slot_until_it_ends() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Semaphore = Semaphore::const_new(0);

    #[task]
    async fn move_meanwhile() {
        STARTED.notify_one();
        GO_ON.acquire().await.unwrap().forget();
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<move_meanwhile>().build().unwrap();
    app.batch_defer([move_meanwhile().queue("a"), move_meanwhile().queue("a")]).await.unwrap();
    let worker = Running::start(app.worker().queue("a", 1).queue("b", 1));
    within_patience(STARTED.notified()).await;
    let mut connection = connect(&database);
    sql(&mut connection, "UPDATE procrastinate_jobs SET queue_name = 'b' WHERE status = 'doing'");
    app.defer(move_meanwhile().queue("b")).await.unwrap();
    within_patience(STARTED.notified()).await;
    assert_eq!(statuses(&mut connection).iter().filter(|status| **status == JobStatus::Doing).count(), 2);
    GO_ON.add_permits(3);
    eventually("all have succeeded", || statuses(&mut connection) == vec![JobStatus::Succeeded; 3]).await;
    worker.stop().await.unwrap();
}
