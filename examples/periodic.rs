//! Defers periodic tasks: two schedules every second with different arguments, and a daily one at a given time.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use chrono::{DateTime, Utc};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use procrastinate::models::ProcrastinateJob;
use procrastinate::{App, DieselConnector, PeriodicTask, periodic, task};
use serde_json::json;
use throwaway_postgres::Server;
use tokio::sync::Semaphore;

static HEARD: Semaphore = Semaphore::const_new(0);

// Six fields: the last one is for seconds.
#[periodic(cron = "* * * * * *", periodic_id = "ada", args(name = "Ada"))]
#[periodic(cron = "* * * * * *", periodic_id = "grace", args(name = "Grace"))]
#[task(queue = "greetings")]
async fn greet(timestamp: i64, name: String) {
    println!("{timestamp}: hello {name}");
    HEARD.add_permits(1);
}

// The default makes the timestamp optional if the task is deferred manually.
#[task(queue = "reports")]
async fn report(#[serde(default)] timestamp: i64, region: String) {
    println!("{timestamp}: the report about {region}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("periodic")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    // A schedule can also be added to the application.
    let daily = PeriodicTask::new::<report>("0 8 * * *").args(json!({ "region": "Styria" }));
    let app = App::builder(connector).task::<greet>().task::<report>().periodic(daily).build()?;

    // Defers the tick of eight o'clock on a given day, without a worker.
    let eight: DateTime<Utc> = "2020-02-29T08:00:00Z".parse()?;
    app.periodic_deferrer().defer_due(eight).await;

    // Each worker process does this, and each tick has one job.
    let workers = [app.worker().queues(["greetings"]), app.worker().queues(["greetings"])].map(|worker| {
        worker.with_graceful_shutdown(async {
            // Two of them are from 2020.
            drop(HEARD.acquire_many(6).await);
        })
    });
    let [one, other] = workers.map(|worker| tokio::spawn(worker.run()));
    one.await??;
    other.await??;

    let mut connection = pool.get().await?;
    let jobs: Vec<ProcrastinateJob> = ProcrastinateJob::query().load(&mut connection).await?;
    let mut greetings: Vec<_> =
        jobs.iter().filter(|job| job.task_name == "greet").map(|job| job.args.to_string()).collect();
    let deferred = greetings.len();
    greetings.sort();
    greetings.dedup();
    let reports: Vec<_> = jobs.iter().filter(|job| job.task_name == "report").map(|job| &job.args).collect();
    if deferred >= 6
        && greetings.len() == deferred
        && reports.contains(&&json!({ "timestamp": eight.timestamp(), "region": "Styria" }))
    {
        Ok(())
    } else {
        Err("the periodic tasks did not run as expected".into())
    }
}
