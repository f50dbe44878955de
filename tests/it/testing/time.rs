//! Time as a parameter: schedules, retries and periodic tasks without waiting.

use std::time::Duration;

use chrono::{DateTime, Utc};
use procrastinate::job_manager::limit_task;
use procrastinate::retry::RetryStrategy;
use procrastinate::testing::{self, JobOutcome};
use procrastinate::{AppBuilder, JobContext, TaskError, periodic, task};

use super::{app, note, notes_of, shop};

const HOUR: Duration = Duration::from_secs(3_600);

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_scheduled_job_is_pending_until_the_clock_is_advanced() {
    let database = shop();
    let (app, pool) = app(&database, AppBuilder::task::<note>).await;
    app.defer(note("later".into()).schedule_in(HOUR)).await.unwrap();
    app.defer(note("at once".into())).await.unwrap();
    let mut worker = app.test_worker().unwrap();
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 1);
    worker.advance(HOUR / 2);
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 0);
    worker.advance(HOUR / 2);
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 1);
    assert_eq!(notes_of(&pool).await, ["at once", "later"]);
}

#[tokio::test]
async fn starts_are_limited_within_a_period_of_the_workers_time() {
    for then in ["2020-01-01T08:00:00Z", "2035-01-01T08:00:00Z"] {
        let database = shop();
        let (app, _pool) = app(&database, AppBuilder::task::<note>).await;
        app.perform(limit_task("note").max_starts(1, HOUR)).await.unwrap();
        app.defer(note("now".into())).await.unwrap();
        app.defer(note("later".into())).await.unwrap();
        let mut worker = app.test_worker().unwrap().at(time(then));
        for expected in [1, 0, 1] {
            assert_eq!(worker.run_until_empty().await.unwrap().len(), expected, "{then}");
            worker.advance(HOUR * 2 / 3);
        }
    }
}

#[tokio::test]
async fn retries_count_from_the_workers_time() {
    #[task(retry = RetryStrategy::new().max_attempts(2).wait(60))]
    async fn fail() -> Result<(), String> {
        Err("no paper".into())
    }
    let database = shop();
    let (app, _pool) = app(&database, AppBuilder::task::<fail>).await;
    app.defer(fail()).await.unwrap();
    let mut worker = app.test_worker().unwrap().at(time("2035-01-01T08:00:00Z"));
    for attempt in 0..3 {
        let ran = worker.run_until_empty().await.unwrap();
        assert_eq!((ran.len(), ran[0].job.attempts), (1, attempt));
        assert_eq!(matches!(ran[0].ending, JobOutcome::Retried { .. }), attempt < 2);
        worker.advance(Duration::from_secs(59));
        assert_eq!(worker.run_until_empty().await.unwrap().len(), 0, "it is too early");
        worker.advance(Duration::from_secs(1));
    }
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_job_that_is_retried_immediately_is_due_at_any_time_of_the_worker() {
    #[task(retry = 1, pass_context)]
    async fn succeed_at_last(context: JobContext) -> Result<(), String> {
        if context.is_last_attempt() { Ok(()) } else { Err("not yet".into()) }
    }
    let database = shop();
    let (app, _pool) = app(&database, AppBuilder::task::<succeed_at_last>).await;
    for then in ["1999-01-01T00:00:00Z", "2035-01-01T00:00:00Z"] {
        app.defer(succeed_at_last()).await.unwrap();
        let ran = app.test_worker().unwrap().at(time(then)).run_until_empty().await.unwrap();
        assert_eq!(ran.len(), 2, "at {then}");
    }
}

#[tokio::test]
async fn jobs_see_the_workers_time_in_what_they_defer() {
    #[task(pass_context)]
    async fn plan(context: JobContext) -> Result<(), TaskError> {
        assert_eq!(context.start_timestamp(), time("2035-01-01T08:00:00Z"));
        context.defer(note("async".into()).schedule_in(HOUR)).await?;
        let job = procrastinate::blocking(|| {
            // Options of a job are checked with the time that they mean.
            note("blocking".into()).schedule_in(HOUR)
        })
        .await;
        context.defer(job).await?;
        Ok(())
    }
    let database = shop();
    let (app, pool) = app(&database, |app| app.task::<plan>().task::<note>()).await;
    app.defer(plan()).await.unwrap();
    let _ = app.test_worker().unwrap().at(time("2035-01-01T08:00:00Z")).run_until_empty().await.unwrap();
    let jobs = testing::deferred_jobs(&mut *pool.get().await.unwrap()).await.unwrap();
    let times: Vec<_> = jobs.iter().map(|job| job.scheduled_at.unwrap()).collect();
    assert_eq!(times, [time("2035-01-01T09:00:00Z"); 2]);
}

#[tokio::test]
async fn code_that_defers_can_be_run_at_another_time() {
    let database = shop();
    let (app, pool) = app(&database, AppBuilder::task::<note>).await;
    testing::at(time("2035-01-01T08:00:00Z"), app.defer(note("later".into()).schedule_in(HOUR))).await.unwrap();
    let jobs = testing::deferred_jobs(&mut *pool.get().await.unwrap()).await.unwrap();
    assert_eq!(jobs[0].scheduled_at, Some(time("2035-01-01T09:00:00Z")));
}

#[periodic(cron = "0 * * * *")]
#[task]
async fn report(timestamp: i64) {
    let _ = timestamp;
}

#[tokio::test]
async fn periodic_tasks_are_deferred_when_the_clock_is_advanced_past_their_ticks() {
    let database = shop();
    let (app, _pool) = app(&database, AppBuilder::task::<report>).await;
    let mut worker = app.test_worker().unwrap().at(time("2035-01-01T08:00:00Z"));
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 0, "what was due before is no concern of it");
    worker.advance(HOUR - Duration::from_secs(1));
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 0);
    worker.advance(2 * HOUR);
    let ran = worker.run_until_empty().await.unwrap().expect_success();
    let ticks: Vec<i64> = ran.iter().map(|ran| ran.job.args["timestamp"].as_i64().unwrap()).collect();
    let expected = ["2035-01-01T09:00:00Z", "2035-01-01T10:00:00Z"].map(|tick| time(tick).timestamp());
    assert_eq!(ticks, expected);
    worker.advance_to(time("2035-01-01T10:59:59Z"));
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 0);
}
