//! Upgrades while the old version of the program is running: pre and post migrations.

use diesel::connection::LoadConnection;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::name::is_post;
use super::{run, status};
use crate::error::Error;

/// Runs the migrations that must run before an upgrade of the program, and returns their versions.
///
/// These are the pending migrations up to the first post migration. A post migration removes what the old version of
/// the program needs, so it must wait until that version is gone. All other migrations only add objects. In a rolling
/// deployment:
///
/// 1. Run the pre migrations while the old version is running.
/// 2. Start the new version and stop the old one.
/// 3. Run the rest with [`run_pending_migrations`](crate::migrations::run_pending_migrations()).
///
/// The name of a post migration has `post_` after the version: `00000000032050_procrastinate_post_…` for the queue's,
/// and `2026-01-01-000000_post_…` for your own. Migrations after a post migration have to wait too, because they may
/// depend on it. [`MigrationStatus::is_ready_for_upgrade`](crate::migrations::MigrationStatus::is_ready_for_upgrade)
/// returns whether the new version can be started. If none of the migrations was ever applied, there is no old version,
/// and all of them run.
///
/// Only one process at a time runs migrations.
///
/// # Errors
///
/// As [`run_pending_migrations`](crate::migrations::run_pending_migrations()).
///
/// # Example
///
/// The migration step of a deployment. Call it once with `pre` and once with `post`:
///
/// ```no_run
/// use procrastinate::migrations::{MIGRATIONS, migration_status, run_pending_migrations, run_pre_migrations};
///
/// # fn example(connection: &mut diesel::PgConnection, phase: &str) -> Result<(), Box<dyn std::error::Error>> {
/// if phase == "pre" {
///     run_pre_migrations(connection, MIGRATIONS)?;
///     let status = migration_status(connection, MIGRATIONS)?;
///     if !status.is_ready_for_upgrade() {
///         return Err(format!("deploy a version in between first, or stop the old one:\n{status}").into());
///     }
/// } else {
///     run_pending_migrations(connection, MIGRATIONS)?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn run_pre_migrations<C, S>(connection: &mut C, source: S) -> Result<Vec<String>, Error>
where
    C: MigrationHarness<Pg> + LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    let migrations = source.migrations().map_err(|source| Error::Migration { source })?;
    let is_new = status::status_of(connection, &migrations)?.applied.is_empty();
    run(connection, source, if is_new { |_| false } else { is_post })
}
