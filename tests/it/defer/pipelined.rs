//! Deferring on a shared connection, at the same time as other statements.

use diesel::prelude::*;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, deadpool};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::job_manager::{Operation, cancel_job, get_job_status};
use procrastinate::{Error, JobStatus, JobToDefer, batch_defer_pipelined, task};
use throwaway_postgres::Database;

use crate::support::{connect, database, eventually, jobs, pool, rows, sql, transaction, within_patience};
use crate::worker::proxy::Proxy;

diesel::table! {
    notes (id) { id -> BigInt, text -> Text, }
}

#[task]
async fn greet(name: String) {
    drop(name);
}

fn job(name: &str) -> JobToDefer {
    greet(name.to_owned())
}

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("changed my mind")]
    ChangedMyMind,
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error(transparent)]
    Queue(#[from] Error),
}

/// A statement of the application.
async fn note(text: &str, mut connection: &AsyncPgConnection) -> Result<(), TestError> {
    let insert = diesel::insert_into(notes::table).values(notes::text.eq(text));
    diesel_async::RunQueryDsl::execute(insert, &mut connection).await?;
    Ok(())
}

async fn defer(name: &str, connection: &AsyncPgConnection) -> Result<(), TestError> {
    job(name).defer_pipelined(connection).await?;
    Ok(())
}

/// A database with a table of the application's own, in which no text occurs twice.
fn database_with_notes() -> Database {
    let database = database();
    sql(&mut connect(&database), "CREATE TABLE notes (id bigserial PRIMARY KEY, text text NOT NULL UNIQUE)");
    database
}

fn names(database: &Database) -> Vec<String> {
    rows(&mut connect(database), "SELECT args->>'name' AS name FROM procrastinate_jobs ORDER BY id")
}

fn notes(database: &Database) -> Vec<String> {
    rows(&mut connect(database), "SELECT text FROM notes ORDER BY id")
}

#[tokio::test]
async fn two_jobs_and_a_statement_of_the_application_are_stored_in_one_round_trip() {
    let database = database_with_notes();
    let proxy = Proxy::start(&database, None).await;
    let mut connection = AsyncPgConnection::establish(proxy.url()).await.unwrap();
    // Both statements are prepared now.
    tokio::try_join!(defer("Ada", &connection), note("Ada", &connection)).unwrap();
    transaction(&mut connection, async |connection| {
        let connection = &*connection;
        proxy.hold_responses_until(3);
        let before = proxy.round_trips();
        let all = async {
            tokio::try_join!(defer("Grace", connection), note("Grace", connection), defer("Edsger", connection))
        };
        within_patience(all).await?;
        assert_eq!(proxy.round_trips() - before, 3, "each of the three was sent before the first response");
        Ok::<_, TestError>(())
    })
    .await
    .unwrap();
    assert_eq!((names(&database).len(), notes(&database)), (3, vec!["Ada".to_owned(), "Grace".to_owned()]));
}

#[tokio::test]
async fn jobs_of_a_rolled_back_transaction_do_not_exist() {
    let database = database_with_notes();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    let rolled_back = transaction(&mut connection, async |connection| {
        tokio::try_join!(defer("Ada", connection), note("Ada", connection))?;
        batch_defer_pipelined([job("Grace"), job("Edsger")], connection).await?;
        Err::<(), _>(TestError::ChangedMyMind)
    });
    assert!(matches!(rolled_back.await, Err(TestError::ChangedMyMind)));
    assert_eq!((names(&database).len(), notes(&database).len()), (0, 0));
}

#[tokio::test]
async fn a_taken_queueing_lock_leaves_the_other_statements_and_the_transaction_intact() {
    let database = database_with_notes();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    let locked = || job("locked").queueing_lock("one at a time");
    locked().defer(&mut connection).await.unwrap();
    transaction(&mut connection, async |connection| {
        let connection = &*connection;
        let (first, taken, written, batch) = tokio::join!(
            defer("Ada", connection),
            locked().defer_pipelined(connection),
            note("Ada", connection),
            batch_defer_pipelined([job("none"), locked()], connection),
        );
        assert!(taken.unwrap_err().is_already_enqueued());
        assert!(batch.unwrap_err().is_already_enqueued());
        first?;
        written?;
        let (taken, id) = tokio::try_join!(
            locked().defer_unless_enqueued_pipelined(connection),
            job("Grace").queueing_lock("free").defer_unless_enqueued_pipelined(connection),
        )?;
        assert!(taken.is_none() && id.is_some());
        Ok::<_, TestError>(())
    })
    .await
    .unwrap();
    assert_eq!(
        (names(&database), notes(&database)),
        (vec!["locked".into(), "Ada".into(), "Grace".into()], vec!["Ada".into()])
    );
}

#[tokio::test]
async fn a_failed_statement_fails_its_whole_transaction_and_leaves_the_connection_usable() {
    let database = database_with_notes();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    note("taken", &connection).await.unwrap();
    for statements_are_prepared in [false, true] {
        let failed = transaction(&mut connection, async |connection| {
            tokio::try_join!(defer("Ada", connection), note("taken", connection), defer("Grace", connection))?;
            Ok::<_, TestError>(())
        })
        .await;
        assert!(failed.is_err(), "prepared: {statements_are_prepared}");
        assert_eq!(names(&database).len(), 0);
        // Each response still goes to the statement that it belongs to.
        let (first, second) =
            tokio::try_join!(job("a").defer_pipelined(&connection), job("b").defer_pipelined(&connection)).unwrap();
        assert_ne!(first, second);
        let (first, second) = tokio::try_join!(
            get_job_status(first).execute_pipelined(&connection),
            cancel_job(second).delete_job(true).execute_pipelined(&connection),
        )
        .unwrap();
        assert_eq!((first, second), (Some(JobStatus::Todo), true));
        sql(&mut connect(&database), "DELETE FROM procrastinate_jobs");
    }
    // Outside of a transaction, the others are stored.
    let (ada, taken, grace) =
        tokio::join!(defer("Ada", &connection), note("taken", &connection), defer("Grace", &connection));
    assert!(ada.is_ok() && grace.is_ok() && matches!(taken, Err(TestError::Diesel(_))), "{taken:?}");
    assert_eq!(names(&database).len(), 2);
}

#[tokio::test]
async fn a_job_whose_future_is_dropped_may_be_stored_unless_the_transaction_is_rolled_back() {
    let database = database();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    job("before").defer(&mut connection).await.unwrap();
    let invalid = || job("invalid").queue("");
    let rolled_back = transaction(&mut connection, async |connection| {
        tokio::try_join!(job("dropped").defer_pipelined(connection), invalid().defer_pipelined(connection))
    })
    .await;
    assert!(rolled_back.unwrap_err().is_invalid());
    assert_eq!(names(&database), ["before"]);

    let shared = &connection;
    let ended = tokio::try_join!(job("dropped").defer_pipelined(shared), invalid().defer_pipelined(shared));
    assert!(ended.unwrap_err().is_invalid());
    eventually("the job is stored", || names(&database) == ["before", "dropped"]).await;
    // The response that nobody waited for belongs to no other statement.
    assert_eq!(get_job_status(1).execute_pipelined(shared).await.unwrap(), Some(JobStatus::Todo));
}

#[tokio::test]
async fn every_kind_of_reference_is_accepted_and_its_future_can_be_spawned() {
    let database = database();
    let of_bb8 = pool(&database).await.get_owned().await.unwrap();
    #[allow(clippy::explicit_auto_deref, reason = "applications write both")]
    tokio::try_join!(job("1").defer_pipelined(&of_bb8), job("2").defer_pipelined(&*of_bb8)).unwrap();

    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let of_deadpool = deadpool::Pool::builder(manager).max_size(1).build().unwrap().get().await.unwrap();
    tokio::try_join!(job("3").defer_pipelined(&of_deadpool), job("4").defer_pipelined(&of_deadpool)).unwrap();

    let mut bare = AsyncPgConnection::establish(database.url()).await.unwrap();
    let exclusive = &mut bare;
    tokio::try_join!(job("5").defer_pipelined(exclusive), job("6").defer_pipelined(exclusive)).unwrap();
    job("7").defer(exclusive).await.unwrap();

    let spawned = tokio::spawn(async move {
        let batch = batch_defer_pipelined([job("8"), job("9")], &bare);
        tokio::try_join!(batch, job("10").defer_pipelined(&bare)).map(|_| ())
    });
    spawned.await.unwrap().unwrap();
    assert_eq!(jobs(&mut connect(&database)).len(), 10);
}

#[tokio::test]
async fn an_operation_is_executed_on_a_shared_connection_through_the_trait_too() {
    async fn both<O: Operation>(one: O, other: O, connection: &AsyncPgConnection) -> (O::Output, O::Output) {
        tokio::try_join!(one.execute_pipelined(connection), other.execute_pipelined(connection)).unwrap()
    }

    let database = database();
    let connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    let id = job("Ada").defer_pipelined(&connection).await.unwrap();
    let statuses = both(get_job_status(id), get_job_status(7), &connection).await;
    assert_eq!(statuses, (Some(JobStatus::Todo), None));
}
