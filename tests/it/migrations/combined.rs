//! The migrations of several sources as one list.

use diesel::migration::{Migration, MigrationSource, Result};
use diesel::pg::Pg;
use procrastinate::migrations::{CombinedMigrations, MIGRATIONS, run_pending_migrations};

use super::application::{CUSTOMERS, ORDERS, versions_of_queue};
use super::catalog::{catalog, versions};
use crate::support::{connect, connector, empty_database};

fn listed(migrations: &CombinedMigrations) -> Vec<String> {
    migrations.migrations().unwrap().iter().map(|migration| migration.name().version().to_string()).collect()
}

#[test]
fn the_order_in_which_sources_are_added_changes_nothing() {
    let expected = [versions_of_queue(), vec![CUSTOMERS.version.into(), ORDERS.version.into()]].concat();
    assert_eq!(listed(&CombinedMigrations::new().add(ORDERS).add(MIGRATIONS).add(CUSTOMERS)), expected);
    assert_eq!(listed(&CombinedMigrations::new().add(MIGRATIONS).add(CUSTOMERS).add(ORDERS)), expected);
    assert_eq!(listed(&CombinedMigrations::new()), [""; 0]);
}

#[test]
fn a_combined_source_can_be_part_of_another() {
    let of_a_part = CombinedMigrations::new().add(ORDERS).add(MIGRATIONS);
    let migrations = CombinedMigrations::new().add(of_a_part).add(CUSTOMERS).add(MIGRATIONS);
    assert_eq!(
        listed(&migrations),
        [versions_of_queue(), vec![CUSTOMERS.version.into(), ORDERS.version.into()]].concat()
    );
}

#[test]
fn two_migrations_of_one_version_are_an_error_that_names_both() {
    let migrations = CombinedMigrations::new().add(MIGRATIONS).add(Impostor);
    let error = migrations.migrations().err().unwrap().to_string();
    assert!(error.contains("00000000031000_procrastinate_contract_check and 00000000031000_shop"), "{error}");

    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    let error = run_pending_migrations(&mut connection, migrations).unwrap_err();
    assert!(error.to_string().contains("00000000031000_shop"), "{error}");
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn a_source_that_cannot_be_read_is_an_error() {
    let migrations = CombinedMigrations::new().add(MIGRATIONS).add(Unreadable);
    assert_eq!(migrations.migrations().err().unwrap().to_string(), "the disk is on fire");
}

#[tokio::test]
async fn async_programs_run_it_on_a_runtime_of_one_thread() {
    let database = empty_database();
    let migrations = CombinedMigrations::new().add(CUSTOMERS).add(ORDERS).add(MIGRATIONS);
    let applied = connector(&database).await.run_pending_migrations(migrations).await.unwrap();
    assert_eq!(applied, [versions_of_queue(), vec![CUSTOMERS.version.into(), ORDERS.version.into()]].concat());
    assert_eq!(versions(&mut connect(&database)), applied);
}

/// A migration of the application under a version of the queue's.
struct Impostor;

impl MigrationSource<Pg> for Impostor {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(vec![Box::new(ORDERS.under("00000000031000", "00000000031000_shop"))])
    }
}

struct Unreadable;

impl MigrationSource<Pg> for Unreadable {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Err("the disk is on fire".into())
    }
}
