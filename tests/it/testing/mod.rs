//! Jobs within a test's own transaction: the feature `testing`.

mod assertions;
mod blocking;
#[cfg(feature = "deadpool")]
mod deadpool;
mod running;
mod time;

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, AppBuilder, DieselConnector, JobContext, TaskError, task, testing};
use throwaway_postgres::Database;

use crate::support::{connect, database, sql};

diesel::table! {
    notes (id) { id -> BigInt, text -> Text, }
}

/// A database with a table of the application's own.
fn shop() -> Database {
    let database = database();
    sql(&mut connect(&database), "CREATE TABLE notes (id bigserial PRIMARY KEY, text text NOT NULL UNIQUE)");
    database
}

/// The application's pool, as its tasks find it among the state.
struct Connections(Pool<AsyncPgConnection>);

/// An application as its program would build it, on a pool for one test.
async fn app(database: &Database, tasks: impl FnOnce(AppBuilder) -> AppBuilder) -> (App, Pool<AsyncPgConnection>) {
    let pool = testing::test_pool(database.url()).await.unwrap();
    let builder = App::builder(DieselConnector::new(pool.clone())).state(Connections(pool.clone()));
    (tasks(builder).build().unwrap(), pool)
}

/// Writes a note on a connection from the application's pool.
#[task(queue = "notes", pass_context)]
async fn note(context: JobContext, text: String) -> Result<(), TaskError> {
    let mut connection = context.state::<Connections>()?.0.get().await?;
    let insert = diesel::insert_into(notes::table).values(notes::text.eq(text));
    diesel_async::RunQueryDsl::execute(insert, &mut *connection).await?;
    Ok(())
}

/// All notes that this connection sees.
async fn notes_of(pool: &Pool<AsyncPgConnection>) -> Vec<String> {
    let query = notes::table.select(notes::text).order(notes::id);
    diesel_async::RunQueryDsl::load(query, &mut *pool.get().await.unwrap()).await.unwrap()
}
