//! Faults inside of the database.

use diesel_async::SimpleAsyncConnection;
use tokio::time::sleep;

use super::Rig;
use crate::Failure;
use crate::ledger::Line;
use crate::schedule::Fault;
use crate::server::persist;
use crate::tasks::hog_job;

const TABLES: [&str; 4] =
    ["procrastinate_jobs", "procrastinate_events", "procrastinate_workers", "procrastinate_periodic_defers"];

/// How many of the last migrations are reverted: what deletes old jobs, and what defers periodic tasks.
const REVERTED: usize = 2;

/// Locks a table against everything else.
pub(super) async fn lock(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    let table = TABLES[fault.target % TABLES.len()];
    let mut connection = persist(async || {
        let mut connection = rig.server.connect().await?;
        let lock = format!("SET lock_timeout = '5s'; BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        connection.batch_execute(&lock).await?;
        Ok(connection)
    })
    .await?;
    sleep(fault.duration).await;
    Ok(connection.batch_execute("COMMIT").await?)
}

/// Reverts the last migrations and runs them again, while everything else runs.
pub(super) async fn migrate(rig: &Rig) -> Result<(), Failure> {
    rig.server.revert_and_migrate(REVERTED).await
}

/// Defers jobs that take the connections of their workers' pools.
pub(super) async fn hog_pools(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    for _ in 0..3 {
        persist(async || {
            // A try that fails may have succeeded, so each one has its own token.
            let token = format!("hog-{}", fastrand::u64(..));
            let job = i64::from(hog_job(token.clone()).defer(&mut rig.server.connect().await?).await?);
            rig.history.write(&Line::Acknowledged { token, job });
            Ok(())
        })
        .await?;
    }
    sleep(fault.duration).await;
    Ok(())
}
