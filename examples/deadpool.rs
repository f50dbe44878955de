//! A deadpool pool with a hook, jobs that are deferred at the same time on one of its connections, and a worker.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::{Hook, HookError, Pool};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use procrastinate::migrations::MIGRATIONS;
use procrastinate::{App, DieselConnector, Error, TaskError, task};
use throwaway_postgres::Server;

#[task(queue = "mails")]
async fn welcome(customer: i64) {
    println!("Welcome, customer {customer}!");
}

#[task(queue = "statistics")]
async fn count(customer: i64) {
    println!("one more customer, {customer}");
}

/// Defers both jobs in one round trip, once the statement is prepared.
async fn register(connection: &mut AsyncPgConnection, customer: i64) -> Result<(), Error> {
    connection
        .transaction(async |connection| {
            tokio::try_join!(
                welcome(customer).defer_pipelined(connection),
                count(customer).defer_pipelined(connection),
            )?;
            Ok(())
        })
        .await
}

#[tokio::main]
async fn main() -> Result<(), TaskError> {
    let server = Server::start()?;
    let database = server.create_database("deadpool")?;

    // The hook also runs on the connections of migrations and heartbeats.
    let in_schema = Hook::async_fn(|connection: &mut AsyncPgConnection, _| {
        Box::pin(async {
            let set = connection.batch_execute("CREATE SCHEMA IF NOT EXISTS shop; SET search_path = shop").await;
            set.map_err(|error| HookError::message(error.to_string()))
        })
    });
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder(manager).max_size(5).post_create(in_schema).build()?;

    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(MIGRATIONS).await?;
    register(&mut *pool.get().await?, 7).await?;

    let app = App::builder(connector).task::<welcome>().task::<count>().build()?;
    app.worker().stop_when_empty().run().await?;
    let jobs = app.perform(procrastinate::job_manager::list_jobs()).await?;
    if jobs.len() == 2 { Ok(()) } else { Err(format!("expected 2 jobs, found {}", jobs.len()).into()) }
}
