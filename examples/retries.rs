//! Shows retries: a task that fails twice before it succeeds, one that reaches its limit, and one whose error is not
//! retried.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel::QueryDsl;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use procrastinate::models::ProcrastinateJob;
use procrastinate::retry::RetryStrategy;
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{App, DieselConnector, JobContext, JobStatus, task};
use throwaway_postgres::Server;

#[derive(Debug, thiserror::Error)]
enum MailError {
    #[error("the mail server is busy")]
    Busy,
    #[error("there is no such address")]
    NoSuchAddress,
}

// Retries immediately and without a limit.
#[task(retry = true, pass_context)]
async fn send(context: JobContext, to: String) -> Result<(), MailError> {
    println!("attempt {} for {to}", context.job().attempts + 1);
    if context.job().attempts < 2 { Err(MailError::Busy) } else { Ok(()) }
}

// Retries twice.
#[task(retry = 2, pass_context)]
async fn send_to_busy_server(context: JobContext) -> Result<(), MailError> {
    println!("attempt {} at the busy server", context.job().attempts + 1);
    Err(MailError::Busy)
}

// Retries only after some errors.
#[task(retry = RetryStrategy::new().retry_if(|error| error.to_string().contains("busy")))]
async fn send_to_nobody() -> Result<(), MailError> {
    println!("the only attempt for an unknown address");
    Err(MailError::NoSuchAddress)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("retries")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    let app = App::builder(connector).task::<send>().task::<send_to_busy_server>().task::<send_to_nobody>().build()?;
    app.batch_defer([send("Ada".to_owned()), send_to_busy_server(), send_to_nobody()]).await?;
    app.worker().stop_when_empty().run().await?;

    let mut connection = pool.get().await?;
    let jobs: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().order(procrastinate_jobs::id).load(&mut connection).await?;
    for job in &jobs {
        println!("{:<10} after {} attempt(s): {job}", job.status, job.attempts);
    }
    let outcomes: Vec<_> = jobs.iter().map(|job| (&job.status, job.attempts)).collect();
    if outcomes == [(&JobStatus::Succeeded, 3), (&JobStatus::Failed, 3), (&JobStatus::Failed, 1)] {
        Ok(())
    } else {
        Err("the jobs did not have the expected outcomes".into())
    }
}
