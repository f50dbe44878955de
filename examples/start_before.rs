//! Cancels jobs that no worker has started in time.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use diesel::QueryDsl;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use procrastinate::job_manager::get_job_status;
use procrastinate::models::ProcrastinateJobOptions;
use procrastinate::{App, DieselConnector, JobStatus, task};
use throwaway_postgres::Server;

#[task]
async fn remind(meeting: i64) {
    println!("meeting {meeting} begins soon");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("start_before")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<remind>().build()?;

    // The first reminder is of no use in a second, the second one is for the rest of the day.
    let late = app.defer(remind(1).start_within(Duration::from_millis(1))).await?;
    let in_time = app.defer(remind(2).start_within(Duration::from_secs(12 * 3_600))).await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    app.worker().stop_when_empty().run().await?;

    // The model says why the job was cancelled.
    let mut connection = pool.get().await?;
    let options: ProcrastinateJobOptions =
        ProcrastinateJobOptions::query().filter(ProcrastinateJobOptions::of_job(late)).first(&mut connection).await?;
    let [mut statuses, expected] = [Vec::new(), vec![Some(JobStatus::Cancelled), Some(JobStatus::Succeeded)]];
    for job in [late, in_time] {
        statuses.push(get_job_status(job).execute(&mut connection).await?);
    }
    println!("{statuses:?}, expired: {}", options.is_expired);
    if statuses == expected && options.is_expired { Ok(()) } else { Err("a job ended otherwise".into()) }
}
