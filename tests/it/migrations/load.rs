//! Migrations while programs defer, work and delete: nobody gets an error, and nobody waits for long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{panic, thread};

use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;
use procrastinate::configure_task;
use procrastinate::migrations::{MIGRATIONS, SQL_MIGRATIONS, check_contract, run_pending_migrations};
use serde_json::json;
use throwaway_postgres::Database;

use super::catalog::found_database;
use crate::support::{PATIENCE, connect, rows, sql, superuser, try_rows};

/// The first migrations of the queue, so many of them.
struct First(usize);

impl MigrationSource<Pg> for First {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        let mut migrations: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS.migrations()?;
        migrations.sort_by_key(|migration| migration.name().version().as_owned());
        migrations.truncate(self.0);
        Ok(migrations)
    }
}

/// Does something while another transaction is in the middle of inserting a job: it has the table of jobs, and comes to
/// that of events when the other side waits for it, or is done.
fn while_a_job_is_inserted(database: &Database, what: &str, act: impl FnOnce() + Send) {
    let mut deferring = connect(database);
    sql(&mut deferring, "BEGIN; LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE");
    let mut looking = connect(database);
    thread::scope(|scope| {
        let acting = scope.spawn(act);
        let pid = rows(&mut deferring, "SELECT pg_backend_pid()").remove(0);
        let waits = format!("SELECT pid FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))");
        let start = Instant::now();
        while rows(&mut looking, &waits).is_empty() && !acting.is_finished() {
            assert!(start.elapsed() < PATIENCE, "{what} neither waits nor ends");
            thread::sleep(Duration::from_millis(2));
        }
        let insert = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('work', 't') RETURNING id";
        let inserted = diesel::sql_query(insert).execute(&mut deferring);
        assert_eq!(inserted, Ok(1), "{what}");
        sql(&mut deferring, "COMMIT");
        acting.join().unwrap();
    });
}

#[test]
fn no_migration_deadlocks_with_a_program_that_defers() {
    let (database, mut connection) = found_database();
    for (number, migration) in SQL_MIGRATIONS.iter().enumerate() {
        while_a_job_is_inserted(&database, migration.name, || {
            run_pending_migrations(&mut connection, First(number + 1)).unwrap();
        });
    }
    check_contract(&mut connection).unwrap();
    for migration in SQL_MIGRATIONS.iter().rev() {
        while_a_job_is_inserted(&database, migration.name, || {
            connection.revert_last_migration(MIGRATIONS).unwrap();
        });
    }
}

#[test]
fn all_migrations_in_one_transaction_do_not_deadlock_with_a_program_that_defers() {
    let (database, mut connection) = found_database();
    while_a_job_is_inserted(&database, "all", || {
        connection
            .transaction(|connection| {
                connection.run_pending_migrations(MIGRATIONS).unwrap();
                QueryResult::Ok(())
            })
            .unwrap();
    });
    check_contract(&mut connection).unwrap();
}

/// Repeats until it is stopped; any error is a failure.
fn again_and_again(database: &Database, is_over: &AtomicBool, statements: [&str; 2]) -> usize {
    let mut connection = connect(database);
    let mut times = 0;
    while times == 0 || !is_over.load(Ordering::Relaxed) {
        for statement in statements {
            try_rows(&mut connection, statement).unwrap_or_else(|error| panic!("{error} in {statement}"));
        }
        times += 1;
    }
    times
}

/// Does something while others do theirs, each at least once.
fn under_load(database: &Database, parts: &[[&str; 2]], act: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let mut threads = Vec::new();
        for part in parts {
            threads.push(scope.spawn(move || again_and_again(database, is_over, *part)));
        }
        // The programs end even if it panics.
        let acted = panic::catch_unwind(panic::AssertUnwindSafe(act));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panicked) = acted {
            panic::resume_unwind(panicked);
        }
        for thread in threads {
            assert!(thread.join().unwrap() > 0);
        }
    });
}

#[test]
fn programs_defer_work_and_delete_while_migrations_run_and_are_reverted() {
    let (database, mut connection) = found_database();
    sql(
        &mut superuser(&database),
        "SET session_replication_role = replica;
         INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT 'old', 't', 'succeeded' FROM generate_series(1, 50000);
         INSERT INTO procrastinate_events (job_id, type) SELECT id, 'succeeded' FROM procrastinate_jobs;
         RESET session_replication_role",
    );
    let jobs = "ARRAY[('work', 't', 0, NULL, NULL, '{}', NULL), ('work', 't', 0, 'l', NULL, '{}', now())]";
    let defer = format!("SELECT procrastinate_defer_jobs_v1({jobs}::procrastinate_job_to_defer_v1[])");
    let work = "SELECT procrastinate_finish_job_v1(id, 'succeeded', id % 2 = 0)
                FROM procrastinate_fetch_job_v2(NULL, NULL) WHERE id IS NOT NULL";
    let delete = "SELECT procrastinate_cancel_job_v1(max(id), false, true) FROM procrastinate_jobs";
    let tick = "SELECT procrastinate_defer_periodic_job_v2(
                    'work', NULL, NULL, 't', 0, '', (extract(epoch FROM clock_timestamp()) * 1000)::bigint, '{}')";
    let beat = "SELECT procrastinate_unregister_worker_v1(worker_id) FROM procrastinate_register_worker_v1()";
    let prune = "SELECT * FROM procrastinate_prune_stalled_workers_v1(0)";
    let defer = defer.as_str();
    let parts = [[defer, defer], [delete, tick], [beat, prune], [defer, work]];
    for _ in 0..2 {
        under_load(&database, &parts, || drop(run_pending_migrations(&mut connection, MIGRATIONS).unwrap()));
        // A fetch by a function that is being reverted may not find the functions that it calls.
        under_load(&database, &parts[..3], || {
            for _ in SQL_MIGRATIONS.iter().skip(2) {
                connection.revert_last_migration(MIGRATIONS).unwrap();
            }
        });
    }
    check_contract(&mut connection).unwrap();
}

#[test]
fn a_table_that_stays_in_use_is_awaited_in_short_attempts() {
    let (database, mut connection) = found_database();
    let mut reading = connect(&database);
    sql(&mut reading, "BEGIN; SELECT FROM procrastinate_jobs");
    thread::scope(|scope| {
        let migrating = scope.spawn(|| run_pending_migrations(&mut connection, MIGRATIONS));
        let mut deferring = connect(&database);
        let mut longest = Duration::ZERO;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            let deferred = Instant::now();
            configure_task("t", json!({})).defer_blocking(&mut deferring).unwrap();
            longest = longest.max(deferred.elapsed());
        }
        assert!(longest < Duration::from_secs(3), "{longest:?}");
        assert!(!migrating.is_finished());
        sql(&mut reading, "COMMIT");
        migrating.join().unwrap().unwrap();
    });
    check_contract(&mut connection).unwrap();
}

#[test]
fn a_migration_run_by_another_tool_reports_a_table_in_use_and_changes_nothing() {
    let (database, mut connection) = found_database();
    let mut reading = connect(&database);
    sql(&mut reading, "BEGIN; SELECT FROM procrastinate_jobs");
    let error = connection.run_pending_migrations(MIGRATIONS).unwrap_err().to_string();
    assert!(error.contains("could not lock the table procrastinate_jobs within two seconds"), "{error}");
    sql(&mut reading, "COMMIT");
    check_contract(&mut connection).unwrap();
    assert_eq!(rows(&mut connection, "SELECT current_setting('lock_timeout')"), ["0"]);
}

#[test]
fn indexes_can_be_built_beforehand_while_other_programs_continue() {
    let (database, mut connection) = found_database();
    let files = "SELECT relname, relfilenode FROM pg_class
                 WHERE relname ~ '^procrastinate_diesel_(jobs|events)_.*idx' AND relkind = 'i' ORDER BY relname";
    let statements: Vec<_> =
        SQL_MIGRATIONS.iter().flat_map(procrastinate::migrations::SqlMigration::concurrent_indexes).collect();
    assert_eq!(statements.len(), 13);
    // A failed attempt leaves an invalid index behind.
    sql(&mut connection, &statements[0]);
    sql(
        &mut superuser(&database),
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'procrastinate_diesel_jobs_priority_idx_v1'::regclass",
    );
    // One who is in the middle of deferring is waited for, and stops nobody else.
    let mut deferring = connect(&database);
    for statement in &statements[1..] {
        configure_task("t", json!({})).defer_blocking(&mut deferring).unwrap();
        sql(&mut connection, statement);
    }
    let built = rows(&mut connection, files);
    assert_eq!(built.len(), statements.len());
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    check_contract(&mut connection).unwrap();
    // The same files: none was built again, but for the invalid one. Five have another name now.
    let kept = rows(&mut connection, files);
    assert_eq!(kept.len(), statements.len() - 5);
    assert!(kept.iter().all(|index| built.contains(index)), "{kept:?} of {built:?}");
    let priority = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'procrastinate_jobs_priority_idx_v1'::regclass";
    assert_eq!(rows(&mut connection, priority), ["true"]);
}
