//! What a database holds, to compare before and after.

use diesel::prelude::*;
use diesel_migrations::MigrationHarness;
use throwaway_postgres::Database;

use crate::support::{connect, database, rows, sql};

/// Everything but rows, a line each.
pub fn catalog(connection: &mut PgConnection) -> Vec<String> {
    rows(connection, include_str!("catalog.sql"))
}

/// The versions that Diesel has on record.
pub fn versions(connection: &mut PgConnection) -> Vec<String> {
    rows(connection, "SELECT version FROM __diesel_schema_migrations ORDER BY version")
}

/// A database as Python's Procrastinate 3.10 sets it up, and a connection: the contract, without a trace of this crate.
pub fn found_database() -> (Database, PgConnection) {
    let database = database();
    let mut connection = connect(&database);
    while versions(&mut connection).len() > 2 {
        connection.revert_last_migration(procrastinate::migrations::MIGRATIONS).unwrap();
    }
    sql(&mut connection, "DROP TABLE __diesel_schema_migrations; COMMENT ON TABLE procrastinate_jobs IS NULL");
    (database, connection)
}

#[test]
fn the_catalog_tells_databases_apart() {
    let database = database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    assert_eq!(catalog(&mut connection), before);
    for change in [
        "CREATE TABLE a ()",
        "CREATE SCHEMA a",
        "ALTER TABLE procrastinate_jobs ALTER priority DROP DEFAULT",
        "ALTER TABLE procrastinate_jobs ALTER priority TYPE bigint",
        "ALTER TABLE procrastinate_jobs ALTER priority DROP NOT NULL",
        "ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_delete_jobs_v1",
        "ALTER TABLE procrastinate_jobs DROP CONSTRAINT check_not_todo_abort_requested",
        "ALTER FUNCTION procrastinate_register_worker_v1() STRICT",
        "ALTER TYPE procrastinate_job_status RENAME VALUE 'todo' TO 'a'",
        "COMMENT ON TYPE procrastinate_job_status IS NULL",
        "COMMENT ON COLUMN procrastinate_jobs.priority IS NULL",
        "DROP INDEX procrastinate_jobs_lock_idx_v1",
    ] {
        sql(&mut connection, &format!("BEGIN; {change}"));
        assert_ne!(catalog(&mut connection), before, "{change}");
        sql(&mut connection, "ROLLBACK");
    }
}
