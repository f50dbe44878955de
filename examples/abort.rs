//! Aborts running jobs. An async task is cancelled at its await point, a blocking task checks for the abort request,
//! and a task that takes too long is stopped. Cancelling can be part of a transaction.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use diesel::QueryDsl;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use procrastinate::job_manager::cancel_job;
use procrastinate::models::{ProcrastinateJob, ProcrastinateJobError};
use procrastinate::{App, DieselConnector, JobAborted, JobContext, JobId, task};
use throwaway_postgres::Server;
use tokio::sync::Semaphore;

static STARTED: Semaphore = Semaphore::const_new(0);

/// Waits for an answer that never comes.
#[task]
async fn wait_for_answer() {
    STARTED.add_permits(1);
    std::future::pending::<()>().await;
}

/// Processes many pieces on a blocking thread.
#[task(pass_context)]
fn grind(context: JobContext, pieces: u32) -> Result<(), JobAborted> {
    STARTED.add_permits(1);
    for piece in 1..=pieces {
        if context.should_abort() {
            println!("asked to abort before piece {piece}: {:?}", context.abort_reason());
            return Err(JobAborted);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Takes longer than its timeout.
#[task(timeout = "50ms")]
async fn dawdle() {
    STARTED.add_permits(1);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("abort")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<wait_for_answer>().task::<grind>().task::<dawdle>().build()?;

    let jobs = [wait_for_answer(), grind(1_000_000), dawdle(), wait_for_answer().queue("elsewhere")];
    let ids = app.batch_defer(jobs).await?;
    let worker = app.worker().queues(["default"]).concurrency(3);
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    drop(STARTED.acquire_many(3).await?);

    let mut connection = pool.get().await?;
    connection
        .transaction(async |connection| {
            // Two jobs are running. The third one is pending, so it is cancelled.
            for id in [ids[0], ids[1], ids[3]] {
                cancel_job(id).abort(true).execute(connection).await?;
            }
            Ok::<_, procrastinate::Error>(())
        })
        .await?;

    // The worker stops after its jobs have finished.
    handle.stop();
    running.await??;

    let mut outcomes = Vec::new();
    for id in ids {
        let job = show(id, &mut connection).await?;
        outcomes.push(job.status.to_string());
    }
    if outcomes == ["aborted", "aborted", "failed", "cancelled"] {
        Ok(())
    } else {
        Err("the jobs did not have the expected outcomes".into())
    }
}

async fn show(id: JobId, connection: &mut AsyncPgConnection) -> Result<ProcrastinateJob, Box<dyn Error>> {
    let job: ProcrastinateJob =
        ProcrastinateJob::query().filter(ProcrastinateJob::has_id(id)).first(connection).await?;
    let errors: Vec<ProcrastinateJobError> =
        ProcrastinateJobError::query().filter(ProcrastinateJobError::of_job(id)).load(connection).await?;
    let why: Vec<&str> = errors.iter().map(|error| error.error.as_str()).collect();
    println!("{:<9} {job}  {}", job.status, why.join("; "));
    Ok(job)
}
