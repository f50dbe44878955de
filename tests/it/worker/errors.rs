//! What is kept of a failed attempt, what a task can say itself about its job, and which jobs are kept at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::Utc;
use diesel::prelude::*;
use procrastinate::models::{ProcrastinateJob, ProcrastinateJobError};
use procrastinate::retry::RetryStrategy;
use procrastinate::{
    App, DeleteJobs, JobAborted, JobContext, JobStatus, TaskControl, UnknownTasks, configure_task, task,
};
use serde_json::json;

use crate::support::{connect, connector, database, errors, events, job, jobs, rows, sql, statuses, within_patience};

#[derive(Debug, thiserror::Error)]
#[error("the mail was not sent")]
struct NotSent(#[source] std::io::Error);

#[tokio::test]
async fn each_failed_attempt_is_kept_with_its_worker_and_its_duration() {
    #[task(retry = 2, pass_context)]
    async fn third_time_lucky(context: JobContext) -> Result<(), NotSent> {
        match context.job().attempts {
            0 => Err(NotSent(std::io::Error::other("connection refused"))),
            1 => panic!("attempt {}", 2),
            _ => Ok(()),
        }
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<third_time_lucky>().build().unwrap();
    let id = app.defer(third_time_lucky()).await.unwrap();
    app.worker().name("mailer").stop_when_empty().run().await.unwrap();

    let mut connection = connect(&database);
    let kept: Vec<ProcrastinateJobError> = ProcrastinateJobError::query()
        .filter(ProcrastinateJobError::of_job(id))
        .order(ProcrastinateJobError::oldest_first())
        .load(&mut connection)
        .unwrap();
    assert_eq!(kept.iter().map(|error| error.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(kept[0].error, "the mail was not sent: connection refused");
    let place = format!("{}:", file!());
    assert!(kept[1].error.starts_with(&format!("the task panicked at {place}")), "{}", kept[1].error);
    assert!(kept[1].error.ends_with(": attempt 2"), "{}", kept[1].error);
    for error in &kept {
        assert_eq!(error.worker_name.as_deref(), Some("mailer"));
        assert!(error.worker_id.is_some() && error.duration_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!((Utc::now() - error.at).num_minutes().abs() < 5);
    }

    // Read with the job, and gone with it.
    let job: ProcrastinateJob = job(&mut connection, id);
    let last: ProcrastinateJobError = ProcrastinateJobError::belonging_to(&job)
        .select(ProcrastinateJobError::as_select())
        .order(ProcrastinateJobError::newest_first())
        .first(&mut connection)
        .unwrap();
    assert_eq!(last, kept[1]);
    sql(&mut connection, "DELETE FROM procrastinate_jobs");
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_diesel_job_errors"), ["0"]);
}

#[tokio::test]
async fn a_panic_on_another_thread_is_stored_with_its_location_too() {
    #[task]
    fn panics_on_its_thread() {
        panic!("over there");
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<panics_on_its_thread>().build().unwrap();
    let id = app.defer(panics_on_its_thread()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let [error] = <[_; 1]>::try_from(errors(&mut connect(&database), id)).unwrap();
    assert!(error.starts_with(&format!("1: the task panicked at {}:", file!())), "{error}");
    assert!(error.ends_with(": over there"), "{error}");
}

#[tokio::test]
async fn an_error_with_characters_that_postgresql_cannot_store_is_stored() {
    #[task]
    async fn fail_badly() -> Result<(), String> {
        Err(format!("a\0b{}", "x".repeat(100_000)))
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<fail_badly>().build().unwrap();
    let id = app.defer(fail_badly()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let [error] = <[_; 1]>::try_from(errors(&mut connect(&database), id)).unwrap();
    assert!(error.starts_with("1: a\u{FFFD}bxxx") && error.ends_with("x… (90005 bytes more)"), "{}", error.len());
}

#[tokio::test]
async fn the_error_of_a_job_that_cannot_run_names_the_reason_and_location() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Item {
        price: i64,
    }
    #[task(retry = true)]
    async fn bill(items: Vec<Item>) {
        drop(items);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<bill>().build().unwrap();
    let jobs = [
        configure_task("bil", json!({})),
        configure_task("bill", json!({ "items": [{ "price": 1 }, { "price": "two" }] })),
        configure_task("bill", json!({})),
    ];
    let ids = app.batch_defer(jobs).await.unwrap();
    app.worker().unknown_tasks(UnknownTasks::Fail).stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    for (id, expected) in [
        (ids[0], "1: unknown task \"bil\"; the tasks of this application are: bill"),
        (
            ids[1],
            "1: the job's arguments do not fit the task \"bill\" at items[1].price: invalid type: string, \
             expected i64",
        ),
        (ids[2], "1: the job's arguments do not fit the task \"bill\": missing field `items`"),
    ] {
        assert_eq!(job(&mut connection, id).status, JobStatus::Failed);
        assert_eq!(errors(&mut connection, id), [expected]);
    }
}

#[tokio::test]
async fn a_snoozed_job_is_pending_and_the_attempt_does_not_count() {
    #[task(retry = 1, pass_context)]
    async fn snooze(context: JobContext) -> Result<(), TaskControl> {
        static LEFT: Mutex<u32> = Mutex::new(3);
        assert_eq!(context.job().attempts, 0);
        let mut left = LEFT.lock().unwrap();
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(TaskControl::snooze(Duration::ZERO).because("not there yet"))
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<snooze>().build().unwrap();
    let id = app.defer(snooze()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 1));
    assert_eq!(events(&mut connection, id).iter().filter(|event| *event == "started").count(), 4);
    assert_eq!(errors(&mut connection, id), [""; 0]);
}

#[tokio::test]
async fn a_task_decides_whether_and_when_it_is_retried() {
    #[task]
    async fn in_an_hour() -> Result<(), TaskControl> {
        Err(TaskControl::retry_in(Duration::from_secs(3_600)))
    }
    #[task(retry = true)]
    async fn never() -> Result<(), TaskControl> {
        Err(TaskControl::discard().because("it would come to the same"))
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<in_an_hour>().task::<never>().build().unwrap();
    let ids = app.batch_defer([in_an_hour(), never()]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    let later = job(&mut connection, ids[0]);
    let wait = later.scheduled_at.unwrap() - Utc::now();
    assert_eq!((later.status, later.attempts), (JobStatus::Todo, 1));
    assert!((3_500..=3_600).contains(&wait.num_seconds()), "{wait}");
    assert_eq!(job(&mut connection, ids[1]).status, JobStatus::Failed);
    assert_eq!(errors(&mut connection, ids[1]), ["1: the task discarded its job: it would come to the same"]);
}

#[tokio::test]
async fn a_task_knows_its_last_attempt() {
    static SEEN: Mutex<Vec<bool>> = Mutex::new(Vec::new());

    #[task(retry = RetryStrategy::new().max_attempts(2), pass_context)]
    async fn thrice(context: JobContext) -> Result<(), String> {
        SEEN.lock().unwrap().push(context.is_last_attempt());
        Err("again".to_owned())
    }
    #[task(pass_context)]
    async fn once(context: JobContext) {
        SEEN.lock().unwrap().push(context.is_last_attempt());
    }
    #[task(retry = true, pass_context)]
    async fn for_ever(context: JobContext) {
        SEEN.lock().unwrap().push(context.is_last_attempt());
    }
    let database = database();
    let app =
        App::builder(connector(&database).await).task::<thrice>().task::<once>().task::<for_ever>().build().unwrap();
    for (to_defer, expected) in [(thrice(), vec![false, false, true]), (once(), vec![true]), (for_ever(), vec![false])]
    {
        app.defer(to_defer).await.unwrap();
        app.worker().stop_when_empty().run().await.unwrap();
        assert_eq!(std::mem::take(&mut *SEEN.lock().unwrap()), expected);
    }
}

#[tokio::test]
async fn jobs_are_deleted_when_they_finish_as_configured() {
    #[task]
    async fn succeed() {}
    #[task]
    async fn fail() -> Result<(), String> {
        Err("it failed".to_owned())
    }
    #[task]
    async fn abort() -> Result<(), JobAborted> {
        Err(JobAborted)
    }
    #[task]
    async fn retry() -> Result<(), TaskControl> {
        Err(TaskControl::retry_in(Duration::from_secs(3_600)))
    }
    let database = database();
    let app = App::builder(connector(&database).await)
        .task::<succeed>()
        .task::<fail>()
        .task::<abort>()
        .task::<retry>()
        .build()
        .unwrap();
    let mut connection = connect(&database);
    for (delete_jobs, expected) in [
        (DeleteJobs::Never, "succeed fail abort retry"),
        (DeleteJobs::Successful, "fail abort retry"),
        (DeleteJobs::Always, "retry"),
    ] {
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
        app.batch_defer([succeed(), fail(), abort(), retry()]).await.unwrap();
        app.worker().stop_when_empty().concurrency(4).delete_jobs(delete_jobs).run().await.unwrap();
        let names: Vec<String> = jobs(&mut connection).into_iter().map(|job| job.task_name).collect();
        assert_eq!(names.join(" "), expected, "{delete_jobs:?}");
    }
}

#[tokio::test]
async fn an_outcome_is_stored_although_its_error_its_event_or_its_deletion_is_refused() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    #[task]
    async fn fail_without_an_error() -> Result<(), String> {
        RUNS.fetch_add(1, Ordering::SeqCst);
        Err("it failed".to_owned())
    }
    #[task]
    async fn succeed_without_an_event() {
        RUNS.fetch_add(1, Ordering::SeqCst);
    }
    #[task(queue = "needed")]
    async fn succeed_and_be_needed() {
        RUNS.fetch_add(1, Ordering::SeqCst);
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await)
        .task::<fail_without_an_error>()
        .task::<succeed_without_an_event>()
        .task::<succeed_and_be_needed>()
        .build()
        .unwrap();
    let ids = [
        app.defer(fail_without_an_error()).await.unwrap(),
        app.defer(succeed_without_an_event()).await.unwrap(),
        app.defer(succeed_and_be_needed()).await.unwrap(),
    ];
    sql(
        &mut connection,
        &format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_diesel_job_errors FOR EACH ROW EXECUTE FUNCTION refuse();
             CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_events FOR EACH ROW
                 WHEN (NEW.job_id = {} AND NEW.type = 'succeeded') EXECUTE FUNCTION refuse();
             CREATE TABLE invoices (job_id bigint REFERENCES procrastinate_jobs);
             INSERT INTO invoices VALUES ({})",
            ids[1], ids[2]
        ),
    );
    let worker = || app.worker().concurrency(2).stop_when_empty();
    within_patience(worker().queues(["default"]).run()).await.unwrap();
    within_patience(worker().queues(["needed"]).delete_jobs(DeleteJobs::Successful).run()).await.unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Failed, JobStatus::Succeeded, JobStatus::Succeeded]);
    assert_eq!(jobs(&mut connection).iter().map(|job| job.attempts).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(RUNS.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_error_in_dropping_a_value_is_retried_as_the_task_says() {
    struct PanicWhenDropped;
    impl Drop for PanicWhenDropped {
        fn drop(&mut self) {
            panic!("it was not meant to be dropped");
        }
    }
    #[task(retry = 1)]
    async fn drop_badly() {
        let _value = PanicWhenDropped;
        std::future::pending::<()>().await;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<drop_badly>().build().unwrap();
    let id = app.defer(drop_badly()).await.unwrap();
    let worker = app.worker().timeout(Duration::from_millis(20)).stop_when_empty();
    within_patience(worker.run()).await.unwrap();
    let mut connection = connect(&database);
    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Failed, 2));
    let errors = errors(&mut connection, id);
    assert!(errors.iter().all(|error| error.contains("panicked at tests/it")), "{errors:?}");
}

#[tokio::test]
async fn an_outcome_that_the_database_refuses_does_not_delay_the_others() {
    #[task]
    async fn succeed(number: i64) {
        let _ = number;
    }
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
         WHEN (NEW.status = 'succeeded' AND NEW.args @> '{\"number\": 3}') EXECUTE FUNCTION refuse()",
    );
    let app = App::builder(connector(&database).await).task::<succeed>().build().unwrap();
    app.batch_defer((0..10).map(succeed)).await.unwrap();
    let worker = crate::support::Running::start(app.worker().concurrency(10));
    crate::support::eventually("the others have succeeded", || {
        jobs(&mut connection).iter().filter(|job| job.status == JobStatus::Succeeded).count() == 9
    })
    .await;
    sql(&mut connection, "DROP TRIGGER refuse ON procrastinate_jobs");
    crate::support::eventually("the one that was refused has succeeded", || {
        jobs(&mut connection).iter().all(|job| job.status == JobStatus::Succeeded && job.attempts == 1)
    })
    .await;
    worker.stop().await.unwrap();
}
