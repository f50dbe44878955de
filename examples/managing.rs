//! Lists, cancels, retries and deletes jobs manually.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::job_manager::{cancel_job, delete_old_jobs, get_job_status, list_jobs, list_queues, retry_job};
use procrastinate::{App, DieselConnector, JobStatus, task};
use throwaway_postgres::Server;

type Failure = Box<dyn Error + Send + Sync>;

#[task(queue = "mails")]
async fn send(to: String) -> Result<(), String> {
    if to.contains('@') { Ok(()) } else { Err(format!("invalid address {to}")) }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let server = Server::start()?;
    let database = server.create_database("managing")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    let app = App::builder(connector).task::<send>().build()?;
    let [ada, grace, nobody] = ["ada@example.org", "grace@example.org", "nobody"].map(|to| send(to.to_owned()));
    let ids = app.batch_defer([ada, grace, nobody]).await?;

    // Cancelling is part of the transaction.
    let mut connection = pool.get().await?;
    connection
        .transaction(async |connection| {
            // diesel::delete(customers::table.find("grace"))…
            Ok::<_, Failure>(cancel_job(ids[1]).execute(connection).await?)
        })
        .await?;
    drop(connection);
    app.worker().stop_when_empty().run().await?;

    for queue in app.perform(list_queues()).await? {
        println!("{queue}");
    }
    for job in app.perform(list_jobs().queue("mails").status(JobStatus::Failed)).await? {
        println!("retrying {job}, which has failed");
        app.perform(retry_job(&job).priority(-1)).await?;
    }
    let retried = app.perform(get_job_status(ids[2])).await?;

    // Pretend that the jobs are old.
    let deleted = app.perform(delete_old_jobs(Duration::ZERO).include_cancelled(true)).await?;
    let left = app.perform(list_jobs()).await?;
    println!("deleted {deleted} jobs, {} is left", left.len());
    if retried == Some(JobStatus::Todo) && deleted == 2 && left.len() == 1 {
        Ok(())
    } else {
        Err("the jobs do not have the expected statuses".into())
    }
}
