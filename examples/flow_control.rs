//! Pauses a queue, limits how many of its jobs run at the same time in two workers, all together and of each shop, and lets
//! their priorities age.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::{
    age_priorities, limit_queue, list_flow_controls, list_priority_ageings, pause_queue, resume_queue,
};
use procrastinate::{App, DieselConnector, task};
use throwaway_postgres::Server;
use tokio::time::sleep;

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

#[task(queue = "payments")]
async fn pay(order: i64, shop: String) {
    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
    HIGHEST.fetch_max(running, Ordering::SeqCst);
    sleep(Duration::from_millis(20)).await;
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    println!("order {order} of the {shop} is paid; {running} were running");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("flow_control")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<pay>().build()?;

    // The bookshop has many more orders than the other shops.
    let shops = ["bookshop", "bookshop", "bookshop", "bakery", "florist"];
    for (order, shop) in (1..=20).zip(shops.into_iter().cycle()) {
        app.defer(pay(order, shop.to_owned())).await?;
    }

    // While the queue is paused, a worker that runs until nothing can start runs nothing.
    app.perform(pause_queue("payments").by("anna").reason("the bank is closed")).await?;
    for control in app.perform(list_flow_controls()).await? {
        println!("{} {} is paused: {}", control.kind, control.name, control.pause_reason.unwrap_or_default());
    }
    app.worker().stop_when_empty().run().await?;
    if HIGHEST.load(Ordering::SeqCst) > 0 {
        return Err("a job of a paused queue has run".into());
    }

    // A payment that waits for five minutes has at least priority 4.
    app.perform(age_priorities("payments").every(Duration::from_secs(60)).up_to(10)).await?;
    for ageing in app.perform(list_priority_ageings()).await? {
        println!("priorities of {} age up to {}", ageing.queue_name, ageing.max_priority);
    }

    // Three at the same time, in both workers together, although each could run ten.
    app.perform(limit_queue("payments").max_running(3)).await?;
    // Of each shop one, so that no shop holds up the others.
    app.perform(limit_queue("payments").per_key("shop").max_running(1)).await?;
    app.perform(resume_queue("payments")).await?;
    let (one, other) = tokio::join!(
        app.worker().concurrency(10).stop_when_empty().run(),
        app.worker().concurrency(10).stop_when_empty().run(),
    );
    one?;
    other?;
    match HIGHEST.load(Ordering::SeqCst) {
        highest @ 1..=3 => println!("at most {highest} were running"),
        highest => return Err(format!("{highest} were running").into()),
    }
    Ok(())
}
