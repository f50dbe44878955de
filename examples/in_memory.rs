//! Tests an application without a database: the queue is in memory, and a real worker runs its jobs.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use procrastinate::job_manager::{cancel_job, list_queues};
use procrastinate::retry::RetryStrategy;
use procrastinate::testing::InMemoryConnector;
use procrastinate::{App, Connector, JobContext, JobId, JobStatus, TaskError, task};

/// Builds the application on any connector.
fn set_up(connector: impl Into<Connector>) -> Result<App, procrastinate::Error> {
    App::builder(connector).task::<welcome>().task::<remind>().build()
}

/// The code under test: welcomes a new customer, and reminds them a year later unless a reminder is pending.
async fn register(app: &App, customer: i64) -> Result<Vec<JobId>, procrastinate::Error> {
    let next_year = Duration::from_secs(365 * 24 * 3_600);
    let remind = remind(customer).queueing_lock(format!("remind {customer}")).schedule_in(next_year);
    app.batch_defer([welcome(customer), remind]).await
}

/// A task of the application. The mail server is busy twice, and the task is retried immediately.
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

/// The test. In an application this is a `#[tokio::test]`.
async fn a_customer_is_welcomed_and_not_reminded_if_that_was_called_off() -> Result<(), Box<dyn Error>> {
    let memory = InMemoryConnector::new();
    let app = set_up(memory.clone())?;

    let ids = register(&app, 7).await?;
    println!("job {} is pending", memory.find_deferred(welcome(7).queue("mails"))?);
    if let Err(not_deferred) = memory.find_deferred(welcome(8)) {
        println!("the message of a failed assertion:\n{not_deferred}");
    }
    // The queueing lock is taken, so neither job is deferred, as in PostgreSQL.
    assert!(register(&app, 7).await.is_err_and(|error| error.is_already_enqueued()));

    println!("a real worker runs:");
    app.worker().queues(["mails"]).stop_when_empty().run().await?;
    let events: Vec<String> = memory.event_types(ids[0]).iter().map(ToString::to_string).collect();
    println!("the events of the first job: {}", events.join(", "));
    assert_eq!(memory.job_errors()[0].error, "the mail server is busy");

    assert!(app.perform(cancel_job(ids[1])).await?);
    for queue in app.perform(list_queues()).await? {
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
