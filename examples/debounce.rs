//! Debounces and throttles jobs: a new job replaces the pending job with its queueing lock, or leaves it as it is.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use diesel::QueryDsl;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use procrastinate::models::ProcrastinateJob;
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{App, Deferred, DieselConnector, IfEnqueued, batch_defer_detailed, task};
use throwaway_postgres::Server;

// Debounced: each job replaces the pending one, with its schedule.
#[task(queueing_lock = "index-{page}", if_enqueued = "replace")]
async fn index(page: i64, version: i64) {
    println!("the index of page {page}, version {version}");
}

// Throttled: the last arguments win, but the schedule of the first job stays.
#[task(queueing_lock = "digest-{customer}", if_enqueued = "replace_except_schedule")]
async fn digest(customer: i64, messages: u32) {
    println!("{messages} messages for customer {customer}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("debounce")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<index>().task::<digest>().build()?;

    // Each edit of the page postpones its index.
    let minute = Duration::from_secs(60);
    let first = app.defer_detailed(index(7, 1).schedule_in(minute)).await?;
    let second = app.defer_detailed(index(7, 2).schedule_in(2 * minute)).await?;
    println!("{first:?}, {second:?}");

    // This job keeps the pending one.
    let kept = app.defer_detailed(index(7, 0).if_enqueued(IfEnqueued::Keep)).await?;
    println!("{kept:?}");

    // In a transaction, and several jobs at the same time: the second digest replaces the first one.
    let mut connection = pool.get().await?;
    let digests = connection
        .transaction(async |connection| {
            let jobs = [digest(1, 10).schedule_in(minute), digest(1, 11), digest(2, 5)];
            batch_defer_detailed(jobs, connection).await
        })
        .await?;
    println!("{digests:?}");

    // Without a schedule, the job is due immediately.
    let due = app.defer_detailed(index(7, 3)).await?;
    println!("{due:?}");
    app.worker().stop_when_empty().run().await?;

    let jobs: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().order(procrastinate_jobs::id).load(&mut connection).await?;
    for job in &jobs {
        println!("{:<10} {job}", job.status);
    }
    let id = first.id();
    let is_as_expected = matches!(first, Deferred::New(_))
        && [second, kept, due] == [Deferred::Replaced(id), Deferred::Kept(id), Deferred::Replaced(id)]
        && matches!(*digests, [Deferred::New(one), Deferred::Replaced(same), Deferred::New(_)] if one == same)
        && jobs.iter().map(|job| job.status.to_string()).collect::<Vec<_>>() == ["succeeded", "todo", "succeeded"];
    if is_as_expected { Ok(()) } else { Err("the jobs were not replaced as expected".into()) }
}
