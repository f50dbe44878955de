//! The migrations together with an application's own.

use std::fmt;

use diesel::connection::BoxableConnection;
use diesel::migration::{Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;
use procrastinate::Error;
use procrastinate::migrations::{CombinedMigrations, MIGRATIONS, run_pending_migrations};

use super::catalog::{catalog, versions};
use crate::support::{connect, empty_database, rows, sql};

/// A migration of the application, with a version as the Diesel CLI makes them.
#[derive(Clone, Copy)]
pub struct Step {
    pub version: &'static str,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

pub const CUSTOMERS: Step = Step {
    version: "20250901000000",
    name: "20250901000000",
    up: "CREATE TABLE customers (id bigserial PRIMARY KEY)",
    down: "DROP TABLE customers",
};

pub const ORDERS: Step = Step {
    version: "20260101000000",
    name: "20260101000000",
    up: "CREATE TABLE orders (id bigserial PRIMARY KEY, job_id bigint REFERENCES procrastinate_jobs)",
    down: "DROP TABLE orders",
};

pub const BROKEN: Step =
    Step { version: "20260201000000", name: "20260201000000", up: "CREATE TABLE broken (id nonsense)", down: "" };

impl Step {
    /// One that creates a table of its own.
    pub const fn new(version: &'static str, name: &'static str, up: &'static str) -> Self {
        Self { version, name, up, down: "" }
    }

    /// The same under another version and name.
    pub fn under(self, version: &'static str, name: &'static str) -> Self {
        Self { version, name, ..self }
    }
}

impl MigrationSource<Pg> for Step {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(vec![Box::new(*self)])
    }
}

impl Migration<Pg> for Step {
    fn run(&self, connection: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(connection.batch_execute(self.up)?)
    }

    fn revert(&self, connection: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(connection.batch_execute(self.down)?)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationMetadata for Step {}

impl MigrationName for Step {
    fn version(&self) -> MigrationVersion<'_> {
        MigrationVersion::from(self.version)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn application() -> CombinedMigrations {
    CombinedMigrations::new().add(CUSTOMERS).add(ORDERS)
}

fn everything() -> CombinedMigrations {
    application().add(MIGRATIONS)
}

pub fn versions_of_queue() -> Vec<String> {
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS).unwrap();
    migrations.iter().map(|migration| migration.name().version().to_string()).collect()
}

#[test]
fn first_the_queues_and_then_the_applications() {
    let database = empty_database();
    let mut connection = connect(&database);
    connection.run_pending_migrations(MIGRATIONS).unwrap();
    connection.run_pending_migrations(application()).unwrap();
    assert!(!connection.has_pending_migration(everything()).unwrap());
    // The application's table refers to the queue's.
    sql(&mut connection, "SELECT procrastinate_defer_periodic_job_v2('a', NULL, NULL, 'a', 0, '', 60, '{}')");
    sql(&mut connection, "INSERT INTO orders (job_id) VALUES (1)");
}

#[test]
fn the_runner_takes_the_applications_too() {
    let database = empty_database();
    let mut connection = connect(&database);
    assert_eq!(run_pending_migrations(&mut connection, MIGRATIONS).unwrap(), versions_of_queue());
    let versions = run_pending_migrations(&mut connection, application()).unwrap();
    assert_eq!(versions, [CUSTOMERS.version, ORDERS.version]);
    assert_eq!(run_pending_migrations(&mut connection, everything()).unwrap(), [""; 0]);
}

#[test]
fn in_one_list_the_queues_come_first_and_the_applications_newest_is_reverted_first() {
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);

    connection.run_pending_migrations(everything()).unwrap();

    assert_eq!(
        versions(&mut connection),
        [versions_of_queue(), vec![CUSTOMERS.version.into(), ORDERS.version.into()]].concat()
    );
    for expected in [ORDERS.version, CUSTOMERS.version] {
        assert_eq!(connection.revert_last_migration(everything()).unwrap().to_string(), expected);
    }
    connection.run_pending_migrations(everything()).unwrap();
    connection.revert_all_migrations(everything()).unwrap();
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn the_application_can_revert_its_newest_without_knowing_of_the_queues() {
    let database = empty_database();
    let mut connection = connect(&database);
    connection.run_pending_migrations(everything()).unwrap();
    assert_eq!(connection.revert_last_migration(application()).unwrap().to_string(), ORDERS.version);
    assert_eq!(connection.run_pending_migrations(application()).unwrap().len(), 1);
}

#[test]
fn an_application_that_comes_first_fails_where_it_needs_the_queue_and_succeeds_later() {
    let database = empty_database();
    let mut connection = connect(&database);
    let error = run_pending_migrations(&mut connection, application()).unwrap_err();
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    assert!(error.to_string().contains("procrastinate_jobs"), "{error}");
    assert_eq!(versions(&mut connection), [CUSTOMERS.version]);

    // Older versions that come later are pending all the same.
    assert_eq!(run_pending_migrations(&mut connection, MIGRATIONS).unwrap(), versions_of_queue());
    assert_eq!(run_pending_migrations(&mut connection, application()).unwrap(), [ORDERS.version]);
}

#[test]
fn a_migration_that_fails_leaves_nothing_and_those_before_it_stay() {
    let database = empty_database();
    let mut connection = connect(&database);
    let error =
        run_pending_migrations(&mut connection, CombinedMigrations::new().add(MIGRATIONS).add(CUSTOMERS).add(BROKEN))
            .unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert_eq!(versions(&mut connection), [versions_of_queue(), vec![CUSTOMERS.version.into()]].concat());
    assert_eq!(rows(&mut connection, "SELECT to_regclass('broken')"), ["NULL"]);
}
