//! The queue in a schema of its own, found by `search_path`.

use diesel::prelude::*;
use diesel_migrations::MigrationHarness;
use procrastinate::job_manager::{
    cancel_job, delete_old_jobs, fetch_job, finish_job, list_queues, register_worker, retry_job, unregister_worker,
};
use procrastinate::migrations::{MIGRATIONS, check_contract, migration_status, run_pending_migrations};
use procrastinate::{DieselConnector, JobStatus, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use super::catalog::{catalog, found_database, versions};
use crate::support::{connect, empty_database, hours, rows, sql, statuses, superuser};

/// Names as they are written in SQL.
const NAMES: [&str; 3] = ["queue", "\"Queue of the Shop\"", "\"It's \"\"quoted\"\"\""];

/// A connection whose unqualified names are those of a schema, which is created.
fn connect_to_schema(database: &Database, name: &str) -> PgConnection {
    let mut connection = connect(database);
    sql(&mut connection, &format!("CREATE SCHEMA IF NOT EXISTS {name}; SET search_path TO {name}"));
    connection
}

/// Fetches a job and finishes it, as any client would.
fn work(connection: &mut PgConnection) -> String {
    let id = rows(connection, "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)").remove(0);
    if id != "NULL" {
        sql(connection, &format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)"));
    }
    id
}

/// What the job manager does by functions of ours.
fn manage(connection: &mut PgConnection) {
    let worker_id = register_worker().execute_blocking(connection).unwrap();
    configure_task("task", json!({})).defer_blocking(connection).unwrap();
    let job = fetch_job(worker_id).execute_blocking(connection).unwrap().unwrap();
    finish_job(&job, JobStatus::Failed).execute_blocking(connection).unwrap();
    assert_eq!(retry_job(&job).execute_blocking(connection).unwrap(), JobStatus::Todo);
    assert!(cancel_job(job.id).execute_blocking(connection).unwrap());
    let cancelled = list_queues().status(JobStatus::Cancelled).execute_blocking(connection).unwrap();
    assert_eq!(cancelled[0].cancelled, 1);
    assert_eq!(delete_old_jobs(hours(0)).execute_blocking(connection).unwrap(), 1);
    assert_eq!(delete_old_jobs(hours(0)).include_cancelled(true).execute_blocking(connection).unwrap(), 1);
    unregister_worker(worker_id).execute_blocking(connection).unwrap();
}

#[test]
fn everything_lands_in_the_first_schema_of_the_search_path_and_works_there() {
    for name in NAMES {
        let database = empty_database();
        let mut connection = connect_to_schema(&database, name);
        sql(&mut connection, &format!("SET search_path TO {name}, public"));
        let before = catalog(&mut connection);

        run_pending_migrations(&mut connection, MIGRATIONS).unwrap();

        let elsewhere = "
            SELECT relname FROM pg_class
            WHERE relname LIKE '%procrastinate%' AND relnamespace <> quote_ident(current_schema())::regnamespace
          UNION ALL
            SELECT proname FROM pg_proc
            WHERE proname LIKE '%procrastinate%' AND pronamespace <> quote_ident(current_schema())::regnamespace";
        assert_eq!(rows(&mut connection, elsewhere), [""; 0], "{name}");
        configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
        assert_eq!(work(&mut connection), "1", "{name}");
        assert_eq!(statuses(&mut connection), [JobStatus::Succeeded], "{name}");
        manage(&mut connection);
        connection.revert_all_migrations(MIGRATIONS).unwrap();
        assert_eq!(catalog(&mut connection), before, "{name}");
    }
}

#[test]
fn a_queue_in_another_schema_is_adopted_or_refused_like_one_in_public() {
    let (database, mut connection) = found_database();
    // In PostgreSQL 13, the schema does not belong to the owner of the database.
    sql(&mut superuser(&database), "ALTER SCHEMA public RENAME TO \"Python\"");
    sql(&mut connection, "SET search_path TO \"Python\"");
    let before = catalog(&mut connection);
    let trigger = "TRIGGER procrastinate_trigger_delete_jobs_v1";
    sql(&mut connection, &format!("ALTER TABLE procrastinate_jobs DISABLE {trigger}"));
    let message = run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err().to_string();
    assert!(message.contains("\"Python\"") && message.contains("1 difference(s)"), "{message}");

    sql(&mut connection, &format!("ALTER TABLE procrastinate_jobs ENABLE {trigger}"));
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    connection.revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn a_queue_works_after_its_schema_was_renamed() {
    let database = empty_database();
    let mut connection = connect_to_schema(&database, "first");
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "ALTER SCHEMA first RENAME TO \"Second\"");

    let mut connection = connect_to_schema(&database, "\"Second\"");
    check_contract(&mut connection).unwrap();
    assert!(migration_status(&mut connection, MIGRATIONS).unwrap().is_up_to_date());
    configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    assert_eq!([work(&mut connection), work(&mut connection)], ["1", "2"]);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Succeeded]);
    connection.revert_all_migrations(MIGRATIONS).unwrap();
}

#[test]
fn two_queues_in_two_schemas_do_not_see_each_other() {
    let database = empty_database();
    let mut first = connect_to_schema(&database, "first");
    let mut second = connect_to_schema(&database, "second");
    let mut in_public = connect(&database);
    for connection in [&mut first, &mut second, &mut in_public] {
        run_pending_migrations(connection, MIGRATIONS).unwrap();
        assert!(!versions(connection).is_empty());
    }
    let job = || configure_task("task", json!({})).lock("same").queueing_lock("same");
    job().defer_blocking(&mut first).unwrap();
    assert_eq!(work(&mut second), "NULL");
    assert_eq!(statuses(&mut second), []);

    // Neither do their locks meet, nor their numbers.
    assert_eq!(job().defer_blocking(&mut second).unwrap(), procrastinate::JobId::from(1));
    sql(&mut first, "SELECT procrastinate_fetch_job_v2(NULL, NULL)");
    assert_eq!(work(&mut second), "1");
    assert_eq!(statuses(&mut first), [JobStatus::Doing]);
    assert_eq!(statuses(&mut in_public), []);

    // And the one goes without the other.
    second.revert_all_migrations(MIGRATIONS).unwrap();
    in_public.revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(statuses(&mut first), [JobStatus::Doing]);
}

#[test]
fn a_search_path_without_a_schema_is_an_error_and_changes_nothing() {
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    sql(&mut connection, "SET search_path TO nowhere");
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err();
    sql(&mut connection, "RESET search_path");
    assert_eq!(catalog(&mut connection), before);
}

#[tokio::test]
async fn the_async_runner_keeps_to_the_search_path_of_the_url() {
    let database = empty_database();
    sql(&mut connect(&database), "CREATE SCHEMA queue");
    let separator = if database.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}options=-csearch_path%3Dqueue", database.url());
    let manager =
        diesel_async::pooled_connection::AsyncDieselConnectionManager::<diesel_async::AsyncPgConnection>::new(&url);
    let pool = diesel_async::pooled_connection::bb8::Pool::builder().max_size(1).build(manager).await.unwrap();

    DieselConnector::new(pool.clone()).run_pending_migrations(MIGRATIONS).await.unwrap();

    configure_task("task", json!({})).defer(&mut *pool.get().await.unwrap()).await.unwrap();
    assert_eq!(rows(&mut connect(&database), "SELECT count(*) FROM queue.procrastinate_jobs"), ["1"]);
}
