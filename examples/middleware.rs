//! Runs middleware around tasks and gives them shared state. One middleware measures every task, and one opens a
//! session for the tasks that need it. Tasks find the application's settings by type.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DieselConnector, JobContext, Next, TaskResult, task};
use throwaway_postgres::Server;

/// The application's settings and counters, shared by all tasks.
struct Shop {
    name: &'static str,
    letters: AtomicU32,
}

/// The session of one job, added by a middleware.
struct Session {
    number: u32,
}

async fn measured(context: JobContext, next: Next) -> TaskResult {
    let started = Instant::now();
    let call = context.job().to_string();
    let result = next.run(context).await;
    println!("{call} took {:?} and {}", started.elapsed(), if result.is_ok() { "succeeded" } else { "failed" });
    result
}

async fn with_session(context: JobContext, next: Next) -> TaskResult {
    let session = Session { number: u32::try_from(i64::from(context.job().id))? };
    let number = session.number;
    let result = next.run(context.with_state(session)).await;
    println!("session {number} is closed");
    result
}

#[task(pass_context, middleware = [with_session])]
async fn write_letter(context: JobContext, to: String) -> Result<(), procrastinate::Error> {
    let shop: &Shop = context.state()?;
    let session: &Session = context.state()?;
    println!("Dear {to}, … yours, {} (session {})", shop.name, session.number);
    shop.letters.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[task(pass_context)]
async fn count_letters(context: JobContext) -> Result<(), String> {
    let shop: &Shop = context.state().map_err(|error| error.to_string())?;
    match shop.letters.load(Ordering::Relaxed) {
        2 => Ok(()),
        other => Err(format!("expected 2 letters, found {other}")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("middleware")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    let app = App::builder(connector)
        .state(Shop { name: "the shop", letters: AtomicU32::new(0) })
        .task::<write_letter>()
        .task::<count_letters>()
        .build()?;
    let jobs = [write_letter("Ada".to_owned()), write_letter("Grace".to_owned()), count_letters()];
    let ids = app.batch_defer(jobs).await?;
    app.worker().task_middleware(measured).stop_when_empty().run().await?;

    for id in ids {
        let status = app.perform(procrastinate::job_manager::get_job_status(id)).await?;
        if status != Some(procrastinate::JobStatus::Succeeded) {
            return Err(format!("job {id} did not succeed").into());
        }
    }
    Ok(())
}
