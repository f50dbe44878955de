//! The runners that many processes may call at the same time.

use std::sync::{Arc, Barrier};
use std::thread;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use procrastinate::migrations::{MIGRATIONS, run_pending_migrations};
use procrastinate::{DieselConnector, Error};

use super::application::BROKEN;
use super::catalog::{catalog, versions};
use crate::support::{connect, connector, empty_database, rows};

fn all_versions() -> Vec<String> {
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS).unwrap();
    migrations.iter().map(|migration| migration.name().version().to_string()).collect()
}

/// What somebody who migrated alone has got.
fn catalog_of_another() -> Vec<String> {
    catalog(&mut connect(&crate::support::database()))
}

/// How many are held in this database.
fn advisory_locks(connection: &mut PgConnection) -> Vec<String> {
    rows(
        connection,
        "SELECT count(*)
         FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
         WHERE pg_locks.locktype = 'advisory' AND pg_database.datname = current_database()",
    )
}

/// Checks that the results of all concurrent runners contain each version once.
fn assert_each_once(answers: Vec<Result<Vec<String>, Error>>) {
    let mut applied: Vec<String> = answers.into_iter().flat_map(Result::unwrap).collect();
    applied.sort();
    assert_eq!(applied, all_versions());
}

#[test]
fn ten_concurrent_runners_apply_each_version_once_and_all_succeed() {
    let database = empty_database();
    let start = Barrier::new(10);
    let answers = thread::scope(|scope| {
        let run = || {
            let mut connection = connect(&database);
            start.wait();
            run_pending_migrations(&mut connection, MIGRATIONS)
        };
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_each_once(answers);
    let mut connection = connect(&database);
    assert_eq!(versions(&mut connection), all_versions());
    assert_eq!(catalog(&mut connection), catalog_of_another());
}

#[test]
fn after_a_failure_the_lock_is_released() {
    let database = empty_database();
    // It stays connected, and so would its lock.
    let mut connection = connect(&database);
    run_pending_migrations(&mut connection, BROKEN).unwrap_err();
    assert_eq!(advisory_locks(&mut connection), ["0"]);
    assert_eq!(run_pending_migrations(&mut connect(&database), MIGRATIONS).unwrap(), all_versions());
}

#[test]
fn after_a_success_the_lock_is_released() {
    let database = empty_database();
    let mut connection = connect(&database);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(advisory_locks(&mut connection), ["0"]);
}

async fn migrate_at_once_on_this_runtime() {
    let database = empty_database();
    let connector = connector(&database).await;
    let start = Arc::new(tokio::sync::Barrier::new(4));
    let migrate = |connector: DieselConnector, start: Arc<tokio::sync::Barrier>| async move {
        start.wait().await;
        connector.run_pending_migrations(MIGRATIONS).await
    };
    let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(migrate(connector.clone(), Arc::clone(&start)))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_each_once(answers);
    assert_eq!(catalog(&mut connect(&database)), catalog_of_another());
}

#[tokio::test(flavor = "current_thread")]
async fn the_async_runner_works_on_a_runtime_of_one_thread() {
    migrate_at_once_on_this_runtime().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_async_runner_works_on_a_runtime_of_many_threads() {
    migrate_at_once_on_this_runtime().await;
}

#[tokio::test]
async fn the_async_runner_reports_a_failure() {
    let database = empty_database();
    let connector = connector(&database).await;
    let error = connector.run_pending_migrations(BROKEN).await.unwrap_err();
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert_eq!(connector.run_pending_migrations(MIGRATIONS).await.unwrap(), all_versions());
}

#[tokio::test]
async fn a_blocking_and_an_async_runner_wait_for_each_other() {
    let database = empty_database();
    let connector = connector(&database).await;
    let url = database.url().to_owned();
    let blocking = tokio::task::spawn_blocking(move || {
        let mut connection = PgConnection::establish(&url).unwrap();
        run_pending_migrations(&mut connection, MIGRATIONS)
    });
    let answers = vec![connector.run_pending_migrations(MIGRATIONS).await, blocking.await.unwrap()];
    assert_each_once(answers);
}
