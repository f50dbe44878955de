//! The Diesel CLI itself, on an application's directory: the program that `DIESEL_CLI` names. The check installs it.

use std::fs;
use std::process::Command;

use diesel::{Connection, PgConnection};
use procrastinate::migrations::{CombinedMigrations, MIGRATIONS, run_pending_migrations, write_migrations};
use throwaway_postgres::Database;

use super::application::versions_of_queue;
use super::catalog::versions;
use super::written::Directory;
use crate::support::{connect, empty_database, rows};

/// As the documentation tells applications to write it.
const CONFIGURATION: &str = r#"
[print_schema]
file = "src/schema.rs"
filter = { except_tables = ["^procrastinate_"] }
"#;

/// An application with a table that refers to a job, and a database.
pub struct Application {
    cli: String,
    directory: Directory,
    pub database: Database,
    /// As whom the CLI runs.
    url: String,
}

impl Application {
    /// Nothing, and a word about it, where there is no CLI to test with.
    fn new(name: &str) -> Option<Self> {
        let Ok(cli) = std::env::var("DIESEL_CLI") else {
            eprintln!("skipped: DIESEL_CLI does not name the program of the Diesel CLI");
            return None;
        };
        let directory = Directory::new(&format!("cli-{name}"));
        for folder in ["migrations", "src"] {
            fs::create_dir(directory.path().join(folder)).unwrap();
        }
        fs::write(directory.path().join("diesel.toml"), CONFIGURATION).unwrap();
        directory.add(
            "migrations/2025-09-01-000000_customers",
            "CREATE TABLE customers (id bigserial PRIMARY KEY, name text NOT NULL)",
            "DROP TABLE customers",
        );
        directory.add(
            "migrations/2026-01-01-000000_orders",
            "CREATE TABLE orders (
                 id bigserial PRIMARY KEY,
                 job_id bigint REFERENCES procrastinate_jobs ON DELETE SET NULL)",
            "DROP TABLE orders",
        );
        let database = empty_database();
        Some(Self { cli, directory, url: database.url().to_owned(), database })
    }

    /// The application's migrations are in its directory, and so are the queue's.
    pub fn with_written_migrations(name: &str) -> Option<Self> {
        let application = Self::new(name)?;
        write_migrations(application.directory.path().join("migrations")).unwrap();
        Some(application)
    }

    /// What the CLI prints; a test fails where the CLI does.
    pub fn diesel(&self, arguments: &str) -> String {
        let output = Command::new(&self.cli)
            .args(arguments.split(' '))
            .current_dir(self.directory.path())
            .env("DATABASE_URL", &self.url)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "diesel {arguments}: {}\n{out}\n{err}", output.status);
        out + &err
    }

    fn versions(&self) -> Vec<String> {
        versions(&mut PgConnection::establish(&self.url).unwrap())
    }

    fn assert_tables_are_there(&self) {
        let tables = "SELECT to_regclass('orders'), to_regclass('procrastinate_jobs')";
        assert_eq!(rows(&mut PgConnection::establish(&self.url).unwrap(), tables), ["orders | procrastinate_jobs"]);
    }
}

fn with_the_applications(mut versions: Vec<String>) -> Vec<String> {
    versions.extend(["20250901000000".to_owned(), "20260101000000".to_owned()]);
    versions
}

#[test]
fn written_migrations_are_run_listed_redone_reverted_and_reset_by_it() {
    let Some(mut application) = Application::with_written_migrations("written") else { return };
    application.diesel("migration run");
    assert_eq!(application.versions(), with_the_applications(versions_of_queue()));
    let list = application.diesel("migration list");
    assert_eq!(list.matches("[X]").count(), versions_of_queue().len() + 2, "{list}");

    application.diesel("migration redo");
    application.diesel("migration redo -n 3");
    application.diesel("migration redo --all");
    application.assert_tables_are_there();
    application.diesel("migration revert");
    assert_eq!(application.versions().last().unwrap(), "20250901000000");
    // Dropping and creating a database needs more rights than owning one.
    application.url = application.database.superuser_url().to_owned();
    application.diesel("database reset");
    application.assert_tables_are_there();
    application.diesel("migration revert --all");
    assert_eq!(application.versions(), [""; 0]);
}

#[test]
fn it_finds_nothing_pending_after_the_embedded_migrations_have_run() {
    let Some(application) = Application::with_written_migrations("embedded") else { return };
    run_pending_migrations(&mut connect(&application.database), MIGRATIONS).unwrap();
    application.diesel("migration run");
    assert_eq!(application.versions(), with_the_applications(versions_of_queue()));
    assert_eq!(application.diesel("migration pending").trim(), "false");
}

#[test]
fn with_embedded_migrations_it_runs_only_the_applications_own() {
    let Some(application) = Application::new("own") else { return };
    let of_the_application = application.directory.source_in("migrations");
    let everything = CombinedMigrations::new().add(of_the_application).add(MIGRATIONS);
    run_pending_migrations(&mut connect(&application.database), everything).unwrap();

    assert_eq!(application.diesel("migration pending").trim(), "false");
    application.diesel("migration redo");
    application.diesel("migration redo -n 2");
    application.diesel("migration revert");
    assert_eq!(application.versions().last().unwrap(), "20250901000000");
    application.diesel("migration run");
    assert_eq!(application.versions(), with_the_applications(versions_of_queue()));
}

#[test]
fn it_prints_a_schema_without_the_queue_and_plans_no_change_of_it() {
    let Some(application) = Application::with_written_migrations("schema") else { return };
    application.diesel("migration run");
    let schema = fs::read_to_string(application.directory.path().join("src/schema.rs")).unwrap();
    assert!(schema.contains("orders (id)") && schema.contains("customers (id)"), "{schema}");
    assert!(!schema.contains("procrastinate"), "{schema}");

    // The schema is as the database, so there is nothing to change; least of all, tables to drop.
    application.diesel("migration generate --diff-schema=src/schema.rs nothing");
    let migrations = application.directory.path().join("migrations");
    let generated = fs::read_dir(migrations)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().ends_with("_nothing"))
        .unwrap();
    for file in ["up.sql", "down.sql"] {
        let sql = fs::read_to_string(generated.join(file)).unwrap();
        assert!(!sql.contains("procrastinate"), "{file}: {sql}");
    }
}
