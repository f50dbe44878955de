//! A synchronous application: an r2d2 pool, blocking tasks, and a worker in a thread. Other threads defer jobs in their
//! transactions, or through the worker's runtime.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use procrastinate::{App, DieselConnector, JobContext, TaskError, migrations, task};
use throwaway_postgres::Server;

type BlockingPool = Pool<ConnectionManager<PgConnection>>;

diesel::table! {
    files (id) { id -> BigInt, text -> Text, words -> Nullable<BigInt>, }
}

/// Uses the application's own pool, as the rest of the application does.
#[task(queue = "imports", pass_context)]
fn import(context: JobContext, file: i64) -> Result<(), TaskError> {
    let mut connection = context.state::<BlockingPool>()?.get()?;
    let text: String = files::table.find(file).select(files::text).first(&mut connection)?;
    let words = i64::try_from(text.split_whitespace().count())?;
    diesel::update(files::table.find(file)).set(files::words.eq(words)).execute(&mut connection)?;
    context.state::<Sender<i64>>()?.send(words)?;
    Ok(())
}

/// Stores a file, and the job that imports it, in one transaction.
fn upload(connection: &mut PgConnection, text: &str) -> Result<i64, procrastinate::Error> {
    connection.transaction(|connection| {
        let insert = diesel::insert_into(files::table).values(files::text.eq(text)).returning(files::id);
        let file = insert.get_result(connection)?;
        import(file).defer_blocking(connection)?;
        Ok(file)
    })
}

fn main() -> Result<(), TaskError> {
    let server = Server::start()?;
    let database = server.create_database("synchronous")?;

    let pool = Pool::builder().max_size(5).build(ConnectionManager::<PgConnection>::new(database.url()))?;
    migrations::run_pending_migrations(&mut *pool.get()?, migrations::MIGRATIONS)?;
    diesel::sql_query("CREATE TABLE files (id bigserial PRIMARY KEY, text text NOT NULL, words bigint)")
        .execute(&mut pool.get()?)?;

    // The worker has a runtime and a thread of its own.
    let (imported, imports) = channel::<i64>();
    let connector = DieselConnector::from_url(database.url())?;
    let app = App::builder(connector).state(pool.clone()).state(imported).task::<import>().build()?;
    let worker = app.worker().queues(["imports"]).concurrency(4);
    let handle = worker.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let deferring = runtime.handle().clone();
    let working = std::thread::spawn(move || runtime.block_on(worker.run()));

    let file = upload(&mut *pool.get()?, "to be or not to be")?;
    let words = imports.recv_timeout(Duration::from_secs(30))?;
    println!("file {file} has {words} words");

    // Jobs that belong to no transaction share statements, if threads defer them at the same time.
    let again = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| deferring.block_on(app.defer(import(file))))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")).collect::<Result<Vec<_>, _>>()
    })?;
    for job in again {
        println!("job {}: {} words again", job?, imports.recv_timeout(Duration::from_secs(30))?);
    }

    handle.stop();
    working.join().map_err(|_| "the worker panicked")??;
    let stored: Option<i64> = files::table.find(file).select(files::words).first(&mut pool.get()?)?;
    if stored == Some(6) { Ok(()) } else { Err(format!("expected 6 words, found {stored:?}").into()) }
}
