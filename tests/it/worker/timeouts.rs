//! Jobs that take too long.

use std::time::Duration;

use procrastinate::retry::RetryStrategy;
use procrastinate::{AbortReason, App, JobContext, JobStatus, TimedOut, task};

use crate::support::{connect, connector, database, errors, job, jobs, statuses};

#[task(timeout = "20ms")]
async fn endless() {
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_job_that_exceeds_its_timeout_fails_with_that_error() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<endless>().build().unwrap();
    let id = app.defer(endless()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    assert_eq!(job(&mut connection, id).status, JobStatus::Failed);
    assert_eq!(errors(&mut connection, id), ["1: the task exceeded its timeout of 20ms"]);
}

#[tokio::test]
async fn a_timed_out_job_is_retried_by_its_tasks_policy() {
    #[task(timeout = Duration::from_millis(10), retry = RetryStrategy::new().max_attempts(2).retry_on::<TimedOut>())]
    async fn endless_thrice() {
        std::future::pending::<()>().await;
    }

    #[task(timeout = "10ms", retry = RetryStrategy::new().max_attempts(2).retry_on::<std::io::Error>())]
    async fn endless_once() {
        std::future::pending::<()>().await;
    }

    let database = database();
    let connector = connector(&database).await;
    let app = App::builder(connector).task::<endless_thrice>().task::<endless_once>().build().unwrap();
    app.batch_defer([endless_thrice(), endless_once()]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let attempts: Vec<_> = jobs(&mut connect(&database)).into_iter().map(|job| (job.status, job.attempts)).collect();
    assert_eq!(attempts, [(JobStatus::Failed, 3), (JobStatus::Failed, 1)]);
}

#[tokio::test]
async fn a_worker_sets_a_timeout_for_tasks_without_one() {
    #[task]
    async fn without() {
        std::future::pending::<()>().await;
    }

    #[task(timeout = "1h")]
    async fn with_a_longer_one() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let database = database();
    let connector = connector(&database).await;
    let app = App::builder(connector).task::<without>().task::<with_a_longer_one>().build().unwrap();
    app.batch_defer([without(), with_a_longer_one()]).await.unwrap();
    app.worker().stop_when_empty().timeout(Duration::from_millis(30)).run().await.unwrap();
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Failed, JobStatus::Succeeded]);
}

#[tokio::test]
async fn a_blocking_task_is_asked_to_abort_and_its_slot_is_free_when_it_ends() {
    static ENDED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

    #[task(timeout = "10ms", pass_context)]
    fn slow(context: JobContext) -> Result<(), String> {
        while !context.should_abort() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(context.abort_reason(), Some(AbortReason::Timeout));
        ENDED.store(true, std::sync::atomic::Ordering::SeqCst);
        Err("half done".to_owned())
    }

    #[task]
    async fn after() -> Result<(), String> {
        let ended = ENDED.load(std::sync::atomic::Ordering::SeqCst);
        ended.then_some(()).ok_or_else(|| "the slow one was still running".to_owned())
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<slow>().task::<after>().build().unwrap();
    let ids = app.batch_defer([slow(), after()]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Failed, JobStatus::Succeeded]);
    assert_eq!(errors(&mut connection, ids[0]), ["1: the task exceeded its timeout of 10ms: half done"]);
}

#[tokio::test]
async fn a_timeout_of_zero_is_refused() {
    let database = database();
    let app = App::builder(connector(&database).await).build().unwrap();
    let error = app.worker().timeout(Duration::ZERO).run().await.unwrap_err();
    assert_eq!(error.to_string(), "invalid timeout \"0s\": must be greater than zero");
}
