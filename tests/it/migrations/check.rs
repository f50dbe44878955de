//! The check of the contract, on databases that somebody has changed manually.

use diesel::prelude::*;
use procrastinate::migrations::{MIGRATIONS, check_contract, run_pending_migrations};
use procrastinate::{Error, configure_task};
use serde_json::json;

use super::catalog::{catalog, found_database};
use crate::support::{connect, connector, database, empty_database, events, jobs, sql, superuser};

#[test]
fn an_unchanged_database_passes_whichever_program_created_it() {
    let migrated = database();
    let mut connection = connect(&migrated);
    check_contract(&mut connection).unwrap();
    let (_found, mut connection) = found_database();
    let before = catalog(&mut connection);
    check_contract(&mut connection).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn manual_changes_after_the_migrations_are_named() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_status_events_update_v1;
         DROP INDEX procrastinate_jobs_lock_idx_v1",
    );
    let error = check_contract(&mut connection).unwrap_err();
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    let message = error.to_string();
    for part in [
        "2 difference(s)",
        "trigger procrastinate_trigger_status_events_update_v1",
        "index procrastinate_jobs_lock_idx_v1",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn additional_triggers_and_functions_are_named() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE TRIGGER again AFTER INSERT ON procrastinate_jobs FOR EACH ROW
             EXECUTE FUNCTION procrastinate_trigger_function_status_events_insert_v1();
         CREATE TRIGGER asleep AFTER INSERT ON procrastinate_jobs FOR EACH ROW
             EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();
         ALTER TABLE procrastinate_jobs DISABLE TRIGGER asleep;
         CREATE FUNCTION procrastinate_diesel_update_heartbeat_v1() RETURNS void LANGUAGE sql AS '';
         CREATE FUNCTION procrastinate_register_worker_v1(name text) RETURNS void LANGUAGE sql AS ''",
    );
    let message = check_contract(&mut connection).unwrap_err().to_string();
    for part in [
        "5 difference(s)",
        "not expected: trigger again on procrastinate_jobs: procrastinate_trigger_function_status_events_insert_v1()",
        "not expected: trigger asleep on procrastinate_jobs: procrastinate_notify_queue_job_inserted_v1()",
        "not expected: function procrastinate_diesel_update_heartbeat_v1() returns void",
        "not expected: function procrastinate_diesel_update_heartbeat_v1(p_worker_id bigint) returns integer",
        "not expected: function procrastinate_register_worker_v1(name text) returns void",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn triggers_that_were_all_disabled_and_enabled_again_do_what_they_did() {
    let (database, mut connection) = found_database();
    let before = catalog(&mut connection);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    // As pg_dump --disable-triggers writes it, and fixtures do.
    sql(
        &mut superuser(&database),
        "ALTER TABLE procrastinate_jobs DISABLE TRIGGER ALL; ALTER TABLE procrastinate_jobs ENABLE TRIGGER ALL",
    );
    let id = configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "SELECT procrastinate_fetch_job_v2(NULL, NULL)");
    assert_eq!(events(&mut connection, id), ["deferred", "started"]);
    check_contract(&mut connection).unwrap();

    diesel_migrations::MigrationHarness::revert_all_migrations(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
    sql(&mut connection, "SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    assert_eq!(events(&mut connection, id), ["deferred", "started", "succeeded"]);
}

#[test]
fn without_tables_the_schema_is_missing_and_stays_so() {
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    let error = check_contract(&mut connection).unwrap_err();
    assert!(matches!(error, Error::SchemaMissing { .. }), "{error:?}");
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn the_callers_transaction_can_write_after_either_result() {
    let database = database();
    let mut connection = connect(&database);
    connection
        .transaction(|connection| {
            check_contract(connection)?;
            configure_task("after a pass", json!({})).defer_blocking(connection)?;
            sql(connection, "DROP INDEX procrastinate_jobs_lock_idx_v1");
            assert!(check_contract(connection).is_err());
            configure_task("after a failure", json!({})).defer_blocking(connection)?;
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(jobs(&mut connection).len(), 2);
}

#[tokio::test]
async fn async_programs_check_on_a_runtime_of_one_thread() {
    let database = database();
    let connector = connector(&database).await;
    connector.check_contract().await.unwrap();
    sql(&mut connect(&database), "DROP INDEX procrastinate_jobs_lock_idx_v1");
    let error = connector.check_contract().await.unwrap_err();
    assert!(error.to_string().contains("1 difference(s)"), "{error}");
}
