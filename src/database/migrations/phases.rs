//! Upgrades while the old version of the program still runs: what goes before, and what has to wait.

use diesel::connection::LoadConnection;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::name::is_post;
use super::{run, status};
use crate::error::Error;

/// Runs those migrations of the source that go before an upgrade of the program, one process at a time, and returns their
/// versions: the pending ones up to the first that has to wait until the old version is gone.
///
/// In a rolling deployment this comes first, while the old version works; then the new version is started and the old one
/// stopped; and then [`run_pending_migrations`](crate::migrations::run_pending_migrations()) runs the rest. One that has to wait says so
/// in its name, in which `post_` follows the version: `00000000032050_procrastinate_post_…` of the queue's, and
/// `2026-01-01-000000_post_…` of the application's own. It takes away what the old version needs; all others add, and leave
/// what is there.
///
/// Migrations after one that waits wait with it, since they may build on it:
/// [`MigrationStatus::is_ready_for_upgrade`](crate::migrations::MigrationStatus::is_ready_for_upgrade) tells whether the new version can
/// be started. Where none of the source's migrations was ever applied there is no old version, and all of them run.
///
/// # Errors
///
/// As [`run_pending_migrations`](crate::migrations::run_pending_migrations()).
///
/// # Example
///
/// The program of a deployment, which is called once with `pre` and once with `post`:
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
