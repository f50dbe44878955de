//! The migrations under Diesel's own harness.

use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;
use procrastinate::migrations::MIGRATIONS;
use procrastinate::models::ProcrastinateJob;
use procrastinate::{JobStatus, configure_task};
use serde_json::json;

use super::catalog::{catalog, versions};
use crate::support::{connect, empty_database, rows, sql, statuses};

fn migrations() -> Vec<Box<dyn Migration<Pg>>> {
    MIGRATIONS.migrations().unwrap()
}

#[test]
fn the_versions_sort_below_every_date() {
    for migration in migrations() {
        let version = migration.name().version().to_string();
        assert!(version.starts_with("0000") && version.bytes().all(|byte| byte.is_ascii_digit()), "{version}");
    }
}

#[test]
fn every_migration_can_be_undone_and_leaves_nothing() {
    let database = empty_database();
    let mut connection = connect(&database);
    let mut history = vec![catalog(&mut connection)];
    for _ in migrations() {
        connection.run_next_migration(MIGRATIONS).unwrap();
        let after = catalog(&mut connection);
        // But for the first, which only checks.
        assert_eq!(Some(&after) == history.last(), history.len() == 1);
        history.push(after);
    }
    configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "SELECT procrastinate_register_worker_v1()");
    while history.len() > 1 {
        assert_eq!(catalog(&mut connection), history.pop().unwrap());
        connection.revert_last_migration(MIGRATIONS).unwrap();
    }
    assert_eq!(catalog(&mut connection), history[0]);
    assert_eq!(versions(&mut connection), [""; 0]);
}

#[test]
fn every_migration_can_be_done_again() {
    let database = empty_database();
    let mut connection = connect(&database);
    for _ in migrations() {
        connection.run_next_migration(MIGRATIONS).unwrap();
        let before = catalog(&mut connection);
        connection.revert_last_migration(MIGRATIONS).unwrap();
        connection.run_next_migration(MIGRATIONS).unwrap();
        assert_eq!(catalog(&mut connection), before);
    }
    let before = catalog(&mut connection);
    connection.revert_all_migrations(MIGRATIONS).unwrap();
    connection.run_pending_migrations(MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn jobs_outlive_all_migrations_but_the_contracts_own() {
    let database = empty_database();
    let mut connection = connect(&database);
    connection.run_pending_migrations(MIGRATIONS).unwrap();
    configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    for _ in migrations().iter().skip(2) {
        connection.revert_last_migration(MIGRATIONS).unwrap();
    }
    connection.run_pending_migrations(MIGRATIONS).unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Todo]);
}

#[test]
fn what_has_run_does_not_run_again() {
    let database = empty_database();
    let mut connection = connect(&database);
    assert!(connection.has_pending_migration(MIGRATIONS).unwrap());
    assert_eq!(connection.run_pending_migrations(MIGRATIONS).unwrap().len(), migrations().len());
    assert!(!connection.has_pending_migration(MIGRATIONS).unwrap());
    assert_eq!(connection.run_pending_migrations(MIGRATIONS).unwrap(), []);
}

#[test]
fn the_migrations_can_be_part_of_a_transaction() {
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    let undone = diesel::Connection::transaction::<(), _, _>(&mut connection, |connection| {
        connection.run_pending_migrations(MIGRATIONS).unwrap();
        assert_eq!(statuses(connection), []);
        Err(diesel::result::Error::RollbackTransaction)
    });
    assert_eq!(undone, Err(diesel::result::Error::RollbackTransaction));
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn a_client_of_another_language_uses_the_same_queue() {
    use diesel::prelude::*;
    let database = empty_database();
    let mut connection = connect(&database);
    connection.run_pending_migrations(MIGRATIONS).unwrap();
    let id = configure_task("task", json!({ "a": 1 })).queue("mails").defer_blocking(&mut connection).unwrap();
    let fetched = rows(&mut connection, "SELECT id, task_name, args FROM procrastinate_fetch_job_v2('{mails}', NULL)");
    assert_eq!(fetched, [format!("{id} | task | {{\"a\": 1}}")]);
    let job: ProcrastinateJob = ProcrastinateJob::query().first(&mut connection).unwrap();
    assert_eq!(job.status, JobStatus::Doing);
}

/// Columns without a comment: their names, the tables' and the types' say all there is to say.
const SPEAK_FOR_THEMSELVES: [&str; 50] = [
    "procrastinate_diesel_action_jobs.action_id",
    "procrastinate_diesel_actions.at",
    "procrastinate_diesel_actions.id",
    "procrastinate_diesel_flow_controls.changed_at",
    "procrastinate_diesel_flow_controls.key_max_running",
    "procrastinate_diesel_flow_controls.key_max_starts",
    "procrastinate_diesel_flow_controls.key_start_period_seconds",
    "procrastinate_diesel_flow_controls.pause_reason",
    "procrastinate_diesel_flow_controls.paused_by",
    "procrastinate_diesel_flow_controls.start_period_seconds",
    "procrastinate_diesel_job_errors.at",
    "procrastinate_diesel_job_errors.worker_name",
    "procrastinate_diesel_keyed_jobs.job_id",
    "procrastinate_diesel_keyed_jobs.key_id",
    "procrastinate_diesel_keyed_jobs.priority",
    "procrastinate_diesel_keyed_jobs.scheduled_at",
    "procrastinate_diesel_limit_keys.counted_starts",
    "procrastinate_diesel_limit_keys.id",
    "procrastinate_diesel_limit_keys.kind",
    "procrastinate_diesel_limit_keys.name",
    "procrastinate_diesel_limit_keys.started_at",
    "procrastinate_diesel_limit_keys.top_priority",
    "procrastinate_diesel_limit_states.counted_starts",
    "procrastinate_diesel_limit_states.kind",
    "procrastinate_diesel_limit_states.name",
    "procrastinate_diesel_priority_ageings.changed_at",
    "procrastinate_diesel_priority_ageings.pass_job_id",
    "procrastinate_diesel_priority_ageings.pass_last_job_id",
    "procrastinate_diesel_priority_ageings.pass_priority",
    "procrastinate_diesel_priority_ageings.pass_stage",
    "procrastinate_diesel_priority_ageings.queue_name",
    "procrastinate_diesel_priority_ageings.step",
    "procrastinate_diesel_schedules.changed_at",
    "procrastinate_diesel_schedules.created_at",
    "procrastinate_diesel_schedules.lock",
    "procrastinate_diesel_schedules.pause_reason",
    "procrastinate_diesel_schedules.paused_by",
    "procrastinate_diesel_schedules.priority",
    "procrastinate_diesel_schedules.queueing_lock",
    "procrastinate_diesel_schedules.task_name",
    "procrastinate_events.at",
    "procrastinate_events.id",
    "procrastinate_events.job_id",
    "procrastinate_events.type",
    "procrastinate_jobs.id",
    "procrastinate_jobs.status",
    "procrastinate_periodic_defers.id",
    "procrastinate_periodic_defers.job_id",
    "procrastinate_periodic_defers.task_name",
    "procrastinate_workers.id",
];

#[test]
fn everything_is_described_in_the_database() {
    let database = crate::support::database();
    let mut connection = connect(&database);
    let tables_functions_and_types = "
        SELECT object FROM (
            SELECT 'table ' || relname, obj_description(oid, 'pg_class') FROM pg_class WHERE relkind = 'r'
          UNION ALL
            SELECT 'function ' || proname, obj_description(oid, 'pg_proc') FROM pg_proc
          UNION ALL
            SELECT 'type ' || typname, obj_description(type.oid, 'pg_type')
            FROM pg_type AS type LEFT JOIN pg_class AS class ON class.oid = type.typrelid
            WHERE typtype = 'e' OR class.relkind = 'c') AS everything (object, description)
        WHERE object ~ ' procrastinate_' AND coalesce(description, '') = ''";
    assert_eq!(rows(&mut connection, tables_functions_and_types), [""; 0]);

    let columns = "
        SELECT class.relname || '.' || field.attname AS column
        FROM pg_class AS class JOIN pg_attribute AS field ON field.attrelid = class.oid
        WHERE class.relkind = 'r' AND class.relname LIKE 'procrastinate\\_%'
          AND field.attnum > 0
          AND col_description(class.oid, field.attnum) IS NULL
        ORDER BY 1";
    assert_eq!(rows(&mut connection, columns), SPEAK_FOR_THEMSELVES);
}
