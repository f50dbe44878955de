//! Groups tasks in a blueprint with a namespace, and keeps old names of renamed tasks as aliases.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel::QueryDsl;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use procrastinate::models::ProcrastinateJob;
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{App, DieselConnector, JobStatus, UnknownTasks, configure_task};
use serde_json::json;
use throwaway_postgres::Server;

use crate::mails::welcome;

/// A part of the application, which could be a separate crate.
mod mails {
    use procrastinate::{Blueprint, JobContext, PeriodicTask, task};

    // Its former name is `greet`.
    #[task(namespace = "mails", aliases = ["mails:greet"], queue = "mails", pass_context)]
    pub(crate) async fn welcome(context: JobContext, customer: String) {
        println!("{:<16} Welcome, {customer}!", context.task_name());
    }

    #[task(namespace = "mails", queue = "mails")]
    pub(crate) async fn newsletter() {}

    pub(crate) fn blueprint() -> Blueprint {
        let monday = PeriodicTask::new::<newsletter>("0 8 * * mon");
        Blueprint::new().task::<welcome>().task::<newsletter>().periodic(monday)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("blueprints")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    let app = App::builder(connector)
        .add_tasks_from(mails::blueprint(), "mails")
        // The name from before the namespace.
        .add_task_alias::<welcome>("welcome")
        .build()?;
    println!("tasks: {}", app.task_names().join(", "));

    // The job's name does not depend on the application.
    let mut connection = pool.get().await?;
    welcome("Ada".to_owned()).defer(&mut connection).await?;
    // Jobs of other programs, and of older versions.
    for name in ["mails:welcome", "mails:greet", "welcome"] {
        configure_task(name, json!({ "customer": "Grace" })).queue("mails").defer(&mut connection).await?;
    }
    app.periodic_deferrer().defer_due("2027-01-04T08:00:00Z".parse()?).await;
    // There is no task with this name. By default the worker waits ten minutes for a version of the program that has it.
    configure_task("newsletter", json!({})).defer(&mut connection).await?;
    app.worker().unknown_tasks(UnknownTasks::Fail).stop_when_empty().run().await?;

    let jobs: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().order(procrastinate_jobs::id).load(&mut connection).await?;
    let outcomes: Vec<_> = jobs.iter().map(|job| (job.task_name.as_str(), &job.status)).collect();
    for (task_name, status) in &outcomes {
        println!("{status:<10} {task_name}");
    }
    let expected = [
        ("mails:welcome", &JobStatus::Succeeded),
        ("mails:welcome", &JobStatus::Succeeded),
        ("mails:greet", &JobStatus::Succeeded),
        ("welcome", &JobStatus::Succeeded),
        ("mails:newsletter", &JobStatus::Succeeded),
        ("newsletter", &JobStatus::Failed),
    ];
    if outcomes[..] == expected { Ok(()) } else { Err("the jobs did not have the expected outcomes".into()) }
}
