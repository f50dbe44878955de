//! The migrations as SQL, and written into a directory of the application's.

use std::fs;
use std::path::{Path, PathBuf};

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use procrastinate::Error;
use procrastinate::migrations::{
    CombinedMigrations, MIGRATIONS, SQL_MIGRATIONS, run_pending_migrations, write_migrations,
};

use super::application::versions_of_queue;
use super::catalog::{catalog, versions};
use crate::support::{connect, empty_database, sql};

/// A directory that goes when this does.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("procrastinate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn entries(&self) -> Vec<String> {
        let mut entries: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        entries.sort();
        entries
    }

    fn source(&self) -> FileBasedMigrations {
        self.source_in("")
    }

    /// The migrations in a folder of it.
    pub fn source_in(&self, folder: &str) -> FileBasedMigrations {
        FileBasedMigrations::from_path(self.0.join(folder)).unwrap()
    }

    /// A migration of the application, as the Diesel CLI would lay it out.
    pub fn add(&self, name: &str, up: &str, down: &str) {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("up.sql"), up).unwrap();
        fs::write(path.join("down.sql"), down).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names() -> Vec<&'static str> {
    SQL_MIGRATIONS.iter().map(|migration| migration.name).collect()
}

#[test]
fn the_list_of_sql_has_every_migration_that_is_embedded() {
    let embedded = MigrationSource::<Pg>::migrations(&MIGRATIONS).unwrap();
    let mut embedded: Vec<_> = embedded.iter().map(|migration| migration.name().to_string()).collect();
    embedded.sort();
    assert_eq!(names(), embedded);
}

#[test]
fn no_migration_has_settings_that_writing_it_would_lose() {
    for name in names() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(name);
        let mut files: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, ["down.sql", "up.sql"], "{name}");
    }
}

#[test]
fn sql_by_another_tool_makes_and_unmakes_what_the_runner_makes() {
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);
    for migration in SQL_MIGRATIONS {
        sql(&mut connection, &format!("BEGIN; {}; COMMIT", migration.up));
    }
    let by_sql = catalog(&mut connection);

    let other = empty_database();
    let mut other = connect(&other);
    run_pending_migrations(&mut other, MIGRATIONS).unwrap();
    sql(&mut other, "DROP TABLE __diesel_schema_migrations");
    assert_eq!(by_sql, catalog(&mut other));

    for migration in SQL_MIGRATIONS.iter().rev() {
        sql(&mut connection, &format!("BEGIN; {}; COMMIT", migration.down));
    }
    assert_eq!(catalog(&mut connection), before);
}

#[test]
fn embedded_and_written_migrations_are_the_same_to_the_runner() {
    let directory = Directory::new("versions");
    let written = write_migrations(&directory.0).unwrap();
    assert_eq!(written, names().iter().map(|name| directory.0.join(name)).collect::<Vec<_>>());

    let database = empty_database();
    let mut connection = connect(&database);
    run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
    assert!(!connection.has_pending_migration(directory.source()).unwrap());

    let other = empty_database();
    let mut other = connect(&other);
    assert_eq!(run_pending_migrations(&mut other, directory.source()).unwrap(), versions_of_queue());
    assert!(!other.has_pending_migration(MIGRATIONS).unwrap());
    assert_eq!(catalog(&mut connection), catalog(&mut other));
}

#[test]
fn with_the_applications_they_can_all_be_reverted_and_redone() {
    let directory = Directory::new("beside");
    directory.add(
        "2026-01-01-000000_orders",
        "CREATE TABLE orders (id bigserial PRIMARY KEY, job_id bigint REFERENCES procrastinate_jobs ON DELETE SET NULL)",
        "DROP TABLE orders",
    );
    write_migrations(&directory.0).unwrap();
    let database = empty_database();
    let mut connection = connect(&database);
    let before = catalog(&mut connection);

    connection.run_pending_migrations(directory.source()).unwrap();
    assert_eq!(connection.revert_last_migration(directory.source()).unwrap().to_string(), "20260101000000");
    connection.run_pending_migrations(directory.source()).unwrap();
    connection.revert_all_migrations(directory.source()).unwrap();
    assert_eq!(catalog(&mut connection), before);

    // Embedded as well, it is each migration once.
    let migrations = CombinedMigrations::new().add(MIGRATIONS).add(directory.source());
    connection.run_pending_migrations(migrations).unwrap();
    assert_eq!(versions(&mut connection), [versions_of_queue(), vec!["20260101000000".into()]].concat());
}

#[test]
fn a_second_time_only_what_is_missing_is_written() {
    let directory = Directory::new("again");
    write_migrations(&directory.0).unwrap();
    assert!(write_migrations(&directory.0).unwrap().is_empty());
    let last = directory.0.join(names().last().unwrap());
    fs::remove_dir_all(&last).unwrap();
    // A checkout on Windows ends lines in another way.
    let first = directory.0.join(names()[0]).join("up.sql");
    let crlf = fs::read_to_string(&first).unwrap().replace('\n', "\r\n");
    fs::write(&first, &crlf).unwrap();

    assert_eq!(write_migrations(&directory.0).unwrap(), [last]);
    assert_eq!(fs::read_to_string(&first).unwrap(), crlf);
    assert_eq!(directory.entries(), names());
}

#[test]
fn an_edited_migration_is_named_and_nothing_is_written() {
    let directory = Directory::new("edited");
    directory.add(names()[1], "SELECT 1", "SELECT 1");
    let error = write_migrations(&directory.0).unwrap_err();
    let up = directory.0.join(names()[1]).join("up.sql");
    assert!(matches!(&error, Error::WriteMigrations { path, .. } if *path == up), "{error:?}");
    assert!(error.to_string().contains(&up.display().to_string()) && error.to_string().contains("differs"), "{error}");
    assert_eq!(directory.entries(), [names()[1]]);
}

#[test]
fn a_missing_directory_is_named() {
    let directory = Directory::new("absent");
    let absent = directory.0.join("migrations");
    let error = write_migrations(&absent).unwrap_err();
    assert!(error.to_string().contains(&absent.display().to_string()), "{error}");
    assert!(!absent.exists());
}
