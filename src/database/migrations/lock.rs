//! The lock that lets only one process run migrations at a time.

use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::migration;
use diesel::pg::Pg;

use crate::error::Error;

/// The advisory lock for running migrations. The number is random, so nothing else is likely to use it.
const ADVISORY_LOCK: i64 = 0x5072_6f63_7261_7374;

/// How long to wait between two attempts to take the lock.
///
/// A blocking `pg_advisory_lock` would hold a snapshot. A `CREATE INDEX CONCURRENTLY` of the process with the lock
/// would wait for it, which is a deadlock.
const LOCK_POLLING_INTERVAL: Duration = Duration::from_millis(50);

/// How often to log that the lock is not free yet.
const LOCK_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The beginning of the error of a migration that could not lock a table. The migration itself raises it, so it does
/// not depend on the language of the server.
const LOCK_TIMEOUT: &str = "could not lock the table procrastinate_";

/// The pause between two attempts, in which other programs can use the table.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// How long a migration keeps trying to lock a table.
const LONGEST_LOCK_WAIT: Duration = Duration::from_secs(60);

diesel::define_sql_function! {
    fn pg_try_advisory_lock(key: diesel::sql_types::BigInt) -> diesel::sql_types::Bool;
}

diesel::define_sql_function! {
    fn pg_backend_pid() -> diesel::sql_types::Integer;
}

diesel::define_sql_function! {
    fn pg_advisory_unlock(key: diesel::sql_types::BigInt) -> diesel::sql_types::Bool;
}

/// Refuses a connection whose statements run in different processes of the server.
///
/// A pooler with little traffic can go undetected.
pub(super) fn check_session<C: LoadConnection<Backend = Pg>>(connection: &mut C) -> Result<(), Error> {
    let mut process = || {
        diesel::RunQueryDsl::get_result::<i32>(diesel::select(pg_backend_pid()), connection)
            .map_err(|source| Error::database("check whether the connection has a session of its own", source))
    };
    if process()? == process()? {
        return Ok(());
    }
    let source = "the connection goes through a pooler in transaction mode, which cannot hold the lock for \
                  migrations; run them on a direct connection to the server";
    Err(Error::Migration { source: source.into() })
}

/// Waits for the lock and takes it.
pub(super) fn lock<C: LoadConnection<Backend = Pg>>(connection: &mut C) -> Result<(), Error> {
    let mut last_report = Instant::now();
    loop {
        let taken = diesel::select(pg_try_advisory_lock(ADVISORY_LOCK));
        let taken = diesel::RunQueryDsl::get_result::<bool>(taken, connection);
        if taken.map_err(|source| Error::database("take the lock for migrations", source))? {
            return Ok(());
        }
        if last_report.elapsed() >= LOCK_REPORT_INTERVAL {
            tracing::info!(action = "migrations_wait", "waiting for another process to finish its migrations");
            last_report = Instant::now();
        }
        std::thread::sleep(LOCK_POLLING_INTERVAL);
    }
}

/// Releases the lock.
pub(super) fn unlock<C: LoadConnection<Backend = Pg>>(connection: &mut C) -> Result<(), Error> {
    let unlocked = diesel::select(pg_advisory_unlock(ADVISORY_LOCK));
    let unlocked = diesel::RunQueryDsl::get_result::<bool>(unlocked, connection);
    if !unlocked.map_err(|source| Error::database("release the lock for migrations", source))? {
        tracing::warn!(
            action = "migrations_lock_lost",
            "could not release the lock for migrations: another connection of the pooler holds it until that \
             connection is closed; run migrations on a direct connection to the server",
        );
    }
    Ok(())
}

/// Runs a migration of the queue, and retries it while other transactions prevent it from locking a table.
pub(super) fn while_tables_are_in_use<T>(mut run: impl FnMut() -> migration::Result<T>) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        match run() {
            Err(source) if started.elapsed() < LONGEST_LOCK_WAIT && source.to_string().contains(LOCK_TIMEOUT) => {
                tracing::info!(action = "migration_retried", "{source}; retrying in {LOCK_PAUSE:?}");
                std::thread::sleep(LOCK_PAUSE);
            }
            result => return result.map_err(|source| Error::Migration { source }),
        }
    }
}
