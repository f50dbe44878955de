//! Tests an application in a transaction that is rolled back, and runs its jobs in it.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use procrastinate::retry::RetryStrategy;
use procrastinate::{App, DieselConnector, JobContext, TaskError, assert_deferred, assert_not_deferred, task, testing};
use throwaway_postgres::Server;

diesel::table! {
    customers (id) { id -> BigInt, name -> Text, welcomed -> Integer, }
}

/// Builds the application, with its pool as shared state.
fn set_up(pool: Pool<AsyncPgConnection>) -> Result<App, procrastinate::Error> {
    App::builder(DieselConnector::new(pool.clone())).state(pool).task::<welcome>().task::<remind>().build()
}

/// The code under test: welcomes a new customer, and reminds them a month later.
async fn register(pool: &Pool<AsyncPgConnection>, name: &str) -> Result<i64, TaskError> {
    let name = name.to_owned();
    let mut connection = pool.get().await?;
    connection
        .transaction(async |connection| {
            let values = (customers::name.eq(name), customers::welcomed.eq(0));
            let insert = diesel::insert_into(customers::table).values(values).returning(customers::id);
            let customer = insert.get_result(connection).await?;
            welcome(customer).defer(connection).await?;
            remind(customer).schedule_in(Duration::from_secs(30 * 24 * 3_600)).defer(connection).await?;
            Ok(customer)
        })
        .await
}

/// A task of the application. The mail server is busy once, and the task is retried a minute later.
#[task(queue = "mails", retry = RetryStrategy::new().max_attempts(3).wait(60), pass_context)]
async fn welcome(context: JobContext, customer: i64) -> Result<(), TaskError> {
    if context.job().attempts == 0 {
        return Err("the mail server is busy".into());
    }
    let mut connection = context.state::<Pool<AsyncPgConnection>>()?.get().await?;
    let once_more = customers::welcomed.eq(customers::welcomed + 1);
    diesel::update(customers::table.find(customer)).set(once_more).execute(&mut connection).await?;
    Ok(())
}

#[task(queue = "mails")]
async fn remind(customer: i64) {
    println!("  Dear customer {customer}, we miss you.");
}

/// The test. In an application this is a `#[tokio::test]`.
async fn a_customer_is_welcomed_and_reminded(database_url: &str) -> Result<(), Box<dyn Error>> {
    let pool = testing::test_pool(database_url).await?;
    let app = set_up(pool.clone())?;

    let ada = register(&pool, "Ada").await.map_err(|error| error.to_string())?;
    {
        let mut connection = pool.get().await?;
        assert_deferred!(&mut connection, welcome(ada).queue("mails"));
        assert_not_deferred!(&mut connection, welcome(ada + 1));
        if let Err(not_deferred) = testing::find_deferred(welcome(ada + 1), &mut connection).await {
            println!("the message of a failed assertion:\n{not_deferred}");
        }
    }

    let mut worker = app.test_worker()?;
    let ran = worker.run_until_empty().await?;
    println!("immediately:\n{ran}");
    worker.advance(Duration::from_secs(60));
    let ran = worker.run_until_empty().await?.expect_success();
    println!("a minute later:\n{ran}");
    worker.advance(Duration::from_secs(31 * 24 * 3_600));
    let ran = worker.run_until_empty().await?.expect_success();
    println!("a month later:\n{ran}");

    let welcomed = customers::table.find(ada).select(customers::welcomed);
    assert_eq!(welcomed.get_result::<i32>(&mut pool.get().await?).await?, 1);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("testing")?;
    let mut connection = AsyncPgConnection::establish(database.url()).await?;
    let table = "CREATE TABLE customers (id bigserial PRIMARY KEY, name text NOT NULL, welcomed integer NOT NULL)";
    connection.batch_execute(table).await?;
    procrastinate::migrations::run_pending_migrations(
        &mut PgConnection::establish(database.url())?,
        procrastinate::migrations::MIGRATIONS,
    )?;

    a_customer_is_welcomed_and_reminded(database.url()).await?;

    // Everything is rolled back.
    assert_eq!(customers::table.count().get_result::<i64>(&mut connection).await?, 0);
    Ok(())
}
