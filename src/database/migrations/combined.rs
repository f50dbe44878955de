//! The migrations of several sources as one list.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use diesel::migration::{Migration, MigrationSource, Result};
use diesel::pg::Pg;

/// The migrations of several sources, such as the queue's and your own, as one source.
///
/// Pass it wherever Diesel takes migrations. It is one list, sorted by version. The queue's migrations come first, so
/// your tables can refer to jobs. Your own newest migration is reverted first. With only one of the sources, Diesel's
/// `revert_all_migrations` fails at the first version that the source does not have.
///
/// A migration with the same version and name in two sources is in the list once, from the source that was added first.
/// So you can [write the queue's migrations](crate::migrations::write_migrations) to your own directory without a
/// change here.
///
/// # Errors
///
/// `migrations` returns the error of a source that cannot be read. It also returns an error, with both names, if two
/// sources have different migrations of one version, because Diesel would run only one of them.
///
/// # Example
///
/// ```no_run
/// use diesel::{Connection, PgConnection};
/// use diesel_migrations::{FileBasedMigrations, MigrationHarness};
/// use procrastinate::migrations::{CombinedMigrations, MIGRATIONS};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // Or your own `embed_migrations!()`.
/// let own_migrations = FileBasedMigrations::find_migrations_directory()?;
/// let migrations = CombinedMigrations::new().add(MIGRATIONS).add(own_migrations);
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
    /// Creates an empty list.
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
    #[allow(clippy::should_implement_trait, reason = "it adds to a list, and `a + b` has another meaning")]
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
                                "could not combine the migrations: {first} and {second} have the same version, so only \
                                 one would run; rename the directory of one",
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
