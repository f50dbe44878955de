//! What a test worker runs, and what becomes of it.

use diesel::prelude::*;
use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
use procrastinate::testing::{JobOutcome, JobRuns};
use procrastinate::{App, AppBuilder, Error, JobContext, JobStatus, TaskError, task};

use super::{Connections, app, note, notes, notes_of, shop};
use crate::support::{connect, jobs, rows, sql, transaction};

#[tokio::test]
async fn jobs_run_in_the_tests_transaction_and_are_gone_with_it() {
    let database = shop();
    let (app, pool) = app(&database, AppBuilder::task::<note>).await;
    let id = app.defer(note("hello".into())).await.unwrap();

    let ran = app.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    assert_eq!(ran.task_names(), ["note"]);
    assert_eq!(notes_of(&pool).await, ["hello"]);
    let mut connection = pool.get().await.unwrap();
    let query = ProcrastinateJob::query().filter(ProcrastinateJob::has_id(id));
    let job: ProcrastinateJob = diesel_async::RunQueryDsl::first(query, &mut *connection).await.unwrap();
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 1));
    let query = ProcrastinateEvent::query().filter(ProcrastinateEvent::of_job(id));
    let events: Vec<ProcrastinateEvent> =
        diesel_async::RunQueryDsl::load(query.order(ProcrastinateEvent::oldest_first()), &mut *connection)
            .await
            .unwrap();
    let events: Vec<String> = events.into_iter().map(|event| event.event_type.unwrap().to_string()).collect();
    assert_eq!(events, ["deferred", "started", "succeeded"]);

    // Nobody else has seen anything, and nothing stays.
    assert_eq!(jobs(&mut connect(&database)), []);
    drop(connection);
    drop((pool, app));
    assert_eq!(rows(&mut connect(&database), "SELECT text FROM notes"), [""; 0]);
    assert_eq!(rows(&mut connect(&database), "SELECT id FROM procrastinate_workers"), [""; 0]);
}

#[tokio::test]
async fn a_transaction_of_the_application_is_one_within_the_tests() {
    #[task(pass_context)]
    async fn keep_the_first(context: JobContext) -> Result<(), TaskError> {
        let mut connection = context.state::<Connections>()?.0.get().await?;
        for text in ["one", "two"] {
            let done = transaction(&mut connection, async |connection| {
                let insert = diesel::insert_into(notes::table).values(notes::text.eq(text));
                diesel_async::RunQueryDsl::execute(insert, connection).await?;
                note(format!("{text} was kept")).defer(connection).await?;
                if text == "two" { Err(TaskError::from("no")) } else { Ok(()) }
            })
            .await;
            assert_eq!(done.is_ok(), text == "one");
        }
        Ok(())
    }
    let database = shop();
    let (app, pool) = app(&database, |app| app.task::<note>().task::<keep_the_first>()).await;
    app.defer(keep_the_first()).await.unwrap();
    let ran = app.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    assert_eq!(ran.task_names(), ["keep_the_first", "note"]);
    assert_eq!(notes_of(&pool).await, ["one", "one was kept"]);
}

#[tokio::test]
async fn a_failed_statement_in_a_task_rolls_back_only_what_that_task_did() {
    let database = shop();
    let (app, pool) = app(&database, AppBuilder::task::<note>).await;
    for text in ["one", "one", "two"] {
        app.defer(note(text.into())).await.unwrap();
    }
    let ran = app.test_worker().unwrap().run_until_empty().await.unwrap();
    let endings: Vec<String> = ran.iter().map(|ran| ran.ending.to_string()).collect();
    let violated = r#"failed: duplicate key value violates unique constraint "notes_text_key""#;
    assert_eq!(endings, ["succeeded", violated, "succeeded"]);
    assert_eq!(notes_of(&pool).await, ["one", "two"]);
}

#[tokio::test]
async fn outcomes_are_returned_and_stored() {
    #[task]
    async fn end(how: String) -> Result<(), TaskError> {
        match how.as_str() {
            "fail" => Err("no paper".into()),
            "panic" => panic!("on fire"),
            "abort" => Err(procrastinate::JobAborted.into()),
            _ => Ok(()),
        }
    }
    let database = shop();
    let (app, pool) = app(&database, AppBuilder::task::<end>).await;
    for how in ["fail", "panic", "abort", "succeed"] {
        app.defer(end(how.into())).await.unwrap();
    }
    app.defer(procrastinate::configure_task("nobody", serde_json::json!({}))).await.unwrap();
    let ran = app.test_worker().unwrap().run_until_empty().await.unwrap();
    assert_eq!(ran[0].ending, JobOutcome::Failed { error: "no paper".into() });
    assert!(ran[1].ending.to_string().contains("on fire"), "{}", ran[1]);
    assert!(matches!(&ran[2].ending, JobOutcome::Aborted { error } if !error.is_empty()), "{}", ran[2]);
    assert_eq!(ran[3].ending, JobOutcome::Succeeded);
    assert!(ran[4].ending.to_string().contains("nobody"), "{}", ran[4]);
    let query = ProcrastinateJob::query().order(ProcrastinateJob::oldest_first());
    let jobs: Vec<ProcrastinateJob> =
        diesel_async::RunQueryDsl::load(query, &mut *pool.get().await.unwrap()).await.unwrap();
    let statuses: Vec<String> = jobs.into_iter().map(|job| job.status.to_string()).collect();
    assert_eq!(statuses, ["failed", "failed", "aborted", "succeeded", "failed"]);
}

#[tokio::test]
async fn a_job_that_failed_does_not_pass_for_success() {
    #[task]
    async fn fail() -> Result<(), String> {
        Err("no paper".into())
    }
    let database = shop();
    let (app, _pool) = app(&database, AppBuilder::task::<fail>).await;
    let id = app.defer(fail()).await.unwrap();
    let ran = app.test_worker().unwrap().run_until_empty().await.unwrap();
    let panic = std::panic::catch_unwind(|| ran.expect_success()).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert_eq!(*message, format!("not every job succeeded:\n  fail[{id}]() failed: no paper"));
    assert_eq!(JobRuns::default().to_string(), "  no jobs were run");
}

#[tokio::test]
async fn an_endless_chain_of_jobs_is_noticed() {
    #[task(retry = true)]
    async fn again() -> Result<(), String> {
        Err("once more".into())
    }
    let database = shop();
    let (app, _pool) = app(&database, AppBuilder::task::<again>).await;
    app.defer(again()).await.unwrap();
    let error = app.test_worker().unwrap().run_until_empty().await.unwrap_err().to_string();
    assert!(error.contains("still due jobs after 1000") && error.contains("again["), "{error}");
}

#[tokio::test]
async fn a_lost_transaction_is_noticed() {
    #[task(pass_context)]
    async fn panic_with_the_connection(context: JobContext) {
        let _connection = context.state::<Connections>().unwrap().0.get().await.unwrap();
        panic!("on fire");
    }
    let database = shop();
    let (app, _pool) = app(&database, AppBuilder::task::<panic_with_the_connection>).await;
    app.defer(panic_with_the_connection()).await.unwrap();
    let error = app.test_worker().unwrap().run_until_empty().await.unwrap_err();
    assert!(matches!(&error, Error::Testing { problem } if problem.contains("while its thread panics")), "{error}");
}

#[tokio::test]
async fn a_worker_serves_only_its_queues_and_stops_if_a_job_asks_it_to() {
    #[task(queue = "last", pass_context)]
    async fn stop(context: JobContext) {
        context.worker().stop();
    }
    let database = shop();
    let (app, _pool) = app(&database, |app| app.task::<note>().task::<stop>()).await;
    app.defer(note("hello".into())).await.unwrap();
    app.defer(stop()).await.unwrap();
    app.defer(stop()).await.unwrap();
    let run = |app: App, queue: &'static str| async move {
        let ran = app.worker().queues([queue]).into_test_worker().unwrap().run_until_empty().await.unwrap();
        ran.expect_success().len()
    };
    assert_eq!(run(app.clone(), "nothing").await, 0);
    assert_eq!(run(app.clone(), "last").await, 1);
    assert_eq!(run(app.clone(), "notes").await, 1);
    let settings = app.worker().concurrency(0);
    assert!(settings.into_test_worker().unwrap_err().to_string().contains("concurrency"));
}

/// The same jobs, each with its own mix of priority, lock and schedule: a test worker must take them in the order of the
/// contract's own function.
#[tokio::test]
async fn jobs_are_fetched_in_the_order_of_the_contract() {
    const FETCH_ALL: &str = "
        CREATE FUNCTION pg_temp.fetch_all() RETURNS SETOF bigint LANGUAGE plpgsql AS $$
        DECLARE fetched procrastinate_jobs;
        BEGIN
            LOOP
                fetched := procrastinate_fetch_job_v2(NULL, NULL);
                EXIT WHEN fetched.id IS NULL;
                RETURN NEXT fetched.id;
                PERFORM procrastinate_finish_job_v1(fetched.id, 'succeeded', false);
            END LOOP;
        END $$";
    #[task]
    async fn nothing() {}
    let database = shop();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, scheduled_at)
         SELECT 'default', 'nothing', n * 7 % 5, CASE WHEN n % 3 > 0 THEN 'lock ' || n * 11 % 4 END,
                CASE n % 4 WHEN 0 THEN now() - interval '1 hour' WHEN 1 THEN now() + interval '1 hour' END
         FROM generate_series(1, 60) AS n",
    );
    // The first one's transaction is rolled back, and the second one finds the jobs as they were.
    sql(&mut connection, &format!("BEGIN; {FETCH_ALL}"));
    let expected = rows(&mut connection, "SELECT * FROM pg_temp.fetch_all()");
    sql(&mut connection, "ROLLBACK");
    assert!(expected.len() > 10 && expected.len() < 60, "{expected:?}");
    let (app, _pool) = app(&database, AppBuilder::task::<nothing>).await;
    let ran = app.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    let order: Vec<String> = ran.iter().map(|ran| ran.job.id.to_string()).collect();
    assert_eq!(order, expected);
}
