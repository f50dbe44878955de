//! The migrations as texts: for the Diesel CLI, and for teams that migrate with something else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A migration of the queue as SQL, for tools that know nothing of [`MIGRATIONS`](crate::migrations::MIGRATIONS).
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
    /// The name of its directory. Up to the first `_` it is the version, by which Diesel knows what was applied.
    pub name: &'static str,
    /// What applies it. Some of it is several statements: run all of it in one transaction.
    pub up: &'static str,
    /// What reverts it.
    pub down: &'static str,
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

/// The migrations of the queue as SQL, in the order in which they are applied: the same as
/// [`MIGRATIONS`](crate::migrations::MIGRATIONS).
///
/// For teams whose migrations are run by another tool than Diesel's. That tool has to remember what was applied; to
/// change over to Diesel's later, enter the versions into its table `__diesel_schema_migrations`.
///
/// # Example
///
/// One file for each, as many tools want them:
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
    "00000000031006_procrastinate_fetch",
    "00000000031007_procrastinate_finish",
    "00000000031008_procrastinate_finish_and_fetch",
    "00000000031009_procrastinate_heartbeat",
    "00000000031010_procrastinate_rescue",
    "00000000031011_procrastinate_job_manager",
    "00000000031012_procrastinate_delete_old_jobs",
    "00000000031013_procrastinate_periodic",
];

/// Writes the queue's migrations into a directory of migrations, where the Diesel CLI finds them beside the
/// application's own. Answers with the directories that it made, one for each migration that was not there.
///
/// They are the same migrations under the same versions: where [`MIGRATIONS`](crate::migrations::MIGRATIONS) were run before, none
/// of them is pending, and the other way round. Call it again after an upgrade of this crate. A migration that is there
/// already stays as it is. Each appears as a whole or not at all, so a program that is ended half-way can be called
/// again.
///
/// # Errors
///
/// [`Error::WriteMigrations`], with the path: the directory is not there, it cannot be written to, or a file that is
/// there says something else than this version of the crate. In the last case nothing is written at all. A migration is
/// never changed once it was released, so such a file was edited: take it away, and call this again.
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

/// A file of a migration that is there has to say what it is to say; a checkout may have changed the ends of its lines.
fn check_file(path: &Path, expected: &str) -> Result<(), Error> {
    let found = fs::read_to_string(path).map_err(|source| failed(path, source))?;
    if found.lines().eq(expected.lines()) {
        return Ok(());
    }
    let problem = "it is there already, and differs from what this version of procrastinate would write";
    Err(failed(path, io::Error::new(io::ErrorKind::AlreadyExists, problem)))
}

/// Under a name with a dot, which Diesel passes over, and then renamed: a migration is there as a whole or not at all.
fn write_migration(migration: &SqlMigration, directory: &Path, path: &Path) -> Result<(), Error> {
    let unfinished = directory.join(format!(".{}.{}", migration.name, std::process::id()));
    let write = || {
        fs::create_dir(&unfinished)?;
        fs::write(unfinished.join("up.sql"), migration.up)?;
        fs::write(unfinished.join("down.sql"), migration.down)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| {
        // What cannot be taken away is in nobody's way.
        let _ = fs::remove_dir_all(&unfinished);
        failed(path, source)
    })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::WriteMigrations { path: path.to_owned(), source }
}
