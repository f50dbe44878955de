//! Real workers, and those of tests.

use std::time::Duration;

use procrastinate::job_manager::{
    cancel_job, delete_old_jobs, fetch_job, finish_job, register_worker, unregister_worker,
};
use procrastinate::retry::{RetryDecision, RetryStrategy};
use procrastinate::testing::at;
use procrastinate::{
    App, AppBuilder, DeleteJobs, Error, JobAborted, JobContext, JobId, JobStatus, JobToDefer, TaskControl, TaskError,
    Worker, periodic, task,
};
use tokio::sync::Notify;

use super::on_both;
use super::side::Side;
use crate::support::{Running, hours, within_patience};

/// Behaves as its arguments say.
#[task(queue = "orders", retry = RetryStrategy::new().max_attempts(2), pass_context)]
pub async fn obey(context: JobContext, order: String) -> Result<(), TaskError> {
    match order.as_str() {
        "succeed" => Ok(()),
        "panic" => panic!("as it was told"),
        "succeed later" if context.job().attempts == 1 => Ok(()),
        "abort" => Err(JobAborted.into()),
        "do not retry" => Err(TaskControl::discard().because("it is no use").into()),
        "retry in an hour" => Err(TaskControl::retry_in(Duration::from_secs(3_600)).into()),
        "retry elsewhere" if context.job().queue == "orders" => {
            let elsewhere = RetryDecision::retry_in(Duration::ZERO).priority(7).queue("elsewhere").lock("elsewhere");
            Err(TaskControl::retry(elsewhere).into())
        }
        "retry elsewhere" => Ok(()),
        "snooze for an hour" => Err(TaskControl::snooze(Duration::from_secs(3_600)).into()),
        "defer another" => {
            let app = context.job_manager().clone();
            elsewhere(async move { app.defer(obey("succeed".into()).lock("of another")).await }).await
        }
        "call itself off" => {
            let (app, id) = (context.job_manager().clone(), context.job().id);
            elsewhere(async move { app.perform(cancel_job(id).abort(true)).await }).await?;
            Err("it was called off".into())
        }
        "end itself" => {
            let (app, id) = (context.job_manager().clone(), context.job().id);
            elsewhere(async move { app.perform(finish_job(id, JobStatus::Failed)).await }).await
        }
        other => Err(other.to_owned().into()),
    }
}

/// Where the time of a test is not set: the clock of a database would not heed it, and that of the memory does.
async fn elsewhere<T: Send + 'static>(
    statement: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<(), TaskError> {
    tokio::spawn(statement).await??;
    Ok(())
}

/// All its possible arguments.
pub const ORDERS: [&str; 12] = [
    "succeed",
    "panic",
    "succeed later",
    "abort",
    "do not retry",
    "retry in an hour",
    "retry elsewhere",
    "snooze for an hour",
    "defer another",
    "call itself off",
    "end itself",
    "fail",
];

pub fn orders(app: AppBuilder) -> AppBuilder {
    app.task::<obey>()
}

fn all_orders() -> impl Iterator<Item = JobToDefer> {
    ORDERS.into_iter().map(|order| obey(order.to_owned()))
}

async fn run(side: &mut Side, configure: impl Fn(Worker) -> Worker) {
    let worker = configure(side.app.worker().name("w").stop_when_empty());
    let answer = within_patience(worker.run()).await;
    side.answer("run", answer);
    side.look();
}

#[tokio::test]
async fn a_worker_stores_the_same_outcome_for_every_result_of_a_task() {
    on_both(orders, async |side| {
        let answer = side.app.batch_defer(all_orders()).await;
        side.answer("defer", answer);
        run(side, |worker| worker).await;
        run(side, |worker| worker).await;
    })
    .await;
}

#[tokio::test]
async fn finished_jobs_are_deleted_if_configured() {
    for delete_jobs in [DeleteJobs::Successful, DeleteJobs::Always] {
        on_both(orders, async |side| {
            side.app.batch_defer(all_orders()).await.unwrap();
            run(side, |worker| worker.delete_jobs(delete_jobs)).await;
        })
        .await;
    }
}

#[tokio::test]
async fn many_jobs_with_locks_and_priorities_run_side_by_side() {
    on_both(orders, async |side| {
        let jobs = (0..60_i32).map(|number| {
            let job = obey(if number % 7 == 0 { "succeed later" } else { "succeed" }.to_owned()).priority(number % 3);
            let job = if number % 2 == 0 { job.lock(format!("lock {}", number % 5)) } else { job };
            if number % 11 == 0 { job.queue("elsewhere") } else { job }
        });
        side.app.batch_defer(jobs).await.unwrap();
        run(side, |worker| worker.concurrency(8).queues(["orders"])).await;
        run(side, |worker| worker.concurrency(3)).await;
    })
    .await;
}

#[tokio::test]
async fn jobs_run_in_the_order_in_which_they_are_fetched() {
    #[task(pass_context)]
    async fn tell(context: JobContext) -> Result<(), TaskError> {
        context.state::<Order>()?.0.lock().unwrap().push(context.job().id);
        Ok(())
    }
    #[derive(Clone, Default)]
    struct Order(std::sync::Arc<std::sync::Mutex<Vec<JobId>>>);

    on_both(AppBuilder::task::<tell>, async |side| {
        let order = Order::default();
        let jobs = (0..40_i32).map(|number| {
            let job = tell().priority(number * 7 % 5);
            if number % 3 == 0 { job.lock(format!("lock {}", number % 2)) } else { job }
        });
        side.app.batch_defer(jobs).await.unwrap();
        run(side, |worker| worker.state(order.clone())).await;
        side.note(format!("{:?}", order.0.lock().unwrap()));
    })
    .await;
}

#[tokio::test]
async fn an_idle_worker_is_notified_of_jobs_and_abort_requests() {
    static STARTED: Notify = Notify::const_new();
    static ENDED: Notify = Notify::const_new();

    struct Held;
    impl Drop for Held {
        fn drop(&mut self) {
            ENDED.notify_one();
        }
    }
    #[task]
    async fn wait_for_ever() {
        let _held = Held;
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }
    /// So long that only a notification can have woken the worker.
    const NEVER: Duration = Duration::from_secs(3_600);

    on_both(AppBuilder::task::<wait_for_ever>, async |side| {
        let worker = side.app.worker().fetch_job_polling_interval(NEVER).abort_job_polling_interval(NEVER);
        let running = Running::start(worker.queues(["default"]));
        for _ in 0..3 {
            let id = side.app.defer(wait_for_ever()).await.unwrap();
            within_patience(STARTED.notified()).await;
            let answer = side.app.perform(cancel_job(id).abort(true)).await;
            side.answer("abort", answer);
            within_patience(ENDED.notified()).await;
        }
        within_patience(async {
            while side.jobs().iter().any(|job| job.status != JobStatus::Aborted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // The worker is still registered, and has released its jobs.
        side.look();
        let answer = running.stop().await;
        side.answer("stop", answer);
    })
    .await;
}

#[tokio::test]
async fn a_pruned_worker_re_registers_and_keeps_its_job() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn wait_for_word() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    on_both(AppBuilder::task::<wait_for_word>, async |side| {
        let running = Running::start(side.app.worker().update_heartbeat_interval(Duration::from_millis(20)));
        side.app.defer(wait_for_word()).await.unwrap();
        within_patience(STARTED.notified()).await;
        let answer = side.app.perform(unregister_worker(1)).await;
        side.answer("unregister it", answer);
        within_patience(async {
            while side.jobs()[0].worker_id != Some(2) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        side.look();
        GO_ON.notify_one();
        let answer = running.stop().await;
        side.answer("stop", answer);
    })
    .await;
}

#[tokio::test]
async fn the_jobs_of_a_dead_worker_are_rescued_by_the_rules_of_their_tasks() {
    #[task]
    async fn again() {}
    #[task(stalled = "fail")]
    async fn fail_then() {}
    #[task(stalled = "leave")]
    async fn leave_it() {}

    let tasks = |app: AppBuilder| app.task::<again>().task::<fail_then>().task::<leave_it>();
    on_both(tasks, async |side| {
        let app = side.app.clone();
        let jobs = [again(), fail_then(), leave_it(), again().queueing_lock("q"), again(), again().lock("l")];
        app.batch_defer(jobs).await.unwrap();
        let dead = app.perform(register_worker()).await.unwrap();
        for _ in 0..6 {
            app.perform(fetch_job(dead)).await.unwrap().unwrap();
        }
        app.defer(again().queueing_lock("q")).await.unwrap();
        app.defer(again().lock("l").priority(5)).await.unwrap();
        app.perform(cancel_job(5).abort(true)).await.unwrap();
        app.perform(unregister_worker(dead)).await.unwrap();
        side.look();
        run(side, |worker| worker).await;
    })
    .await;
}

#[tokio::test]
async fn a_worker_defers_the_latest_tick() {
    #[periodic(cron = "0 0 1 1 *", max_delay = Duration::from_secs(40_000_000))]
    #[task]
    async fn new_year(timestamp: i64) {
        assert!(timestamp > 0);
    }
    on_both(AppBuilder::task::<new_year>, async |side| {
        run(side, |worker| worker).await;
        run(side, |worker| worker).await;
    })
    .await;
}

#[tokio::test]
async fn old_jobs_are_deleted_while_a_worker_runs() {
    on_both(orders, async |side| {
        side.app.batch_defer([obey("succeed".into()), obey("do not retry".into())]).await.unwrap();
        run(side, |worker| worker).await;
        let running = Running::start(side.app.worker().delete_jobs_older_than(JobStatus::Succeeded, Duration::ZERO));
        within_patience(async {
            while side.jobs().len() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let answer = running.stop().await;
        side.answer("stop", answer);
    })
    .await;
}

#[tokio::test]
async fn a_test_worker_runs_what_is_due_at_its_time() {
    on_both(orders, async |side| {
        side.app.batch_defer(all_orders().map(|job| job.lock("one after the other"))).await.unwrap();
        side.app.defer(obey("succeed".into()).schedule_at("2100-01-01T00:00:00Z".parse().unwrap())).await.unwrap();
        let mut worker = side.app.test_worker().unwrap().at("2090-01-01T00:00:00Z".parse().unwrap());
        for advance in [Duration::ZERO, Duration::from_secs(3_700), Duration::from_secs(100 * 366 * 24 * 3_600)] {
            worker.advance(advance);
            let ran = worker.run_until_empty().await.unwrap();
            let ran: Vec<_> =
                ran.iter().map(|ran| format!("{} {:?}", ran.job, std::mem::discriminant(&ran.ending))).collect();
            side.note(ran.join("\n"));
            side.look();
        }
    })
    .await;
}

#[tokio::test]
async fn the_time_of_a_test_is_that_of_the_memory() {
    let memory = procrastinate::testing::InMemoryConnector::new();
    let app = orders(App::builder(memory.clone())).build().unwrap();
    let (morning, evening) = ("2100-01-01T08:00:00Z".parse().unwrap(), "2100-01-01T20:00:00Z".parse().unwrap());
    let noon = obey("succeed".into()).schedule_in(Duration::from_secs(4 * 3_600));
    let id = at(morning, app.defer(noon)).await.unwrap();
    assert_eq!(memory.jobs()[0].scheduled_at.unwrap().to_rfc3339(), "2100-01-01T12:00:00+00:00");
    assert_eq!(memory.events()[1].at, Some(morning));

    // It is noon when the test says so.
    let worker = app.perform(register_worker()).await.unwrap();
    assert!(at(morning, app.perform(fetch_job(worker))).await.unwrap().is_none());
    assert!(at(evening, app.perform(fetch_job(worker))).await.unwrap().is_some());
    at(evening, app.perform(finish_job(id, JobStatus::Succeeded))).await.unwrap();
    assert_eq!(memory.events()[3].at, Some(evening));
    assert_eq!(at(evening, app.perform(delete_old_jobs(hours(1)))).await.unwrap(), 0);
    let next_day = "2100-01-02T20:00:00Z".parse().unwrap();
    assert_eq!(at(next_day, app.perform(delete_old_jobs(hours(1)))).await.unwrap(), 1);
}

#[tokio::test]
async fn reset_empties_everything_and_begins_anew() {
    let memory = procrastinate::testing::InMemoryConnector::new();
    let app: App = orders(App::builder(memory.clone())).build().unwrap();
    let mut listener = app.listen_for_jobs(&[]).await.unwrap();
    for _ in 0..2 {
        let id = app.defer(obey("fail".into())).await.unwrap();
        assert_eq!(id, 1);
        within_patience(listener.next()).await.unwrap();
        app.worker().stop_when_empty().run().await.unwrap();
        assert_eq!((memory.jobs().len(), memory.job_errors().len()), (1, 3));
        assert_eq!(memory.queries()[0].name, "InsertJob");
        assert!(memory.queries()[0].sql.contains("INSERT INTO procrastinate_jobs"), "{:?}", memory.queries()[0]);
        memory.reset();
        assert!(memory.jobs().is_empty() && memory.events().is_empty() && memory.job_errors().is_empty());
        assert!(memory.workers().is_empty() && memory.periodic_defers().is_empty() && memory.queries().is_empty());
    }
}
