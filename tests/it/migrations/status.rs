//! What was applied and what was not, seen without a change to the database.

use diesel_migrations::MigrationHarness;
use procrastinate::Error;
use procrastinate::migrations::{
    CombinedMigrations, MIGRATIONS, SQL_MIGRATIONS, migration_status, run_pending_migrations,
};

use super::application::{CUSTOMERS, ORDERS, versions_of_queue};
use super::catalog::catalog;
use crate::support::{connect, connector, database, empty_database, sql};

fn names_of_queue() -> Vec<&'static str> {
    SQL_MIGRATIONS.iter().map(|migration| migration.name).collect()
}

#[test]
fn on_an_empty_database_everything_is_pending_and_nothing_is_created() {
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    let status = migration_status(&mut connection, MIGRATIONS).unwrap();
    assert_eq!((status.applied.len(), status.unknown.len()), (0, 0));
    assert_eq!(status.pending, names_of_queue());
    assert!(!status.is_up_to_date());
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn applied_pending_and_unknown_migrations_are_distinguished() {
    let database = empty_database();
    let mut connection = connect(&database);
    run_pending_migrations(&mut connection, CombinedMigrations::new().add(MIGRATIONS).add(CUSTOMERS)).unwrap();
    connection.revert_migration(&CUSTOMERS).unwrap();
    connection.run_migration(&CUSTOMERS).unwrap();

    let status = migration_status(&mut connection, CombinedMigrations::new().add(ORDERS).add(CUSTOMERS)).unwrap();
    assert_eq!(status.applied, [CUSTOMERS.version]);
    assert_eq!(status.pending, [ORDERS.version]);
    assert_eq!(status.unknown, versions_of_queue());
    assert!(!status.is_up_to_date());
    assert!(
        status.to_string().starts_with("[X] 20250901000000\n[ ] 20260101000000\n[X] 00000000031000 (not in"),
        "{status}"
    );

    let status = migration_status(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(status.applied, names_of_queue());
    assert_eq!(status.unknown, [CUSTOMERS.version]);
    assert!(status.is_up_to_date());
}

#[test]
fn the_record_of_a_later_schema_is_not_this_ones() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "CREATE SCHEMA \"Second Queue\"; SET search_path TO \"Second Queue\", public");
    let status = migration_status(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(status.pending, names_of_queue());
    // As the runner sees it.
    assert_eq!(run_pending_migrations(&mut connection, MIGRATIONS).unwrap(), versions_of_queue());
    assert!(migration_status(&mut connection, MIGRATIONS).unwrap().is_up_to_date());
}

#[test]
fn a_record_that_cannot_be_read_is_an_error() {
    let database = empty_database();
    let mut connection = connect(&database);
    sql(&mut connection, "CREATE TABLE __diesel_schema_migrations (release text)");
    let error = migration_status(&mut connection, MIGRATIONS).unwrap_err();
    assert!(matches!(error, Error::Database { .. }), "{error:?}");
    assert!(error.to_string().contains("which migrations are applied"), "{error}");
}

#[tokio::test]
async fn async_programs_ask_on_a_runtime_of_one_thread() {
    let database = empty_database();
    let connector = connector(&database).await;
    assert_eq!(connector.migration_status(MIGRATIONS).await.unwrap().pending, names_of_queue());
    connector.run_pending_migrations(MIGRATIONS).await.unwrap();
    assert!(connector.migration_status(MIGRATIONS).await.unwrap().is_up_to_date());
}
