//! What an application needs to be granted: no more than the use of the schema, of its tables and of its sequences.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::migrations::{MIGRATIONS, migration_status, run_pending_migrations};
use procrastinate::{DieselConnector, batch_defer_blocking, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use crate::end_to_end::a_worker_does_all_that_it_is_there_for;
use crate::support::{empty_database, rows, sql, superuser};

/// A role that owns nothing, with a name of its own since the roles of all databases are one list.
struct Role<'a> {
    database: &'a Database,
    name: String,
}

impl<'a> Role<'a> {
    fn create(database: &'a Database) -> Self {
        let name = format!("{}_application", &database.name()[database.name().len() - 16..]);
        sql(&mut superuser(database), &format!("CREATE ROLE \"{name}\""));
        Self { database, name }
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let drop = format!("DROP OWNED BY \"{name}\"; DROP ROLE \"{name}\"", name = self.name);
        // Nobody could act on a failure here.
        let _ = superuser(self.database).batch_execute(&drop);
    }
}

/// A queue in a schema that is another's, and a connection that acts as the application's role.
fn connect_as(role: &Role<'_>) -> PgConnection {
    let mut connection = superuser(role.database);
    sql(&mut connection, "CREATE SCHEMA queue; SET search_path TO queue");
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    let grants = "
        GRANT USAGE ON SCHEMA queue TO \"$role\";
        GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers,
            procrastinate_workers TO \"$role\";
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA queue TO \"$role\";
        SET SESSION AUTHORIZATION \"$role\"";
    sql(&mut connection, &grants.replace("$role", &role.name));
    let may = "SELECT rolsuper, has_schema_privilege('queue', 'CREATE') FROM pg_roles WHERE rolname = current_user";
    assert_eq!(rows(&mut connection, may), ["false | false"]);
    connection
}

#[test]
fn a_role_that_owns_nothing_can_defer_fetch_and_finish() {
    let database = empty_database();
    let role = Role::create(&database);
    let mut connection = connect_as(&role);

    let job = || configure_task("task", json!({}));
    job().defer_blocking(&mut connection).unwrap();
    job().queueing_lock("(a)").defer_blocking(&mut connection).unwrap();
    assert!(job().queueing_lock("(a)").defer_unless_enqueued_blocking(&mut connection).unwrap().is_none());
    let third = batch_defer_blocking([job(), job()], &mut connection).unwrap()[0];
    // The server names the lock only to those who may read it.
    let error = batch_defer_blocking([job(), job().queueing_lock("(a)")], &mut connection).unwrap_err();
    assert!(error.to_string().contains("\"(a)\""), "{error}");

    for (statement, answer) in [
        ("SELECT worker_id FROM procrastinate_register_worker_v1()", vec!["1"]),
        ("SELECT id FROM procrastinate_fetch_job_v2(NULL, 1)", vec!["1"]),
        (
            "SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{1}', '{succeeded}', NULL, 1)",
            vec!["fetched | 2"],
        ),
        ("SELECT procrastinate_cancel_job_v1(2, true, false)", vec!["2"]),
        ("SELECT procrastinate_defer_jobs_v1('{}')::text", vec!["{}"]),
        ("SELECT count(procrastinate_defer_periodic_job_v2('a', NULL, NULL, 'b', 0, '', 60, '{}'))", vec!["1"]),
        ("SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(30)", vec![]),
    ] {
        assert_eq!(rows(&mut connection, statement), answer, "{statement}");
    }
    sql(&mut connection, &format!("SELECT procrastinate_cancel_job_v1({third}, false, true)"));
    for statement in [
        "procrastinate_retry_job_v1(2, NULL, NULL, NULL, NULL)",
        "procrastinate_retry_job_v2(2, NULL, NULL, NULL, NULL)",
        "procrastinate_finish_job_v1(2, 'succeeded', true)",
        "procrastinate_update_heartbeat_v1(1)",
        "procrastinate_unregister_worker_v1(1)",
    ] {
        sql(&mut connection, &format!("SELECT {statement}"));
    }
    let left = "SELECT status FROM procrastinate_jobs ORDER BY id";
    assert_eq!(rows(&mut connection, left), ["succeeded", "todo", "todo"]);
}

#[test]
fn a_role_that_cannot_create_objects_can_call_the_runner_when_nothing_is_pending() {
    let database = empty_database();
    let role = Role::create(&database);
    let mut connection = connect_as(&role);
    // Not even the record may be read: that is said.
    let error = run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err();
    assert!(error.to_string().contains("permission denied for table __diesel_schema_migrations"), "{error}");

    let grant = format!("GRANT SELECT ON __diesel_schema_migrations TO \"{}\"", role.name);
    sql(&mut connection, &format!("RESET SESSION AUTHORIZATION; {grant}; SET SESSION AUTHORIZATION \"{}\"", role.name));
    assert!(migration_status(&mut connection, MIGRATIONS).unwrap().is_up_to_date());
    assert_eq!(run_pending_migrations(&mut connection, MIGRATIONS).unwrap(), [""; 0]);

    sql(
        &mut connection,
        &format!(
            "RESET SESSION AUTHORIZATION; DELETE FROM __diesel_schema_migrations WHERE version > '00000000031001'; \
             SET SESSION AUTHORIZATION \"{}\"",
            role.name
        ),
    );
    let error = run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err();
    assert!(error.to_string().contains("permission denied for schema queue"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_owns_nothing_can_run_a_worker_with_all_side_tasks() {
    let database = empty_database();
    let role = Role::create(&database);
    // The same grants as above, and those for the errors that workers keep and for schedules.
    let mut owner = superuser(&database);
    drop(connect_as(&role));
    sql(
        &mut owner,
        &format!(
            "SET search_path TO queue;
             GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_diesel_job_errors,
                 procrastinate_diesel_schedules TO \"{}\"",
            role.name
        ),
    );
    let separator = if database.superuser_url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}options=-csearch_path%3Dqueue%20-crole%3D{}", database.superuser_url(), role.name);
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(&url);
    let pool = Pool::builder().max_size(5).build(manager).await.unwrap();
    let mut connection = PgConnection::establish(&url).unwrap();
    assert_eq!(rows(&mut connection, "SELECT current_user"), [role.name.as_str()]);
    let quick = |worker: procrastinate::Worker| worker.update_heartbeat_interval(Duration::from_millis(100));
    a_worker_does_all_that_it_is_there_for(DieselConnector::new(pool), &mut owner, quick).await;
}
