//! Defers jobs on blocking connections: a `PgConnection`, and one from an r2d2 pool.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use procrastinate::migrations::run_pending_migrations;
use procrastinate::models::ProcrastinateJob;
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{batch_defer_blocking, configure_task, task};
use serde_json::json;
use throwaway_postgres::Server;

// A plain `fn` runs on a thread where blocking is allowed.
#[task(queue = "pictures")]
fn resize(picture: i64, width: u32) {
    println!("picture {picture}: {width} pixels wide");
}

#[derive(Debug, thiserror::Error)]
enum MyError {
    #[error("changed my mind")]
    ChangedMyMind,
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error(transparent)]
    Queue(#[from] procrastinate::Error),
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("transaction_sync")?;

    let mut connection = PgConnection::establish(database.url())?;
    run_pending_migrations(&mut connection, procrastinate::migrations::MIGRATIONS)?;

    // In a transaction that is committed.
    connection.transaction(|connection| {
        resize(7, 640).lock("picture-7").defer_blocking(connection)?;
        // A task in another program, for example in Python: by its name, with JSON.
        configure_task("pictures.tasks.describe", json!({ "picture": 7 })).defer_blocking(connection)?;
        Ok::<_, MyError>(())
    })?;

    // In a transaction that is rolled back.
    let rolled_back = connection.transaction(|connection| {
        resize(8, 640).defer_blocking(connection)?;
        Err::<(), _>(MyError::ChangedMyMind)
    });
    if let Err(error) = rolled_back {
        println!("rolled back: {error}");
    }

    // A taken queueing lock is a value, and the transaction continues.
    connection.transaction(|connection| {
        let job = || resize(9, 640).queueing_lock("picture-9");
        println!("first:  {:?}", job().defer_unless_enqueued_blocking(connection)?.is_some());
        println!("second: {:?}", job().defer_unless_enqueued_blocking(connection)?.is_some());
        Ok::<_, MyError>(())
    })?;

    // A batch on a connection from an r2d2 pool.
    let pool = Pool::builder().max_size(2).build(ConnectionManager::<PgConnection>::new(database.url()))?;
    let mut pooled = pool.get()?;
    batch_defer_blocking((10..13).map(|picture| resize(picture, 320)), &mut pooled)?;

    let jobs: Vec<ProcrastinateJob> = ProcrastinateJob::query().order(procrastinate_jobs::id).load(&mut pooled)?;
    for job in &jobs {
        println!("{:<10} {job}", job.status);
    }
    if jobs.len() == 6 { Ok(()) } else { Err(format!("expected 6 jobs, found {}", jobs.len()).into()) }
}
