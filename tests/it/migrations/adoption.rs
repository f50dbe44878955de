//! A database that Python's Procrastinate 3.10 has set up is taken over as it is.

use diesel_migrations::MigrationHarness;
use procrastinate::migrations::{MIGRATIONS, run_pending_migrations};
use procrastinate::{JobId, configure_task};
use serde_json::json;

use super::catalog::{catalog, found_database, versions};
use crate::support::{events, rows, sql};

const JOBS: &str = "SELECT * FROM procrastinate_jobs ORDER BY id";

/// A job in each of several states, with a worker and a tick.
const LIFE: &str = "
    SELECT procrastinate_register_worker_v1();
    INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('a', 'b', 'c'), ('a', 'b', NULL);
    SELECT procrastinate_defer_periodic_job_v2('a', NULL, NULL, 'b', 0, '', 60, '{}');
    SELECT procrastinate_fetch_job_v2(NULL, 1);
    SELECT procrastinate_fetch_job_v2(NULL, 1);
    SELECT procrastinate_finish_job_v1(1, 'failed', false)";

/// Triggers and their functions may be replaced by some that do the same for many jobs in one statement. Indexes
/// without constraints, and the function that reads them, may be replaced by some that find the next job faster. A
/// foreign key may do what a trigger does anyway. The function that defers ticks also obeys pauses. The index
/// on queueing locks may leave out the jobs without one.
fn may_make_way(line: &str) -> bool {
    line.starts_with("CREATE TRIGGER procrastinate_")
        || line.starts_with("constraint procrastinate_periodic_defers_job_id_fkey ")
        || line.starts_with("CREATE INDEX procrastinate_jobs_")
        || line.starts_with("CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ")
        || line.starts_with("CREATE INDEX idx_procrastinate_jobs_worker_not_null ")
        || line.starts_with("column procrastinate_jobs_queue_name_idx_v1.")
        || line.starts_with("column idx_procrastinate_jobs_worker_not_null.")
        || line.contains("FUNCTION") && line.contains("procrastinate_fetch_job_v2(")
        || line.contains("FUNCTION") && line.contains("procrastinate_defer_periodic_job_v2(")
        || line.contains("FUNCTION") && line.contains("procrastinate_finish_job_v1(")
        || line.starts_with("CREATE OR REPLACE FUNCTION") && line.contains("RETURNS trigger")
        || line.starts_with("comment on function procrastinate_trigger_")
        || line.starts_with("comment on function procrastinate_notify_")
        || line.starts_with("comment on function procrastinate_unlink_periodic_defers_v1(")
        || line.starts_with("comment on function procrastinate_defer_periodic_job_v2(")
}

#[test]
fn its_tables_and_functions_are_as_before_and_only_what_is_the_crates_own_is_added() {
    let (_database, mut connection) = found_database();
    sql(&mut connection, LIFE);
    let jobs = rows(&mut connection, JOBS);
    let before = catalog(&mut connection);

    let applied = run_pending_migrations(&mut connection, MIGRATIONS).unwrap();

    assert_eq!(applied, versions(&mut connection));
    assert_eq!(rows(&mut connection, JOBS), jobs);
    let after = catalog(&mut connection);
    for gone in before.iter().filter(|line| !after.contains(line)) {
        assert!(may_make_way(gone), "{gone}");
    }
    for added in after.iter().filter(|line| !before.contains(line)) {
        assert!(added.contains("procrastinate_diesel_") || may_make_way(added), "{added}");
    }
    // The next job has the next number.
    let id = configure_task("b", json!({})).defer_blocking(&mut connection).unwrap();
    assert_eq!(id, JobId::from(4));
    assert_eq!(events(&mut connection, JobId::from(1)), ["deferred", "started", "failed"]);
}

#[test]
fn the_contracts_own_migrations_change_nothing_at_all() {
    let (_database, mut connection) = found_database();
    let before = catalog(&mut connection);
    for _ in 0..2 {
        connection.run_next_migration(MIGRATIONS).unwrap();
        assert_eq!(catalog(&mut connection), before);
    }
    for _ in 0..2 {
        connection.revert_last_migration(MIGRATIONS).unwrap();
        assert_eq!(catalog(&mut connection), before);
    }
}

#[test]
fn it_stays_when_all_migrations_are_reverted() {
    let (_database, mut connection) = found_database();
    sql(&mut connection, LIFE);
    let jobs = rows(&mut connection, JOBS);
    let before = catalog(&mut connection);

    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    connection.revert_all_migrations(MIGRATIONS).unwrap();

    assert_eq!(catalog(&mut connection), before);
    assert_eq!(rows(&mut connection, JOBS), jobs);
    assert_eq!(versions(&mut connection), [""; 0]);
    // And it can be adopted once more.
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
}

#[test]
fn it_stays_when_migrations_are_reverted_whatever_the_comments_on_its_tables_are() {
    let (_database, mut connection) = found_database();
    sql(&mut connection, "COMMENT ON TABLE procrastinate_jobs IS 'All that is to be done.'");
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    connection.revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(rows(&mut connection, JOBS), [""; 0]);
}

#[test]
fn additions_are_no_reason_to_refuse_it() {
    let (_database, mut connection) = found_database();
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_jobs ADD COLUMN tenant text;
         CREATE INDEX jobs_of_tenant ON procrastinate_jobs (tenant);
         CREATE TABLE procrastinate_notes (job_id bigint REFERENCES procrastinate_jobs);
         CREATE FUNCTION procrastinate_fetch_job_v1(queues varchar[]) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
         CREATE FUNCTION procrastinate_notify_queue() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER notes AFTER INSERT ON procrastinate_jobs EXECUTE FUNCTION procrastinate_notify_queue();
         CREATE TYPE mood AS ENUM ('good', 'bad');
         DROP INDEX idx_procrastinate_workers_last_heartbeat",
    );
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
}
