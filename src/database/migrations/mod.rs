//! The migrations that create the queue's tables and functions, and a runner that many processes may call at once.
//!
//! Their versions sort below every date, so an application's own newest migration stays the last one for
//! `diesel migration revert` and `redo`.

mod check;
mod combined;
mod lock;
mod name;
mod phases;
#[cfg(feature = "cli")]
mod revert;
mod sql;
mod status;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use self::lock::{check_session, lock, unlock};
use crate::error::Error;

pub use check::check_contract;
pub use combined::CombinedMigrations;
pub use phases::run_pre_migrations;
#[cfg(feature = "cli")]
pub(crate) use revert::revert_migrations;
pub use sql::{SQL_MIGRATIONS, SqlMigration, write_migrations};
pub use status::{MigrationStatus, migration_status};

/// The migrations of the queue.
///
/// On a database that Python's Procrastinate 3.10 has set up they add only what is this crate's own. On one with an
/// older or an altered form of Procrastinate's tables they fail with a list of the differences, and change nothing.
///
/// # Example
///
/// Beside the application's own, on one connection and without a lock; for a runner that several processes may call at
/// once see [`run_pending_migrations`] and
/// [`DieselConnector::run_pending_migrations`](crate::DieselConnector::run_pending_migrations).
///
/// ```no_run
/// use diesel::{Connection, PgConnection};
/// use diesel_migrations::MigrationHarness;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let mut connection = PgConnection::establish("postgres://localhost/shop")?;
/// connection.run_pending_migrations(procrastinate::migrations::MIGRATIONS)?;
/// // connection.run_pending_migrations(MIGRATIONS_OF_THE_APPLICATION)?;
/// # Ok(())
/// # }
/// ```
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Runs those migrations of the source that the database lacks, one process at a time, and returns their versions.
///
/// The source may be [`MIGRATIONS`] or the application's own. While another process runs migrations through this
/// function, or through [`DieselConnector::run_pending_migrations`](crate::DieselConnector::run_pending_migrations), it
/// waits, and then finds nothing left to do. Where nothing is pending it takes no lock and writes nothing, so a role that
/// may not create anything can call it. This one is for blocking connections.
///
/// The connection has to lead to the server itself, not through a pooler that gives each transaction another one: the lock
/// is the session's. See [`pools`](crate::guide::pools).
///
/// # Errors
///
/// [`Error::Migration`] when a migration fails: that one leaves nothing behind, the ones before it stay; and when the
/// connection is seen to go through such a pooler, before anything was done. [`Error::Database`] when the lock cannot be
/// asked for.
///
/// # Example
///
/// ```no_run
/// use diesel::{Connection, PgConnection};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = PgConnection::establish("postgres://localhost/shop")?;
/// procrastinate::migrations::run_pending_migrations(&mut connection, procrastinate::migrations::MIGRATIONS)?;
/// # Ok(())
/// # }
/// ```
pub fn run_pending_migrations<C, S>(connection: &mut C, source: S) -> Result<Vec<String>, Error>
where
    C: MigrationHarness<Pg> + LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    run(connection, source, |_| false)
}

/// Runs the pending migrations of the source in their order, up to the first for which this is true, one process at a time.
fn run<C, S>(connection: &mut C, source: S, is_to_wait: fn(&str) -> bool) -> Result<Vec<String>, Error>
where
    C: MigrationHarness<Pg> + LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    let migrations = source.migrations().map_err(|source| Error::Migration { source })?;
    if status::status_of(connection, &migrations)?.pending.first().is_none_or(|name| is_to_wait(name)) {
        return Ok(Vec::new());
    }
    check_session(connection)?;
    lock(connection)?;
    let result = run_locked(connection, source, is_to_wait);
    // The lock ends with the connection in any case; a failed migration must not be hidden by a failed unlock.
    let unlocked = unlock(connection);
    let versions = result?;
    unlocked?;
    Ok(versions)
}

fn run_locked<C, S>(connection: &mut C, source: S, is_to_wait: fn(&str) -> bool) -> Result<Vec<String>, Error>
where
    C: MigrationHarness<Pg>,
    S: MigrationSource<Pg>,
{
    let mut pending = connection.pending_migrations(source).map_err(|source| Error::Migration { source })?;
    let waiting = pending.iter().position(|migration| is_to_wait(&migration.name().to_string()));
    pending.truncate(waiting.unwrap_or(pending.len()));
    let versions = connection.run_migrations(&pending).map_err(|source| Error::Migration { source })?;
    for migration in &pending {
        tracing::info!(action = "migration_applied", "applied the migration {}", migration.name());
    }
    Ok(versions.iter().map(ToString::to_string).collect())
}
