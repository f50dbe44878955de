//! Finds the tasks of all modules without a list. One module has a namespace.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::list_jobs;
use procrastinate::{App, Blueprint, DieselConnector, JobStatus};
use throwaway_postgres::Server;

mod mails {
    #[procrastinate::task]
    pub(crate) async fn welcome(customer: String) {
        println!("Welcome, {customer}!");
    }
}

mod reports {
    #[procrastinate::task(namespace = "reports")]
    pub(crate) fn build(year: i32) {
        println!("the report of {year}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("discovery")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    let reports = Blueprint::new().task::<reports::build>();
    let app = App::builder(connector).discover_tasks().add_tasks_from(reports, "reports").build()?;
    println!("found: {}", app.task_names().join(", "));

    app.batch_defer([mails::welcome("Ada".to_owned()), reports::build(2026)]).await?;
    app.worker().stop_when_empty().run().await?;

    let succeeded = app.perform(list_jobs().status(JobStatus::Succeeded)).await?.len();
    if app.task_names() == ["reports:build", "welcome"] && succeeded == 2 {
        Ok(())
    } else {
        Err("the tasks were not found or did not run".into())
    }
}
