//! Upgrades in two steps: what goes before, and what waits until the old version of the program is gone.

use procrastinate::migrations::{
    CombinedMigrations, MIGRATIONS, migration_status, run_pending_migrations, run_pre_migrations,
};

use super::application::{CUSTOMERS, Step, versions_of_queue};
use super::catalog::versions;
use crate::support::{connect, connector, database, empty_database, rows};

/// Migrations of a later version of the queue, and of one after that.
const ADD: Step = Step::new("00000000099001", "00000000099001_procrastinate_pre_add", "CREATE TABLE added ()");
const TAKE_AWAY: Step = Step::new("00000000099050", "00000000099050_procrastinate_post_drop", "DROP TABLE added");
const LATER: Step = Step::new("00000000099101", "00000000099101_procrastinate_later", "CREATE TABLE later ()");

/// The application's own.
const OWN_POST: Step = Step::new("20260301000000", "2026-03-01-000000_post_customers", "DROP TABLE customers");

fn upgraded() -> CombinedMigrations {
    CombinedMigrations::new().add(MIGRATIONS).add(TAKE_AWAY).add(ADD)
}

#[test]
fn migrations_up_to_the_first_post_migration_run_before_an_upgrade_and_the_rest_after_it() {
    let database = database();
    let mut connection = connect(&database);
    assert!(!migration_status(&mut connection, upgraded()).unwrap().is_ready_for_upgrade());

    assert_eq!(run_pre_migrations(&mut connection, upgraded()).unwrap(), [ADD.version]);

    let status = migration_status(&mut connection, upgraded()).unwrap();
    assert!(status.is_ready_for_upgrade() && !status.is_up_to_date());
    assert_eq!(status.pending, ["00000000099050_procrastinate_post_drop"]);
    assert!(status.to_string().ends_with("[ ] 00000000099050_procrastinate_post_drop (after older versions are gone)"));
    assert_eq!(rows(&mut connection, "SELECT to_regclass('added')"), ["added"]);
    // A second call has nothing to do, and needs no right to write.
    assert_eq!(run_pre_migrations(&mut connection, upgraded()).unwrap(), [""; 0]);

    assert_eq!(run_pending_migrations(&mut connection, upgraded()).unwrap(), [TAKE_AWAY.version]);
    assert_eq!(rows(&mut connection, "SELECT to_regclass('added')"), ["NULL"]);
    assert!(migration_status(&mut connection, upgraded()).unwrap().is_ready_for_upgrade());
}

#[test]
fn migrations_after_a_post_migration_wait_too_and_the_upgrade_is_not_ready() {
    let database = database();
    let mut connection = connect(&database);
    let source = || upgraded().add(LATER);
    assert_eq!(run_pre_migrations(&mut connection, source()).unwrap(), [ADD.version]);
    assert!(!migration_status(&mut connection, source()).unwrap().is_ready_for_upgrade());
    assert_eq!(run_pending_migrations(&mut connection, source()).unwrap(), [TAKE_AWAY.version, LATER.version]);
}

#[test]
fn without_applied_migrations_there_is_no_old_version_to_wait_for() {
    let database = empty_database();
    let mut connection = connect(&database);
    run_pre_migrations(&mut connection, upgraded()).unwrap();
    let expected = [versions_of_queue(), vec![ADD.version.to_owned(), TAKE_AWAY.version.to_owned()]].concat();
    assert_eq!(versions(&mut connection), expected);
}

#[tokio::test]
async fn post_migrations_of_the_application_wait_too() {
    let database = database();
    let source = || CombinedMigrations::new().add(MIGRATIONS).add(CUSTOMERS).add(OWN_POST);
    let connector = connector(&database).await;
    assert_eq!(connector.run_pre_migrations(source()).await.unwrap(), [CUSTOMERS.version]);
    assert!(connector.migration_status(source()).await.unwrap().is_ready_for_upgrade());
    assert_eq!(connector.run_pending_migrations(source()).await.unwrap(), [OWN_POST.version]);
}
