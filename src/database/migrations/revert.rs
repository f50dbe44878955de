//! Reverting migrations.

use diesel::connection::LoadConnection;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::lock::while_tables_are_in_use;
use super::status::status_of;
use crate::error::Error;

/// Reverts at most `most` applied migrations of the source, the last one first, and returns their names.
///
/// Migrations of other sources stay applied, wherever they are in between.
pub(crate) fn revert_migrations<C, S>(connection: &mut C, source: S, most: usize) -> Result<Vec<String>, Error>
where
    C: MigrationHarness<Pg> + LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    let migrations = source.migrations().map_err(|source| Error::Migration { source })?;
    let applied = status_of(connection, &migrations)?.applied;
    let mut reverted = Vec::new();
    for name in applied.into_iter().rev().take(most) {
        let Some(migration) = migrations.iter().find(|migration| migration.name().to_string() == name) else {
            continue;
        };
        while_tables_are_in_use(|| connection.revert_migration(migration))?;
        tracing::info!(action = "migration_reverted", "reverted the migration {name}");
        reverted.push(name);
    }
    Ok(reverted)
}
