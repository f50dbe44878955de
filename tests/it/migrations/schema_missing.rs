//! A database without the queue's tables or functions is distinguished from other errors.

use diesel_async::AsyncConnection;
use diesel_async::AsyncPgConnection;
use procrastinate::{App, Error, JobToDefer, batch_defer, batch_defer_blocking, configure_task};
use serde_json::json;

use super::catalog::found_database;
use crate::support::{connect, connector, empty_database, sql};

fn job() -> JobToDefer {
    configure_task("task", json!({}))
}

fn assert_schema_missing<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::SchemaMissing { .. }), "{error:?}");
    assert!(error.as_diesel().is_some());
    let message = error.to_string();
    assert!(message.contains("run the migrations") && message.contains("search_path"), "{message}");
}

#[test]
fn deferring_on_an_empty_database() {
    let database = empty_database();
    let mut connection = connect(&database);
    assert_schema_missing(job().defer_blocking(&mut connection));
    assert_schema_missing(job().queueing_lock("a").defer_blocking(&mut connection));
    assert_schema_missing(job().queueing_lock("a").defer_unless_enqueued_blocking(&mut connection));
    assert_schema_missing(batch_defer_blocking([job(), job()], &mut connection));
}

#[tokio::test]
async fn deferring_on_an_empty_database_async() {
    let database = empty_database();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    assert_schema_missing(job().defer(&mut connection).await);
    assert_schema_missing(job().queueing_lock("a").defer(&mut connection).await);
    assert_schema_missing(job().queueing_lock("a").defer_unless_enqueued(&mut connection).await);
    assert_schema_missing(batch_defer([job(), job()], &mut connection).await);
    let app = App::builder(connector(&database).await).build().unwrap();
    assert_schema_missing(app.defer(job()).await);
}

#[test]
fn deferring_where_the_search_path_names_another_schema() {
    let database = crate::support::database();
    let mut connection = connect(&database);
    sql(&mut connection, "CREATE SCHEMA other; SET search_path TO other");
    assert_schema_missing(job().defer_blocking(&mut connection));
}

#[test]
fn deferring_many_with_pythons_tables_and_pending_migrations() {
    let (_database, mut connection) = found_database();
    assert_schema_missing(batch_defer_blocking([job(), job()], &mut connection));
    job().defer_blocking(&mut connection).unwrap();
}

#[tokio::test]
async fn deferring_many_with_pending_migrations_async() {
    let (database, _connection) = found_database();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    assert_schema_missing(batch_defer([job(), job()], &mut connection).await);
}

#[test]
fn a_missing_table_of_the_application_is_another_error() {
    let database = crate::support::database();
    let mut connection = connect(&database);
    // Deferring fires a trigger of the application's, which needs a table that is not there.
    sql(
        &mut connection,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO notes DEFAULT VALUES; RETURN NULL; END';
         CREATE TRIGGER note AFTER INSERT ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION note()",
    );
    let error = job().defer_blocking(&mut connection).unwrap_err();
    assert!(matches!(error, Error::Database { .. }), "{error:?}");
}
