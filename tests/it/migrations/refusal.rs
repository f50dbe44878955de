//! A database with an older or an altered form of Procrastinate's tables is left as it is, and what differs is named.

use diesel::prelude::*;
use procrastinate::Error;
use procrastinate::migrations::{MIGRATIONS, run_pending_migrations};

use super::catalog::{catalog, found_database, versions};
use crate::support::{connect, empty_database, rows, sql};

/// Alters the database in each of these ways, and checks that the migrations then fail with these lines, and with no
/// others, and that they change nothing.
fn assert_refused(alterations: &[(&str, &[&str])]) {
    let (_database, mut connection) = found_database();
    for (alteration, differences) in alterations {
        let undone = connection.transaction::<(), _, _>(|connection| {
            sql(connection, alteration);
            assert_eq!(refusal(connection, alteration), *differences, "{alteration}");
            Err(diesel::result::Error::RollbackTransaction)
        });
        assert_eq!(undone, Err(diesel::result::Error::RollbackTransaction));
    }
}

/// The differences that the migrations name on this database.
fn refusal(connection: &mut PgConnection, alteration: &str) -> Vec<String> {
    let before = catalog(connection);
    let error = run_pending_migrations(connection, MIGRATIONS).expect_err(alteration);
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    assert_eq!(catalog(connection), before, "{alteration}");
    assert_eq!(versions(connection), [""; 0], "{alteration}");

    let message = error.to_string();
    let lines: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect();
    assert!(message.contains("00000000031000"), "{message}");
    assert!(message.contains(&format!("{} difference(s)", lines.len())), "{message}");
    lines
}

#[test]
fn functions_that_are_missing_or_different() {
    assert_refused(&[
        (
            "DROP FUNCTION procrastinate_register_worker_v1()",
            &["missing or different: function procrastinate_register_worker_v1() returns TABLE(worker_id bigint)"],
        ),
        (
            "DROP FUNCTION procrastinate_finish_job_v1;
             CREATE FUNCTION procrastinate_finish_job_v1(job_id integer, end_status procrastinate_job_status)
                 RETURNS void LANGUAGE sql AS ''",
            &[
                "missing or different: function procrastinate_finish_job_v1(job_id bigint, \
                 end_status procrastinate_job_status, delete_job boolean) returns void",
                "not expected: function procrastinate_finish_job_v1(job_id integer, \
                 end_status procrastinate_job_status) returns void",
            ],
        ),
        (
            "CREATE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[])
                 RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
            &["not expected: function procrastinate_fetch_job_v2(target_queue_names character varying[]) \
               returns bigint"],
        ),
        (
            "DROP FUNCTION procrastinate_update_heartbeat_v1;
             CREATE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint)
                 RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
            &[
                "missing or different: function procrastinate_update_heartbeat_v1(worker_id bigint) returns void",
                "not expected: function procrastinate_update_heartbeat_v1(worker_id bigint) returns bigint",
            ],
        ),
        (
            "DROP FUNCTION procrastinate_unregister_worker_v1;
             CREATE FUNCTION procrastinate_unregister_worker_v1(id bigint) RETURNS void LANGUAGE sql AS ''",
            &[
                "missing or different: function procrastinate_unregister_worker_v1(worker_id bigint) returns void",
                "not expected: function procrastinate_unregister_worker_v1(id bigint) returns void",
            ],
        ),
    ]);
}

#[test]
fn columns_that_are_missing_or_different() {
    assert_refused(&[
        (
            "ALTER TABLE procrastinate_jobs DROP COLUMN queueing_lock",
            &[
                "missing or different: column procrastinate_jobs.queueing_lock text",
                "missing or different: unique index procrastinate_jobs_queueing_lock_idx_v1 (queueing_lock) \
                 where (status = 'todo'::procrastinate_job_status)",
            ],
        ),
        (
            "ALTER TABLE procrastinate_jobs RENAME COLUMN attempts TO tries",
            &["missing or different: column procrastinate_jobs.attempts integer not null default"],
        ),
        (
            "ALTER TABLE procrastinate_jobs ALTER priority TYPE bigint",
            &["missing or different: column procrastinate_jobs.priority integer not null default"],
        ),
        (
            "ALTER TABLE procrastinate_jobs ALTER task_name TYPE varchar(64)",
            &["missing or different: column procrastinate_jobs.task_name character varying(128) not null"],
        ),
        (
            "ALTER TABLE procrastinate_jobs ALTER args DROP NOT NULL",
            &["missing or different: column procrastinate_jobs.args jsonb not null default"],
        ),
        (
            "ALTER TABLE procrastinate_jobs ALTER lock SET NOT NULL",
            &["missing or different: column procrastinate_jobs.lock text"],
        ),
        (
            "ALTER TABLE procrastinate_events ALTER at DROP DEFAULT",
            &["missing or different: column procrastinate_events.at timestamp with time zone default"],
        ),
        (
            "ALTER TABLE procrastinate_workers ALTER id DROP IDENTITY",
            &["missing or different: column procrastinate_workers.id bigint not null default"],
        ),
    ]);
}

#[test]
fn triggers_that_are_missing_or_disabled_or_different() {
    let missing = "missing or different: trigger procrastinate_trigger_delete_jobs_v1: \
                   procrastinate_unlink_periodic_defers_v1()";
    assert_refused(&[
        ("DROP TRIGGER procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs", &[missing]),
        ("ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_delete_jobs_v1", &[missing]),
        ("ALTER TABLE procrastinate_jobs ENABLE REPLICA TRIGGER procrastinate_trigger_delete_jobs_v1", &[missing]),
        (
            "ALTER TRIGGER procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs RENAME TO other",
            &[missing, "not expected: trigger other on procrastinate_jobs: procrastinate_unlink_periodic_defers_v1()"],
        ),
        (
            "DROP TRIGGER procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs;
             CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
             CREATE TRIGGER procrastinate_trigger_delete_jobs_v1 BEFORE DELETE ON procrastinate_jobs
                 FOR EACH ROW EXECUTE FUNCTION other()",
            &[missing],
        ),
    ]);
}

#[test]
fn types_that_are_different() {
    let status = "missing or different: type procrastinate_job_status: todo, doing, succeeded, failed, cancelled, \
                  aborting, aborted";
    let event = "missing or different: type procrastinate_job_event_type: deferred, started, deferred_for_retry, \
                 failed, succeeded, cancelled, abort_requested, aborted, scheduled, retried";
    let job = "missing or different: type procrastinate_job_to_defer_v1: queue_name character varying, \
               task_name character varying, priority integer, lock text, queueing_lock text, args jsonb, \
               scheduled_at timestamp with time zone";
    assert_refused(&[
        ("ALTER TYPE procrastinate_job_status RENAME VALUE 'aborting' TO 'other'", &[status]),
        ("ALTER TYPE procrastinate_job_status ADD VALUE 'later' BEFORE 'failed'", &[status]),
        (
            "ALTER TYPE procrastinate_job_event_type RENAME VALUE 'retried' TO 'x';
             ALTER TYPE procrastinate_job_event_type RENAME VALUE 'scheduled' TO 'retried';
             ALTER TYPE procrastinate_job_event_type RENAME VALUE 'x' TO 'scheduled'",
            &[event],
        ),
        ("ALTER TYPE procrastinate_job_to_defer_v1 DROP ATTRIBUTE queueing_lock", &[job]),
        ("ALTER TYPE procrastinate_job_to_defer_v1 ALTER ATTRIBUTE priority TYPE bigint", &[job]),
    ]);
}

#[test]
fn indexes_that_are_missing_or_different() {
    let queueing_lock = "missing or different: unique index procrastinate_jobs_queueing_lock_idx_v1 (queueing_lock) \
                         where (status = 'todo'::procrastinate_job_status)";
    let lock = "missing or different: unique index procrastinate_jobs_lock_idx_v1 (lock) \
                where (status = 'doing'::procrastinate_job_status)";
    assert_refused(&[
        ("DROP INDEX procrastinate_jobs_queueing_lock_idx_v1", &[queueing_lock]),
        ("ALTER INDEX procrastinate_jobs_queueing_lock_idx_v1 RENAME TO other", &[queueing_lock]),
        (
            "DROP INDEX procrastinate_jobs_lock_idx_v1;
             CREATE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock) WHERE status = 'doing'",
            &[lock],
        ),
        (
            "DROP INDEX procrastinate_jobs_lock_idx_v1;
             CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock) WHERE status = 'todo'",
            &[lock],
        ),
        (
            "DROP INDEX procrastinate_jobs_lock_idx_v1;
             CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock, id)
                 WHERE status = 'doing'",
            &[lock],
        ),
        (
            "DROP INDEX procrastinate_jobs_lock_idx_v1;
             CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (upper(lock))
                 WHERE status = 'doing'",
            &[lock],
        ),
    ]);
}

#[test]
fn constraints_that_are_missing_or_different() {
    let event = "missing or different: constraint on procrastinate_events: FOREIGN KEY (job_id) REFERENCES \
                 procrastinate_jobs(id) ON DELETE CASCADE";
    let worker = "missing or different: constraint on procrastinate_jobs: FOREIGN KEY (worker_id) REFERENCES \
                  procrastinate_workers(id) ON DELETE SET NULL";
    let periodic = "missing or different: constraint on procrastinate_periodic_defers: FOREIGN KEY (job_id) REFERENCES \
                    procrastinate_jobs(id)";
    assert_refused(&[
        (
            "ALTER TABLE procrastinate_events
                 DROP CONSTRAINT procrastinate_events_job_id_fkey,
                 ADD FOREIGN KEY (job_id) REFERENCES procrastinate_jobs",
            &[event],
        ),
        (
            "ALTER TABLE procrastinate_events
                 DROP CONSTRAINT procrastinate_events_job_id_fkey,
                 ADD FOREIGN KEY (job_id) REFERENCES procrastinate_jobs ON DELETE CASCADE NOT VALID",
            &[event],
        ),
        ("ALTER TABLE procrastinate_events DROP CONSTRAINT procrastinate_events_job_id_fkey", &[event]),
        (
            "ALTER TABLE procrastinate_jobs
                 DROP CONSTRAINT procrastinate_jobs_worker_id_fkey,
                 ADD FOREIGN KEY (worker_id) REFERENCES procrastinate_workers",
            &[worker],
        ),
        (
            "ALTER TABLE procrastinate_periodic_defers
                 DROP CONSTRAINT procrastinate_periodic_defers_job_id_fkey,
                 ADD FOREIGN KEY (job_id) REFERENCES procrastinate_jobs ON DELETE CASCADE",
            &[periodic],
        ),
        (
            "ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT procrastinate_periodic_defers_unique",
            &[
                "missing or different: constraint on procrastinate_periodic_defers: \
                 UNIQUE (task_name, periodic_id, defer_timestamp)",
                "missing or different: unique index procrastinate_periodic_defers_unique \
                 (task_name, periodic_id, defer_timestamp)",
            ],
        ),
        (
            "ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT procrastinate_periodic_defers_pkey",
            &["missing or different: constraint on procrastinate_periodic_defers: PRIMARY KEY (id)"],
        ),
        (
            "ALTER TABLE procrastinate_jobs DROP CONSTRAINT check_not_todo_abort_requested",
            &["missing or different: check on procrastinate_jobs: check_not_todo_abort_requested"],
        ),
    ]);
}

#[test]
fn a_table_that_is_missing_or_no_table() {
    let (_database, mut connection) = found_database();
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_workers RENAME TO other;
         CREATE VIEW procrastinate_workers AS SELECT * FROM other",
    );
    let lines = refusal(&mut connection, "a view");
    for expected in [
        "missing or different: column procrastinate_workers.id bigint not null default",
        "missing or different: constraint on procrastinate_workers: PRIMARY KEY (id)",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    }

    let (_database, mut connection) = found_database();
    sql(&mut connection, "DROP TABLE procrastinate_periodic_defers");
    let lines = refusal(&mut connection, "no table");
    assert!(lines.iter().all(|line| line.contains("procrastinate_periodic_defers")), "{lines:?}");
    assert_eq!(lines.len(), 9);
}

#[test]
fn a_database_with_no_more_than_a_type_or_a_table_of_that_name() {
    for remains in [
        "CREATE TYPE procrastinate_job_status AS ENUM ('todo')",
        "CREATE TABLE procrastinate_jobs (id integer)",
        "CREATE VIEW procrastinate_events AS SELECT 1 AS id",
    ] {
        let database = empty_database();
        let mut connection = connect(&database);
        sql(&mut connection, remains);
        assert!(refusal(&mut connection, remains).len() > 50);
    }
}

#[test]
fn the_message_explains_what_to_do() {
    let (_database, mut connection) = found_database();
    sql(&mut connection, "DROP FUNCTION procrastinate_register_worker_v1()");
    let message = run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err().to_string();
    for part in ["\"public\"", "3.10", "nothing was changed", "manage.py migrate procrastinate", "--migrations-path"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn once_the_difference_is_corrected_the_database_is_adopted() {
    let (_database, mut connection) = found_database();
    sql(&mut connection, "ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_delete_jobs_v1");
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err();
    sql(&mut connection, "ALTER TABLE procrastinate_jobs ENABLE TRIGGER procrastinate_trigger_delete_jobs_v1");
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), ["0"]);
}
