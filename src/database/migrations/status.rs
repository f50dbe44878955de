//! Which migrations were applied, and which were not, without a change to the database.

use std::collections::BTreeSet;
use std::fmt;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::name::is_post;
use crate::error::Error;

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// What is on record of a source's migrations. Its `Display` is a line for each, as the Diesel CLI lists them.
///
/// # Example
///
/// See [`migration_status`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The names of those that were applied, by version.
    pub applied: Vec<String>,
    /// The names of those that were not, by version.
    pub pending: Vec<String>,
    /// The versions on record that the source does not have: those of other sources, and those of a newer version of the
    /// program, before which an older one should not go on.
    pub unknown: Vec<String>,
}

impl MigrationStatus {
    /// Whether nothing is pending.
    ///
    /// # Example
    ///
    /// See [`migration_status`].
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the program whose migrations these are can be started, as far as they go: what is pending, if anything, are
    /// only such migrations as have to wait until an older version of it is gone. See
    /// [`run_pre_migrations`](crate::migrations::run_pre_migrations()).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(connection: &mut diesel::PgConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// let status = procrastinate::migrations::migration_status(connection, procrastinate::migrations::MIGRATIONS)?;
    /// assert!(status.is_ready_for_upgrade(), "run the migrations first:\n{status}");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_ready_for_upgrade(&self) -> bool {
        self.pending.iter().all(|name| is_post(name))
    }
}

#[cfg(feature = "testing")]
impl MigrationStatus {
    /// That all of the source's migrations were applied.
    pub(crate) fn of_applied<S: MigrationSource<Pg>>(source: &S) -> Result<Self, Error> {
        let migrations = source.migrations().map_err(|source| Error::Migration { source })?;
        let mut applied: Vec<String> = migrations.iter().map(|migration| migration.name().to_string()).collect();
        applied.sort();
        Ok(Self { applied, pending: Vec::new(), unknown: Vec::new() })
    }
}

impl fmt::Display for MigrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied = self.applied.iter().map(|name| format!("[X] {name}"));
        let pending = self.pending.iter().map(|name| {
            let when = if is_post(name) { " (when older versions are gone)" } else { "" };
            format!("[ ] {name}{when}")
        });
        let unknown = self.unknown.iter().map(|version| format!("[X] {version} (not in this source)"));
        let lines: Vec<_> = applied.chain(pending).chain(unknown).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Which migrations of the source the database has. Nothing is changed, so a role may ask that may only read.
///
/// It goes by what is on record: that somebody changed a table by hand afterwards is not noticed. This one is for
/// blocking connections; see
/// [`DieselConnector::migration_status`](crate::DieselConnector::migration_status).
///
/// # Errors
///
/// [`Error::Database`] when the record cannot be read, [`Error::Migration`] when the source cannot.
///
/// # Example
///
/// A program that does not migrate by itself, but will not start on a database that is behind:
///
/// ```no_run
/// use procrastinate::migrations::{MIGRATIONS, migration_status};
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), Box<dyn std::error::Error>> {
/// let status = migration_status(connection, MIGRATIONS)?;
/// if !status.is_up_to_date() {
///     return Err(format!("run the migrations first:\n{status}").into());
/// }
/// # Ok(())
/// # }
/// ```
pub fn migration_status<C, S>(connection: &mut C, source: S) -> Result<MigrationStatus, Error>
where
    C: LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    let migrations = source.migrations().map_err(|source| Error::Migration { source })?;
    status_of(connection, &migrations)
}

pub(super) fn status_of<C>(connection: &mut C, migrations: &[Box<dyn Migration<Pg>>]) -> Result<MigrationStatus, Error>
where
    C: LoadConnection<Backend = Pg>,
{
    let versions = recorded_versions(connection)
        .map_err(|source| Error::database("read which migrations were applied", source))?;
    let mut own: Vec<_> =
        migrations.iter().map(|migration| (migration.name().version().to_string(), migration.name())).collect();
    own.sort_by(|(first, _), (second, _)| first.cmp(second));
    let names = |is_applied: bool| {
        let wanted = own.iter().filter(|(version, _)| versions.contains(version) == is_applied);
        wanted.map(|(_, name)| name.to_string()).collect()
    };
    let unknown = versions.iter().filter(|version| own.iter().all(|(known, _)| known != *version)).cloned().collect();
    Ok(MigrationStatus { applied: names(true), pending: names(false), unknown })
}

/// The versions on record; none where nothing was ever migrated. Diesel would create its table if there were none. It does
/// so in the first schema of `search_path`, so a table in a later one is not the one that it would go by.
fn recorded_versions<C: LoadConnection<Backend = Pg>>(connection: &mut C) -> QueryResult<BTreeSet<String>> {
    let is_there = diesel::dsl::sql::<Bool>(
        "to_regclass(quote_ident(current_schema()) || '.__diesel_schema_migrations') IS NOT NULL",
    );
    if !RunQueryDsl::get_result::<bool>(diesel::select(is_there), connection)? {
        return Ok(BTreeSet::new());
    }
    let versions = __diesel_schema_migrations::table.select(__diesel_schema_migrations::version);
    let versions: Vec<String> = RunQueryDsl::load(versions, connection)?;
    Ok(versions.into_iter().collect())
}
