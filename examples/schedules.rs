//! Creates, changes, pauses and runs schedules in the database, while a worker is running.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::{
    change_schedule, create_schedule, list_schedules, pause_schedule, remove_schedule, run_schedule_now,
};
use procrastinate::{App, DieselConnector, Overlap, task};
use serde_json::json;
use throwaway_postgres::Server;
use tokio::sync::Semaphore;

static HEARD: Semaphore = Semaphore::const_new(0);

#[task(queue = "reports")]
async fn report(timestamp: i64, customer: String) {
    println!("{timestamp}: the report for {customer}");
    HEARD.add_permits(1);
}

/// Waits for so many reports.
async fn hear(reports: u32) -> Result<(), Box<dyn Error>> {
    HEARD.acquire_many(reports).await?.forget();
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("schedules")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<report>().build()?;

    let (stop, is_stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = app.worker().with_graceful_shutdown(async { drop(is_stopped.await) });
    let worker = tokio::spawn(worker.run());

    // A customer wants a report every year. An operation can also be part of your own transaction.
    let yearly = create_schedule("report", "0 0 1 1 *").periodic_id("customer-7").overlap(Overlap::Skip);
    app.perform(yearly.args(json!({ "customer": "Ada" }))).await?;
    // No need to wait for the new year.
    app.perform(run_schedule_now("report", "customer-7")).await?;
    hear(1).await?;

    // Every second instead. The worker uses the change at its next tick.
    app.perform(change_schedule("report", "customer-7").cron("* * * * * *")).await?;
    hear(2).await?;

    app.perform(pause_schedule("report", "customer-7").by("Grace").reason("the customer is on holiday")).await?;
    for listed in app.perform(list_schedules()).await? {
        let (schedule, last_tick) = (listed.schedule, listed.last_tick);
        println!("{} of {}: paused by {:?}", schedule.periodic_id, schedule.task_name, schedule.paused_by);
        println!("its last tick was {last_tick:?}, and its next would be {:?}", schedule.next_ticks(2)?);
        if !schedule.is_paused() || last_tick.is_none() {
            return Err("the schedule is not as expected".into());
        }
    }
    app.perform(remove_schedule("report", "customer-7")).await?;

    drop(stop);
    worker.await??;
    Ok(())
}
