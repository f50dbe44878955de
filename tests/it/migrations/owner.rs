//! A role that owns its database and is no superuser, as managed PostgreSQL gives it: it can migrate, adopt, restore a dump,
//! and revert.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_migrations::MigrationHarness;
use procrastinate::migrations::{MIGRATIONS, SQL_MIGRATIONS, check_contract, migration_status, run_pending_migrations};
use procrastinate::{DieselConnector, configure_task};
use serde_json::json;
use throwaway_postgres::{Database, Server};

use super::catalog::catalog;
use crate::end_to_end::a_worker_does_all_that_it_is_there_for;
use crate::python::peer::{Python, python};
use crate::support::{empty_database, rows, sql, superuser};

/// A role, and databases that it owns.
struct Owner {
    name: String,
    /// Before the role can be dropped, they have to be another's.
    databases: Vec<Database>,
}

impl Owner {
    fn create() -> Self {
        let database = empty_database();
        let name = format!("{}_owner", &database.name()[database.name().len() - 16..]);
        sql(&mut superuser(&database), &format!("CREATE ROLE \"{name}\""));
        let mut owner = Self { name, databases: Vec::new() };
        owner.take(database);
        owner
    }

    fn take(&mut self, database: Database) {
        sql(&mut superuser(&database), &format!("ALTER DATABASE \"{}\" OWNER TO \"{}\"", database.name(), self.name));
        self.databases.push(database);
    }

    fn url(&self, database: usize) -> String {
        let url = self.databases[database].superuser_url();
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-crole%3D{}", self.name)
    }

    fn connect(&self, database: usize) -> PgConnection {
        let mut connection = PgConnection::establish(&self.url(database)).unwrap();
        let who = "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user";
        assert_eq!(rows(&mut connection, who), [format!("{} | false", self.name)]);
        connection
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for database in &self.databases {
            let drop = format!("REASSIGN OWNED BY \"{0}\" TO CURRENT_USER; DROP OWNED BY \"{0}\"", self.name);
            // Nobody could act on a failure here.
            let _ = superuser(database).batch_execute(&drop);
        }
        let _ = superuser(&self.databases[0]).batch_execute(&format!("DROP ROLE \"{}\"", self.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_migrates_works_and_reverts() {
    let owner = Owner::create();
    let mut connection = owner.connect(0);
    let before = catalog(&mut connection);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    check_contract(&mut connection).unwrap();

    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(owner.url(0));
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await.unwrap());
    connector.check_contract().await.unwrap();
    let quick = |worker: procrastinate::Worker| worker.update_heartbeat_interval(Duration::from_millis(100));
    a_worker_does_all_that_it_is_there_for(connector, &mut connection, quick).await;

    connection.revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn it_adopts_a_database_and_reverts() {
    let owner = Owner::create();
    let mut connection = owner.connect(0);
    // What Python's Procrastinate creates, without a trace of this crate.
    sql(&mut connection, SQL_MIGRATIONS[1].up);
    sql(&mut connection, "COMMENT ON TABLE procrastinate_jobs IS NULL");
    let before = catalog(&mut connection);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    check_contract(&mut connection).unwrap();
    connection.revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn its_workers_obey_limits_in_a_database_that_a_superuser_has_adopted() {
    let owner = Owner::create();
    let mut connection = owner.connect(0);
    sql(&mut connection, SQL_MIGRATIONS[1].up);
    let mut superuser = superuser(&owner.databases[0]);
    run_pending_migrations(&mut superuser, MIGRATIONS).unwrap();
    sql(&mut superuser, "SELECT procrastinate_diesel_set_limit_v1('queue', 'default', 1, 5, 60)");
    let job = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'task'), ('default', 'task')";
    sql(&mut connection, job);
    let fetch = "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)";
    assert_eq!(rows(&mut connection, fetch), ["1"]);
    assert_eq!(rows(&mut connection, fetch), ["NULL"]);
}

#[tokio::test]
async fn it_adopts_a_database_of_pythons_and_reverts() {
    let Some(interpreter) = python() else { return };
    let owner = Owner::create();
    Python::new(interpreter, &owner.url(0)).procrastinate(&["schema", "--apply"]).await;
    let mut connection = owner.connect(0);
    let before = catalog(&mut connection);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    check_contract(&mut connection).unwrap();
    connection.revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

/// The directory of `pg_dump` and `psql` of the server's version.
fn client_programs() -> Option<PathBuf> {
    let major = Server::shared().unwrap().major_version().unwrap();
    let named = std::env::var_os("POSTGRES_BIN").map(PathBuf::from);
    let usual = Path::new("/usr/lib/postgresql").join(major.to_string()).join("bin");
    let found = named.into_iter().chain([usual]).find(|directory| directory.join("pg_dump").exists());
    if found.is_none() {
        eprintln!("skipped: migrations::owner: there is no pg_dump of PostgreSQL {major}");
    }
    found
}

/// Dumps the first database of the owner with these options, and restores it into the second one, which is empty.
fn dump_and_restore(programs: &Path, owner: &mut Owner, options: &[&str]) {
    owner.take(empty_database());
    let mut dump = Command::new(programs.join("pg_dump"));
    dump.args(["--no-owner", "--dbname", &owner.url(0)]).args(options);
    let mut dump = dump.stdout(Stdio::piped()).spawn().unwrap();
    let restored = Command::new(programs.join("psql"))
        .args(["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--dbname", &owner.url(1)])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(dump.wait().unwrap().success());
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

#[test]
fn it_restores_a_dump_without_the_jobs() {
    let Some(programs) = client_programs() else { return };
    let mut owner = Owner::create();
    let mut connection = owner.connect(0);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('work', 'task')");
    sql(&mut connection, "SELECT procrastinate_register_worker_v1()");

    dump_and_restore(&programs, &mut owner, &["--exclude-table-data=procrastinate_*"]);

    let mut copy = owner.connect(1);
    check_contract(&mut copy).unwrap();
    let status = migration_status(&mut copy, MIGRATIONS).unwrap();
    assert!(status.is_up_to_date(), "{status}");
    for table in ["jobs", "events", "workers"] {
        assert_eq!(rows(&mut copy, &format!("SELECT count(*) FROM procrastinate_{table}")), ["0"]);
    }
    let job = configure_task("task", json!({})).defer_blocking(&mut copy).unwrap();
    sql(&mut copy, "SELECT procrastinate_register_worker_v1()");
    let fetch = "SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 1)";
    assert_eq!(rows(&mut copy, fetch), [format!("fetched | {job}")]);
}

#[test]
fn jobs_of_a_restored_dump_are_deleted_without_the_rows_that_refer_to_them() {
    let Some(programs) = client_programs() else { return };
    let mut owner = Owner::create();
    let mut connection = owner.connect(0);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    sql(
        &mut connection,
        "CREATE TABLE orders (mail_job_id bigint REFERENCES procrastinate_jobs (id) ON DELETE SET NULL);
         INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('work', 'task');
         INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)
         SELECT 'work', 'task', 'doing', worker_id FROM procrastinate_register_worker_v1();
         INSERT INTO orders (mail_job_id) SELECT id FROM procrastinate_jobs",
    );

    dump_and_restore(&programs, &mut owner, &[]);

    let mut copy = owner.connect(1);
    sql(&mut copy, "DELETE FROM procrastinate_jobs; DELETE FROM procrastinate_workers");
    assert_eq!(rows(&mut copy, "SELECT count(*), count(mail_job_id) FROM orders"), ["2 | 0"]);
    assert_eq!(rows(&mut copy, "SELECT count(*) FROM procrastinate_events"), ["0"]);
}

#[test]
fn it_restores_a_dump() {
    let Some(programs) = client_programs() else { return };
    let mut owner = Owner::create();
    let mut connection = owner.connect(0);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('work', 'task')");

    dump_and_restore(&programs, &mut owner, &[]);

    let mut copy = owner.connect(1);
    check_contract(&mut copy).unwrap();
    assert_eq!(catalog(&mut copy), catalog(&mut connection));
    // One event for the job that was there, and the functions of the copy work.
    sql(&mut copy, "SELECT procrastinate_register_worker_v1()");
    let fetch = "SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 1)";
    assert_eq!(rows(&mut copy, fetch), ["fetched | 1"]);
    assert_eq!(rows(&mut copy, "SELECT type FROM procrastinate_events ORDER BY id"), ["deferred", "started"]);
    copy.revert_all_migrations(MIGRATIONS).unwrap();
}
