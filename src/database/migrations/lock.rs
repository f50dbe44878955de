//! The lock under which migrations run, so that only one process does it at a time.

use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use crate::error::Error;

/// The advisory lock that whoever runs migrations holds: a number picked at random, which nothing else is likely to use.
const ADVISORY_LOCK: i64 = 0x5072_6f63_7261_7374;

/// How long to wait between two tries to get the lock. A waiting `pg_advisory_lock` would hold a snapshot, which a
/// `CREATE INDEX CONCURRENTLY` of the one who has the lock would wait for: a deadlock.
const LOCK_POLLING_INTERVAL: Duration = Duration::from_millis(50);

/// How often to say that the lock is still awaited.
const LOCK_REPORT_INTERVAL: Duration = Duration::from_secs(10);

diesel::define_sql_function! {
    fn pg_try_advisory_lock(key: diesel::sql_types::BigInt) -> diesel::sql_types::Bool;
}

diesel::define_sql_function! {
    fn pg_backend_pid() -> diesel::sql_types::Integer;
}

diesel::define_sql_function! {
    fn pg_advisory_unlock(key: diesel::sql_types::BigInt) -> diesel::sql_types::Bool;
}

/// Refuses a connection whose statements do not all meet one process of the server's. A pooler that has little to do may go
/// undetected.
pub(super) fn check_session<C: LoadConnection<Backend = Pg>>(connection: &mut C) -> Result<(), Error> {
    let mut process = || {
        diesel::RunQueryDsl::get_result::<i32>(diesel::select(pg_backend_pid()), connection)
            .map_err(|source| Error::database("ask which process of the server answers", source))
    };
    if process()? == process()? {
        return Ok(());
    }
    let source = "the connection goes through a pooler that gives each transaction another connection to the server, where \
                  the lock for migrations cannot be held: run them on a connection to the server itself";
    Err(Error::Migration { source: source.into() })
}

/// Takes the lock, when whoever has it releases it.
pub(super) fn lock<C: LoadConnection<Backend = Pg>>(connection: &mut C) -> Result<(), Error> {
    let mut last_report = Instant::now();
    loop {
        let taken = diesel::select(pg_try_advisory_lock(ADVISORY_LOCK));
        let taken = diesel::RunQueryDsl::get_result::<bool>(taken, connection);
        if taken.map_err(|source| Error::database("take the lock for migrations", source))? {
            return Ok(());
        }
        if last_report.elapsed() >= LOCK_REPORT_INTERVAL {
            tracing::info!(action = "migrations_wait", "waiting for another process that runs migrations");
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
            "the lock for migrations was taken on another connection to the server, and stays there until that one is \
             closed: run migrations on a direct connection, not through a pooler",
        );
    }
    Ok(())
}
