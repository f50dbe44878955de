//! A test of an application without a database: its queue is in memory, and a real worker runs its jobs.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use procrastinate::job_manager::{cancel_job, list_queues};
use procrastinate::retry::RetryStrategy;
use procrastinate::testing::InMemoryConnector;
use procrastinate::{App, Connector, JobContext, JobId, JobStatus, TaskError, task};

/// The application, on a pool or on whatever else it is given.
fn set_up(connector: impl Into<Connector>) -> Result<App, procrastinate::Error> {
    App::builder(connector).task::<welcome>().task::<remind>().build()
}

/// The application: who registers is welcomed, and reminded the year after, unless that waits already.
async fn register(app: &App, customer: i64) -> Result<Vec<JobId>, procrastinate::Error> {
    let next_year = Duration::from_secs(365 * 24 * 3_600);
    let remind = remind(customer).queueing_lock(format!("remind {customer}")).schedule_in(next_year);
    app.batch_defer([welcome(customer), remind]).await
}

/// The application: the mail server has a bad day, and is tried again at once.
#[task(queue = "mails", retry = RetryStrategy::new().max_attempts(3), pass_context)]
async fn welcome(context: JobContext, customer: i64) -> Result<(), TaskError> {
    if context.job().attempts == 0 {
        return Err("the mail server is busy".into());
    }
    println!("  Welcome, customer {customer}!");
    Ok(())
}

#[task(queue = "mails")]
async fn remind(customer: i64) {
    println!("  Dear customer {customer}, we miss you.");
}

/// The test. In an application it is a `#[tokio::test]`.
async fn a_customer_is_welcomed_and_not_reminded_if_that_was_called_off() -> Result<(), Box<dyn Error>> {
    let memory = InMemoryConnector::new();
    let app = set_up(memory.clone())?;

    let ids = register(&app, 7).await?;
    println!("job {} waits", memory.find_deferred(welcome(7).queue("mails"))?);
    if let Err(not_deferred) = memory.find_deferred(welcome(8)) {
        println!("what a failed assertion says:\n{not_deferred}");
    }
    // A queueing lock is taken, so neither is deferred, as it would be in PostgreSQL.
    assert!(register(&app, 7).await.is_err_and(|error| error.is_already_enqueued()));

    println!("a real worker runs:");
    app.worker().queues(["mails"]).stop_when_empty().run().await?;
    let events: Vec<String> = memory.event_types(ids[0]).iter().map(ToString::to_string).collect();
    println!("what happened to the first job: {}", events.join(", "));
    assert_eq!(memory.job_errors()[0].error, "the mail server is busy");

    assert!(app.execute(cancel_job(ids[1])).await?);
    for queue in app.execute(list_queues()).await? {
        println!("{queue}");
    }
    let statuses: Vec<JobStatus> = memory.jobs().into_iter().map(|job| job.status).collect();
    assert_eq!(statuses, [JobStatus::Succeeded, JobStatus::Cancelled]);

    let deferring = memory.queries().iter().filter(|query| query.name == "InsertJobs").count();
    println!("{deferring} statements tried to defer jobs");
    memory.reset();
    assert!(memory.jobs().is_empty());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    a_customer_is_welcomed_and_not_reminded_if_that_was_called_off().await
}
