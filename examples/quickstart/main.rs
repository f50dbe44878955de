//! A shop takes orders. The e-mail of each order is a job, deferred in the order's own transaction.
//!
//! `cargo run --example quickstart` starts a private PostgreSQL server, or creates a database on the server that
//! `DATABASE_URL` names.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use procrastinate::models::ProcrastinateJob;
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{App, DieselConnector, JobId, JobStatus, task};
use throwaway_postgres::Server;

// The application's own table and migrations, as in any Diesel application.

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("examples/quickstart/migrations");

diesel::table! {
    orders (id) {
        id -> BigInt,
        customer -> Text,
        amount_cents -> BigInt,
        mail_job_id -> Nullable<BigInt>,
    }
}
diesel::joinable!(orders -> procrastinate_jobs (mail_job_id));
procrastinate::allow_with_procrastinate!(orders);

// A task, which runs later in a worker.

#[task(queue = "mails")]
async fn send_confirmation(order: i64, customer: String) -> Result<(), String> {
    if customer == "Nobody" {
        return Err(format!("order {order}: the customer has no address"));
    }
    println!("  worker: dear {customer}, thank you for order {order}");
    Ok(())
}

/// Stores an order and defers its e-mail: both or neither.
async fn place_order(
    connection: &mut AsyncPgConnection,
    customer: &str,
    amount_cents: i64,
) -> Result<JobId, ShopError> {
    connection
        .transaction(async |connection| {
            let order: i64 = diesel::insert_into(orders::table)
                .values((orders::customer.eq(customer), orders::amount_cents.eq(amount_cents)))
                .returning(orders::id)
                .get_result(connection)
                .await?;
            let job = send_confirmation(order, customer.to_owned()).lock(customer).defer(connection).await?;
            diesel::update(orders::table.find(order)).set(orders::mail_job_id.eq(job)).execute(connection).await?;
            if amount_cents > 100_000 {
                // The order and its job are both stored, and are rolled back with the transaction.
                return Err(ShopError::CardDeclined);
            }
            Ok(job)
        })
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Show the worker's warnings and errors, such as failed jobs.
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).without_time().init();
    let server = Server::start()?;
    let database = server.create_database("quickstart")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = Pool::builder().max_size(5).build(manager).await?;

    println!("Migrations: the queue's, then the application's own.");
    let connector = DieselConnector::new(pool.clone());
    for version in connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await? {
        println!("  applied {version}");
    }
    for version in connector.run_pending_migrations(MIGRATIONS).await? {
        println!("  applied {version}");
    }

    println!("\nOrders, each with its e-mail in one transaction:");
    let mut connection = pool.get().await?;
    for (customer, amount_cents) in
        [("Ada", 1_999), ("Grace", 250_000), ("Edsger", 4_900), ("Nobody", 100), ("Ada", 700)]
    {
        match place_order(&mut connection, customer, amount_cents).await {
            Ok(job) => println!("  {customer}: committed, job {job} is pending"),
            Err(error) => println!("  {customer}: rolled back, {error}; no order and no job"),
        }
    }
    drop(connection);

    println!("\nA worker runs until no job is left:");
    let app = App::builder(connector).task::<send_confirmation>().build()?;
    app.worker().queues(["mails"]).concurrency(10).stop_when_empty().run().await?;

    println!("\nThe orders with their jobs, in one query:");
    let mut connection = pool.get().await?;
    let rows: Vec<(i64, String, ProcrastinateJob)> = orders::table
        .inner_join(procrastinate_jobs::table)
        .select((orders::id, orders::customer, ProcrastinateJob::as_select()))
        .order(orders::id)
        .load(&mut connection)
        .await?;
    for (order, customer, job) in &rows {
        println!("  order {order:<2} {customer:<8} {:<10} {job}", job.status);
    }

    // Check that the outcomes are as shown.
    let mut statuses = rows.iter().map(|(_, _, job)| &job.status);
    let expected = [JobStatus::Succeeded, JobStatus::Succeeded, JobStatus::Failed, JobStatus::Succeeded];
    if !statuses.by_ref().eq(&expected) {
        return Err("the jobs did not have the expected outcomes".into());
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("the card was declined")]
    CardDeclined,
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error(transparent)]
    Queue(#[from] procrastinate::Error),
}
