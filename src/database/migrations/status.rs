//! The status of migrations, without a change to the database.

use std::collections::BTreeSet;
use std::fmt;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::name::{is_of_queue, is_post};
use crate::error::Error;

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// The status of a source's migrations. `Display` writes a line for each, like the Diesel CLI, and one line for all
/// migrations of other sources.
///
/// # Example
///
/// See [`migration_status`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The names of the applied migrations, sorted by version.
    pub applied: Vec<String>,
    /// The names of the pending migrations, sorted by version.
    pub pending: Vec<String>,
    /// The recorded versions that the source does not have. They belong to other sources, or to a newer version of the
    /// program. An older version should not run then.
    pub unknown: Vec<String>,
}

impl MigrationStatus {
    /// Returns whether no migration is pending.
    ///
    /// # Example
    ///
    /// See [`migration_status`].
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns whether the new version of the program can be started.
    ///
    /// That is so if only post migrations are pending, which wait until an older version is gone. See
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
    /// The status with all migrations of the source applied.
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
            let when = if is_post(name) { " (after older versions are gone)" } else { "" };
            format!("[ ] {name}{when}")
        });
        let (newer, others): (Vec<_>, Vec<_>) = self.unknown.iter().partition(|version| is_of_queue(version));
        let newer = newer.into_iter().map(|version| format!("[X] {version} (not in this source)"));
        let others = match others.as_slice() {
            [] => None,
            [version] => Some(format!("[X] {version} (of another source)")),
            [first, .., last] => Some(format!("[X] {first} to {last} ({} of other sources)", others.len())),
        };
        let lines: Vec<_> = applied.chain(pending).chain(newer).chain(others).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Returns which migrations of the source are applied and which are pending.
///
/// It only reads, so a role without other rights can call it. It reads the record of migrations, and does not notice
/// manual changes to the tables. Use it with a blocking connection. For an async application, see
/// [`DieselConnector::migration_status`](crate::DieselConnector::migration_status).
///
/// # Errors
///
/// [`Error::Database`] if the record cannot be read. [`Error::Migration`] if the source cannot be read.
///
/// # Example
///
/// A program that does not migrate, and does not start on an outdated database:
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
    let versions =
        recorded_versions(connection).map_err(|source| Error::database("read which migrations are applied", source))?;
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

/// Reads the recorded versions, or none if there is no record yet.
///
/// Diesel creates its table in the first schema of `search_path` if it is missing there. So a table in a later schema
/// does not count.
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
