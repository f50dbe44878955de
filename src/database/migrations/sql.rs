//! The migrations as texts, for the Diesel CLI and for other tools.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A migration of the queue as SQL, for tools other than Diesel.
///
/// # Example
///
/// ```
/// for migration in procrastinate::migrations::SQL_MIGRATIONS {
///     assert!(migration.name.starts_with("0000"));
///     println!("{}: {} lines", migration.name, migration.up.lines().count());
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqlMigration {
    /// The name of its directory. The part before the first `_` is the version, by which Diesel identifies it.
    pub name: &'static str,
    /// The SQL that applies it. It can be several statements. Run all of them in one transaction.
    pub up: &'static str,
    /// The SQL that reverts it.
    pub down: &'static str,
}

impl SqlMigration {
    /// Returns the statements that build the indexes of this migration while the tables are in use. Run them one by one
    /// before the migration, outside of a transaction. The migration then finds the indexes and locks the table only
    /// briefly.
    ///
    /// Use it if Python's Procrastinate has created millions of jobs. If a statement fails, an invalid index remains,
    /// which the migration drops and builds again.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel::connection::SimpleConnection;
    /// use procrastinate::migrations::{MIGRATIONS, SQL_MIGRATIONS, run_pending_migrations};
    ///
    /// # fn example(connection: &mut diesel::PgConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// for statement in procrastinate::migrations::SQL_MIGRATIONS.iter().flat_map(|migration| migration.concurrent_indexes()) {
    ///     connection.batch_execute(&statement)?;
    /// }
    /// procrastinate::migrations::run_pending_migrations(connection, procrastinate::migrations::MIGRATIONS)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn concurrent_indexes(&self) -> Vec<String> {
        let statements = self.up.split("\nCREATE ").filter_map(|rest| rest.split_once(';'));
        let statements = statements.filter_map(|(statement, _)| statement.split_once("INDEX IF NOT EXISTS"));
        let statements = statements.filter(|(kind, _)| matches!(*kind, "" | "UNIQUE "));
        statements.map(|(kind, rest)| format!("CREATE {kind}INDEX CONCURRENTLY IF NOT EXISTS{rest}")).collect()
    }
}

macro_rules! sql_migrations {
    ($($name:literal),+ $(,)?) => {
        &[$(SqlMigration {
            name: $name,
            up: include_str!(concat!("../../../migrations/", $name, "/up.sql")),
            down: include_str!(concat!("../../../migrations/", $name, "/down.sql")),
        }),+]
    };
}

/// The migrations of the queue as SQL, in the order in which they are applied.
///
/// They are the same as [`MIGRATIONS`](crate::migrations::MIGRATIONS). Use them if another tool runs your migrations.
/// That tool must record which ones it has applied. To switch to Diesel later, insert the versions into Diesel's table
/// `__diesel_schema_migrations`.
///
/// # Example
///
/// One file for each migration, as many tools expect:
///
/// ```no_run
/// # fn example() -> std::io::Result<()> {
/// for migration in procrastinate::migrations::SQL_MIGRATIONS {
///     std::fs::write(format!("sql/{}.up.sql", migration.name), migration.up)?;
///     std::fs::write(format!("sql/{}.down.sql", migration.name), migration.down)?;
/// }
/// # Ok(())
/// # }
/// ```
pub const SQL_MIGRATIONS: &[SqlMigration] = sql_migrations![
    "00000000031000_procrastinate_contract_check",
    "00000000031001_procrastinate_contract",
    "00000000031002_procrastinate_indexes",
    "00000000031003_procrastinate_batched_events",
    "00000000031004_procrastinate_job_errors",
    "00000000031005_procrastinate_defer",
    "00000000031006_procrastinate_flow_control",
    "00000000031007_procrastinate_fetch",
    "00000000031008_procrastinate_finish",
    "00000000031009_procrastinate_finish_and_fetch",
    "00000000031010_procrastinate_heartbeat",
    "00000000031011_procrastinate_rescue",
    "00000000031012_procrastinate_job_manager",
    "00000000031013_procrastinate_delete_old_jobs",
    "00000000031014_procrastinate_periodic",
    "00000000031015_procrastinate_replace",
    "00000000031016_procrastinate_schedules",
    "00000000031017_procrastinate_job_options",
    "00000000031018_procrastinate_unique_keys",
    "00000000031019_procrastinate_ageing",
    "00000000031020_procrastinate_limits_per_key",
    "00000000031021_procrastinate_actions",
];

/// Writes the queue's migrations to a directory for the Diesel CLI, and returns the directories that it created.
///
/// They are the same migrations with the same versions as [`MIGRATIONS`](crate::migrations::MIGRATIONS). Applying one
/// form counts for the other. Call the function again after an upgrade of this crate. Migrations that exist are left as
/// they are. Each migration is written completely or not at all, so you can call the function again if it was
/// interrupted.
///
/// # Errors
///
/// [`Error::WriteMigrations`], with the path, for one of these reasons:
///
/// - the directory does not exist
/// - it cannot be written to
/// - a file exists, but differs from this version of the crate
///
/// In the last case, nothing is written. A released migration never changes, so the file was edited. Remove it, and
/// call the function again.
///
/// # Example
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("procrastinate-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// for migration in procrastinate::migrations::write_migrations(&directory)? {
///     println!("wrote {}", migration.display());
/// }
/// assert_eq!(procrastinate::migrations::write_migrations(&directory)?.len(), 0);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok(())
/// # }
/// ```
pub fn write_migrations(directory: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
    let directory = directory.as_ref();
    let mut missing = Vec::new();
    for migration in SQL_MIGRATIONS {
        let path = directory.join(migration.name);
        if path.exists() {
            check_file(&path.join("up.sql"), migration.up)?;
            check_file(&path.join("down.sql"), migration.down)?;
        } else {
            missing.push((migration, path));
        }
    }
    for (migration, path) in &missing {
        write_migration(migration, directory, path)?;
    }
    Ok(missing.into_iter().map(|(_, path)| path).collect())
}

/// Checks that an existing file has the expected text. Line endings may differ after a checkout.
fn check_file(path: &Path, expected: &str) -> Result<(), Error> {
    let found = fs::read_to_string(path).map_err(|source| failed(path, source))?;
    if found.lines().eq(expected.lines()) {
        return Ok(());
    }
    let problem = "the file exists but differs from this version of procrastinate; remove it and try again";
    Err(failed(path, io::Error::new(io::ErrorKind::AlreadyExists, problem)))
}

/// Writes the migration under a name with a dot, which Diesel ignores, and then renames it, so that it is complete.
fn write_migration(migration: &SqlMigration, directory: &Path, path: &Path) -> Result<(), Error> {
    let unfinished = directory.join(format!(".{}.{}", migration.name, std::process::id()));
    let write = || {
        fs::create_dir(&unfinished)?;
        fs::write(unfinished.join("up.sql"), migration.up)?;
        fs::write(unfinished.join("down.sql"), migration.down)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| {
        // A directory that cannot be removed does no harm.
        let _ = fs::remove_dir_all(&unfinished);
        failed(path, source)
    })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::WriteMigrations { path: path.to_owned(), source }
}
