//! The migrations that create the queue's tables and functions, and functions that run them.
//!
//! | item | purpose |
//! |---|---|
//! | [`MIGRATIONS`] | the queue's migrations, for any Diesel runner |
//! | [`CombinedMigrations`] | the queue's migrations and yours as one list |
//! | [`run_pending_migrations`] | runs migrations, one process at a time |
//! | [`run_pre_migrations`] | runs those that must run before an upgrade |
//! | [`migration_status`] | returns which migrations are applied and pending |
//! | [`check_contract`] | checks that Procrastinate's tables and functions are unchanged |
//! | [`write_migrations`] | writes the migrations to a directory, for the Diesel CLI |
//! | [`SQL_MIGRATIONS`] | the migrations as SQL, for other tools |
//!
//! The versions sort before every date. So your own newest migration stays the last one for `diesel migration revert`
//! and `redo`. See [Migrations and upgrading](crate::guide::migrations_and_upgrading).
//!
//! # Example
//!
//! ```no_run
//! use procrastinate::DieselConnector;
//! use procrastinate::migrations::MIGRATIONS;
//!
//! # async fn example(connector: DieselConnector) -> Result<(), procrastinate::Error> {
//! let versions = connector.run_pending_migrations(MIGRATIONS).await?;
//! println!("applied {versions:?}");
//! # Ok(())
//! # }
//! ```

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

use self::lock::{check_session, lock, unlock, while_tables_are_in_use};
use crate::error::Error;

#[cfg(feature = "cli")]
pub(crate) use check::FETCHES_PAST_FLOW_CONTROL;
pub use check::check_contract;
pub use combined::CombinedMigrations;
pub use phases::run_pre_migrations;
#[cfg(feature = "cli")]
pub(crate) use revert::revert_migrations;
pub use sql::{SQL_MIGRATIONS, SqlMigration, write_migrations};
pub use status::{MigrationStatus, migration_status};

/// The migrations of the queue.
///
/// On a database of Python's Procrastinate 3.10, they add only the objects that this crate needs. On a database with
/// older or altered tables of Procrastinate, they fail with a list of the differences and change nothing.
///
/// # Locks
///
/// Migrations lock tables in the order of all statements: jobs, periodic defers, events, workers. They can run while
/// programs defer and process jobs.
///
/// | migration | locks | duration |
/// |---|---|---|
/// | `indexes` | jobs, against reads and writes | building twelve indexes, most of them on pending jobs only |
/// | `batched_events` | jobs and periodic defers, against reads and writes | a moment |
/// | `job_errors` | jobs, against writes | a moment |
/// | `delete_old_jobs` | events, against writes | building one index on the final events |
/// | all others | nothing | |
///
/// On a database with millions of jobs, build the indexes beforehand without blocking other programs: see
/// [`SqlMigration::concurrent_indexes`].
///
/// # Example
///
/// This example runs them alongside your own migrations, without a lock. If several processes may run migrations at the
/// same time, use [`run_pending_migrations`] or
/// [`DieselConnector::run_pending_migrations`](crate::DieselConnector::run_pending_migrations).
///
/// ```no_run
/// use diesel::{Connection, PgConnection};
/// use diesel_migrations::MigrationHarness;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let mut connection = PgConnection::establish("postgres://localhost/shop")?;
/// connection.run_pending_migrations(procrastinate::migrations::MIGRATIONS)?;
/// // connection.run_pending_migrations(YOUR_MIGRATIONS)?;
/// # Ok(())
/// # }
/// ```
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Runs the pending migrations of the source, one process at a time, and returns their versions.
///
/// Use it with a blocking connection. For an async application, see
/// [`DieselConnector::run_pending_migrations`](crate::DieselConnector::run_pending_migrations). The source may be
/// [`MIGRATIONS`] or your own.
///
/// While another process runs migrations with either function, this one waits, and then usually finds none pending. If
/// no migration is pending, it takes no lock and writes nothing. So a role that cannot create objects can call it.
///
/// The connection must lead to the server itself, because the lock belongs to the session. A pooler in transaction mode
/// does not work. See [Connection pools and PgBouncer](crate::guide::pools).
///
/// A migration of the queue that must lock a table waits at most two seconds for it, because all others wait behind it.
/// If the table is in use for longer, the migration is retried for a minute, with pauses for the others.
///
/// # Errors
///
/// [`Error::Migration`] if a migration fails. It leaves no changes behind, and earlier migrations stay applied. The
/// same error is returned, before anything is done, if the connection is found to go through a pooler in transaction
/// mode.
///
/// [`Error::Database`] if the lock cannot be taken.
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
#[doc(alias = "apply_schema")]
pub fn run_pending_migrations<C, S>(connection: &mut C, source: S) -> Result<Vec<String>, Error>
where
    C: MigrationHarness<Pg> + LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    run(connection, source, |_| false)
}

/// Runs the pending migrations in order, up to the first for which `is_to_wait` is true, one process at a time.
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
    // The lock ends with the connection in any case. A failed unlock must not hide a failed migration.
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
    let mut versions = Vec::with_capacity(pending.len());
    for migration in &pending {
        let version = while_tables_are_in_use(|| connection.run_migration(migration))?;
        tracing::info!(action = "migration_applied", "applied the migration {}", migration.name());
        versions.push(version.to_string());
    }
    Ok(versions)
}
