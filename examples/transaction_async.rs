//! Defers jobs on async connections: in a transaction, in one that is rolled back, in a savepoint, with a taken
//! queueing lock, in a batch, and without a transaction.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{App, DieselConnector, batch_defer, task};
use throwaway_postgres::Server;

#[task(queue = "reports")]
async fn build_report(year: i32) {
    println!("  worker: building the report of {year}");
}

#[derive(Debug, thiserror::Error)]
enum MyError {
    #[error("changed my mind")]
    ChangedMyMind,
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error(transparent)]
    Queue(#[from] procrastinate::Error),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("transaction_async")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let mut connection = pool.get().await?;

    // Without a transaction: the job exists when the call returns.
    build_report(2020).defer(&mut connection).await?;

    // In a transaction: the job exists after the commit.
    connection
        .transaction(async |connection| {
            build_report(2021).priority(5).defer(connection).await?;
            // A savepoint inside, which is rolled back. Only the outer job is stored.
            let inner = connection
                .transaction(async |connection| {
                    build_report(1999).defer(connection).await?;
                    Err::<(), _>(MyError::ChangedMyMind)
                })
                .await;
            if let Err(error) = inner {
                println!("inner transaction: {error}");
            }
            Ok::<_, MyError>(())
        })
        .await?;

    // A taken queueing lock is a value, and the transaction continues.
    connection
        .transaction(async |connection| {
            let job = || build_report(2022).queueing_lock("report-2022");
            println!("first:  {:?}", job().defer_unless_enqueued(connection).await?.is_some());
            println!("second: {:?}", job().defer_unless_enqueued(connection).await?.is_some());
            match job().defer(connection).await {
                Err(error) if error.is_already_enqueued() => println!("third:  {error}"),
                other => drop(other?),
            }
            build_report(2023).defer(connection).await?;
            Ok::<_, MyError>(())
        })
        .await?;

    // Any number of jobs in one statement.
    let ids = batch_defer((2024..2027).map(build_report), &mut connection).await?;
    println!("a batch: {ids:?}");
    drop(connection);

    // Without a connection: takes one from the pool.
    let app = App::builder(connector).task::<build_report>().build()?;
    app.defer(build_report(2027)).await?;
    app.worker().stop_when_empty().run().await?;

    let mut connection = pool.get().await?;
    let jobs: i64 = procrastinate_jobs::table.count().get_result(&mut connection).await?;
    if jobs == 8 { Ok(()) } else { Err(format!("expected 8 jobs, found {jobs}").into()) }
}
