//! The pool for one test, of deadpool.

use diesel_async::SimpleAsyncConnection;
use procrastinate::{App, DieselConnector, Error, JobContext, TaskError, assert_deferred, task, testing};

use super::shop;
use crate::support::{connect, jobs, within_patience};

#[task]
async fn report() {}

#[task(pass_context)]
async fn order(context: JobContext) -> Result<(), TaskError> {
    context.defer(report()).await?;
    Ok(())
}

#[tokio::test]
async fn everything_on_a_deadpool_pool_is_in_one_transaction_that_is_rolled_back() {
    let database = shop();
    let pool = testing::deadpool_test_pool(database.url()).await.unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).task::<order>().task::<report>().build().unwrap();
    app.defer(order()).await.unwrap();
    assert_deferred!(&mut pool.get().await.unwrap(), order());
    let runs = app.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    assert_eq!(runs.task_names(), ["order", "report"]);
    assert!(jobs(&mut connect(&database)).is_empty());
    drop((app, pool));
    assert!(jobs(&mut connect(&database)).is_empty());
}

#[tokio::test]
async fn a_failed_statement_does_not_replace_the_connection_of_a_deadpool_pool() {
    let database = shop();
    let pool = testing::deadpool_test_pool(database.url()).await.unwrap();
    pool.get().await.unwrap().batch_execute("INSERT INTO notes (text) VALUES (NULL)").await.unwrap_err();
    let error = pool.get().await.unwrap().batch_execute("SELECT 1").await.unwrap_err();
    assert!(error.to_string().contains("current transaction is aborted"), "{error}");
}

#[tokio::test]
async fn code_that_waits_for_the_held_connection_of_a_deadpool_pool_gets_an_error() {
    let database = shop();
    let pool = testing::deadpool_test_pool(database.url()).await.unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).build().unwrap();
    let held = pool.get().await.unwrap();
    let error = within_patience(app.defer(report())).await.unwrap_err();
    assert!(matches!(error, Error::Pool { .. }) && error.to_string().contains("waiting for a slot"), "{error}");
    drop(held);
    app.defer(report()).await.unwrap();
}
