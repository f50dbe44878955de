//! The migrations of several sources as one list.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use diesel::migration::{Migration, MigrationSource, Result};
use diesel::pg::Pg;

/// The migrations of several sources, the application's and the queue's, as one source.
///
/// Everything of Diesel's that takes migrations takes it, and sees one list, sorted by version: the queue's come first,
/// so an application's table may refer to a job, and its own newest migration is the one that is reverted first. A single
/// source cannot do that: Diesel's `revert_all_migrations` fails at the first version that the source does not have.
///
/// A migration that two sources have, under one version and one name, is in the list once, as the source that was added
/// first has it: so an application may [write the queue's migrations](crate::migrations::write_migrations) into its own directory
/// and need not change this.
///
/// # Errors
///
/// Asked for its migrations, it answers with the error of a source that cannot be read, and with an error that names
/// both where two sources have different migrations of one version: Diesel would run only one of them.
///
/// # Example
///
/// ```no_run
/// use diesel::{Connection, PgConnection};
/// use diesel_migrations::{FileBasedMigrations, MigrationHarness};
/// use procrastinate::migrations::{CombinedMigrations, MIGRATIONS};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // Or the application's `embed_migrations!()`.
/// let of_the_application = FileBasedMigrations::find_migrations_directory()?;
/// let migrations = CombinedMigrations::new().add(MIGRATIONS).add(of_the_application);
///
/// let mut connection = PgConnection::establish("postgres://localhost/shop")?;
/// connection.run_pending_migrations(migrations)?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct CombinedMigrations {
    sources: Vec<Box<dyn MigrationSource<Pg> + Send + Sync>>,
}

impl CombinedMigrations {
    /// No migrations yet.
    ///
    /// # Example
    ///
    /// See [`CombinedMigrations`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the migrations of a source.
    ///
    /// # Example
    ///
    /// See [`CombinedMigrations`].
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "it adds to a list, and nothing like `a + b` is meant")]
    pub fn add(mut self, source: impl MigrationSource<Pg> + Send + Sync + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }
}

impl MigrationSource<Pg> for CombinedMigrations {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        let mut by_version = BTreeMap::<String, Box<dyn Migration<Pg>>>::new();
        for source in &self.sources {
            for migration in source.migrations()? {
                match by_version.entry(migration.name().version().to_string()) {
                    Entry::Vacant(entry) => {
                        entry.insert(migration);
                    }
                    Entry::Occupied(entry) => {
                        let (first, second) = (entry.get().name().to_string(), migration.name().to_string());
                        if first != second {
                            return Err(format!(
                                "the migrations {first} and {second} have the same version, so only one of them would \
                                 be run: rename the directory of one",
                            )
                            .into());
                        }
                    }
                }
            }
        }
        Ok(by_version.into_values().collect())
    }
}

impl fmt::Debug for CombinedMigrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CombinedMigrations").field("sources", &self.sources.len()).finish()
    }
}
