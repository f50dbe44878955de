//! Migrations of programs whose pool goes through PgBouncer.

use diesel::prelude::*;
use procrastinate::Error;
use procrastinate::migrations::{MIGRATIONS, run_pending_migrations};

use super::pgbouncer::{PgBouncer, Settings};
use super::{connector_before, direct, keeping_statements};
use crate::support::{connect, empty_database, rows};

const ADVISORY_LOCKS: &str = "SELECT count(*) FROM pg_locks AS held JOIN pg_database ON pg_database.oid = held.database
                              WHERE locktype = 'advisory' AND datname = current_database()";

#[tokio::test]
async fn migrations_run_on_a_direct_connection_and_are_refused_where_there_is_none() {
    let database = empty_database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    let connector = connector_before(&pooler).await;
    let refusals = [
        connector.run_pending_migrations(MIGRATIONS).await.map(drop),
        connector.migration_status(MIGRATIONS).await.map(drop),
        connector.check_contract().await,
    ];
    for refused in refusals {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Pool { .. }), "{error:?}");
        assert!(error.to_string().contains("dedicated_connections"), "{error}");
    }

    let connector = connector.dedicated_connections(direct(database.url()));
    assert!(!connector.run_pending_migrations(MIGRATIONS).await.unwrap().is_empty());
    assert!(connector.migration_status(MIGRATIONS).await.unwrap().is_up_to_date());
    connector.check_contract().await.unwrap();
    // No lock is left behind on any connection of the server's.
    assert_eq!(rows(&mut connect(&database), ADVISORY_LOCKS), ["0"]);
}

#[test]
fn the_blocking_runner_refuses_a_connection_that_is_another_one_each_time() {
    let database = empty_database();
    let Some(pooler) = PgBouncer::start(&database, keeping_statements()) else { return };
    let mut through = PgConnection::establish(pooler.url()).unwrap();
    let error = run_pending_migrations(&mut through, MIGRATIONS).unwrap_err();
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    assert!(error.to_string().contains("a pooler"), "{error}");
    assert_eq!(rows(&mut connect(&database), ADVISORY_LOCKS), ["0"]);
    assert_eq!(rows(&mut connect(&database), "SELECT to_regclass('procrastinate_jobs')"), ["NULL"]);
}
