//! Refuses further jobs with the key of a job that is pending, running, or has ended a short time ago.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, Deferred, DieselConnector, task};
use throwaway_postgres::Server;

/// At most one at a time for each shop, and at most once an hour.
#[task(unique = "import-{shop}", unique_for = "1h")]
async fn import(shop: i64) {
    println!("the orders of shop {shop}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("unique_keys")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<import>().build()?;

    let first = app.defer(import(7)).await?;
    let refusal = app.defer(import(7)).await.err();
    println!("{}", refusal.as_ref().map(ToString::to_string).unwrap_or_default());

    // Another key is free.
    app.defer(import(8)).await?;
    app.worker().stop_when_empty().run().await?;

    // The job has ended, and holds its key for an hour. This call is content with that job.
    let kept = app.defer_detailed(import(7).unless_enqueued()).await?;
    println!("{kept:?}");
    let is_refused = refusal.is_some_and(|error| error.is_already_enqueued());
    if is_refused && kept == Deferred::Kept(first) { Ok(()) } else { Err("a job was not refused".into()) }
}
