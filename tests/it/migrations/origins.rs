//! Wherever a database has its tables from, it is the same queue: from the embedded migrations, from written ones, from the
//! SQL by another tool, from Python or from Django.

use std::fs;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use procrastinate::migrations::{
    CombinedMigrations, MIGRATIONS, SQL_MIGRATIONS, check_contract, migration_status, run_pending_migrations,
    write_migrations,
};
use procrastinate::{App, DieselConnector, JobId, JobStatus, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use super::application::{CUSTOMERS, ORDERS};
use super::catalog::catalog;
use super::diesel_cli::Application;
use super::written::Directory;
use crate::end_to_end::a_worker_does_all_that_it_is_there_for;
use crate::python::peer::{Python, python};
use crate::support::{connect, connector, empty_database, job, pool, rows};

/// What holds of every database, wherever its tables are from.
async fn assert_that_it_is_a_queue(database: &Database) {
    let mut connection = connect(database);
    check_contract(&mut connection).unwrap();
    connector(database).await.check_contract().await.unwrap();
    let connector = DieselConnector::new(pool(database).await);
    let quick = |worker: procrastinate::Worker| worker.update_heartbeat_interval(std::time::Duration::from_millis(100));
    a_worker_does_all_that_it_is_there_for(connector.clone(), &mut connection, quick).await;
    if let Some(interpreter) = python() {
        let python = Python::new(interpreter, database.url());
        assert_that_python_and_rust_work_for_each_other(&python, connector, &mut connection).await;
    }
}

#[procrastinate::task(name = "origins.greet")]
async fn greet(name: String) {
    drop(name);
}

async fn assert_that_python_and_rust_work_for_each_other(
    python: &Python,
    connector: DieselConnector,
    connection: &mut PgConnection,
) {
    let app = App::builder(connector).task::<greet>().build().unwrap();
    let for_python = app.defer(configure_task("peer.echo", json!({ "a": 1 })).queue("python")).await.unwrap();
    python.ask("work", json!({ "wait": false, "queues": ["python"] })).await;
    assert_eq!(job(connection, for_python).status, JobStatus::Succeeded);

    let jobs = json!([{ "task": "origins.greet", "args": { "name": "Ada" }, "queue": "rust" }]);
    let for_rust = python.ask_one("defer", jobs).await.as_i64().unwrap();
    app.worker().queues(["rust"]).stop_when_empty().run().await.unwrap();
    assert_eq!(job(connection, JobId::from(for_rust)).status, JobStatus::Succeeded);
}

#[tokio::test]
async fn combined_with_the_applications() {
    let database = empty_database();
    let source = || CombinedMigrations::new().add(MIGRATIONS).add(CUSTOMERS).add(ORDERS);
    run_pending_migrations(&mut connect(&database), source()).unwrap();
    assert!(migration_status(&mut connect(&database), source()).unwrap().is_up_to_date());
    assert_that_it_is_a_queue(&database).await;
}

#[tokio::test]
async fn written_into_the_applications_directory() {
    let database = empty_database();
    let directory = Directory::new("origins-written");
    write_migrations(directory.path()).unwrap();
    run_pending_migrations(&mut connect(&database), directory.source_in("")).unwrap();
    assert!(migration_status(&mut connect(&database), MIGRATIONS).unwrap().is_up_to_date());
    assert_that_it_is_a_queue(&database).await;
}

#[tokio::test]
async fn written_and_run_by_the_diesel_cli() {
    let Some(application) = Application::with_written_migrations("origins") else { return };
    application.diesel("migration run");
    assert_that_it_is_a_queue(&application.database).await;
}

#[tokio::test]
async fn from_the_sql_alone() {
    let database = empty_database();
    let mut connection = connect(&database);
    for migration in SQL_MIGRATIONS {
        connection.transaction(|connection| connection.batch_execute(migration.up)).unwrap();
    }
    assert_that_it_is_a_queue(&database).await;
}

#[tokio::test]
async fn adopted_from_python() {
    let Some(interpreter) = python() else { return };
    let database = empty_database();
    Python::new(interpreter, database.url()).procrastinate(&["schema", "--apply"]).await;
    check_contract(&mut connect(&database)).unwrap();
    run_pending_migrations(&mut connect(&database), MIGRATIONS).unwrap();
    assert_that_it_is_a_queue(&database).await;
}

/// A project with nothing but the queue in it. Where its database is, the environment says.
const SETTINGS: &str = r#"
import os
from urllib.parse import unquote, urlsplit

url = urlsplit(os.environ["PEER_DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path[1:]),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname,
        "PORT": url.port or 5432,
    }
}
INSTALLED_APPS = ["procrastinate.contrib.django"]
SECRET_KEY = "not a secret"
USE_TZ = True
"#;

/// Runs a command of Django's.
async fn manage(python: &Python, arguments: &[&str]) -> String {
    // The name is unique in this process.
    let directory = Directory::new(&format!("django-{}", arguments.join("-").replace([' ', '_'], "-")));
    fs::write(directory.path().join("project_settings.py"), SETTINGS).unwrap();
    python.run_module(directory.path(), &[&["django"], arguments, &["--settings=project_settings"]].concat()).await
}

#[tokio::test]
async fn adopted_from_django() {
    let Some(interpreter) = python() else { return };
    let database = empty_database();
    let version = rows(&mut connect(&database), "SELECT current_setting('server_version_num')").remove(0);
    if version.parse::<u32>().unwrap() < 140_000 {
        eprintln!("skipped: migrations::origins::adopted_from_django: Django takes PostgreSQL 14 or later");
        return;
    }
    let python = Python::new(interpreter, database.url());
    manage(&python, &["migrate"]).await;
    let mut connection = connect(&database);
    check_contract(&mut connection).unwrap();
    let before = catalog(&mut connection);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    assert_that_it_is_a_queue(&database).await;
    // Django has nothing to do afterwards, and finds what it left.
    let plan = manage(&python, &["migrate", "--plan"]).await;
    assert!(plan.contains("No planned migration operations"), "{plan}");
    assert_eq!(
        rows(&mut connection, "SELECT count(*) > 0 FROM django_migrations WHERE app = 'procrastinate'"),
        ["true"]
    );
    diesel_migrations::MigrationHarness::revert_all_migrations(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(catalog(&mut connection), before);
}
