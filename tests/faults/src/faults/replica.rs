//! A primary that is lost, and a standby that is promoted in its place.

use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use throwaway_postgres::Server as PrivateServer;
use tokio::time::{Instant, sleep};

use super::Rig;
use crate::Failure;
use crate::schedule::Fault;
use crate::server::{connect, word};

/// How long a standby may take to catch up.
const PATIENCE: Duration = Duration::from_secs(20);

const WAIT_BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Whether a synchronous standby has everything up to a place in the log of changes.
const IN_SYNC: &str = "EXISTS (SELECT FROM pg_stat_replication
    WHERE sync_state = 'sync' AND state = 'streaming' AND flush_lsn >= '{place}')";

/// Adds a synchronous standby, runs everything with it for a while, kills the primary, and promotes the standby.
///
/// Whatever is acknowledged when the primary dies is on the standby: all of it before the standby was in sync, and each
/// commit since then.
pub(super) async fn promote(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    let standby = rig.server.start_standby().await?;
    let mut primary = rig.server.connect_as_superuser().await?;
    let with_standby = async {
        wait_for_changes(&mut primary).await?;
        sleep(fault.duration).await;
        wait_for_changes(&mut primary).await
    };
    if let Err(error) = with_standby.await {
        // Without the standby, nothing must wait for it.
        stop_waiting(&mut primary).await?;
        tokio::task::spawn_blocking(move || drop(standby)).await?;
        return Err(error);
    }
    let signal = if fault.target.is_multiple_of(2) { Signal::SIGQUIT } else { Signal::SIGKILL };
    kill(Pid::from_raw(rig.server.pid().await?), signal)?;
    wait_until_it_is_gone(primary).await;
    make_primary(&standby).await?;
    rig.server.replace_with(standby).await?;
    for process in rig.processes() {
        process.proxy.redirect(rig.server.address());
    }
    Ok(())
}

/// Lets commits wait for the standby, and waits until it has all that was committed before.
async fn wait_for_changes(primary: &mut AsyncPgConnection) -> Result<(), Failure> {
    if word("current_setting('synchronous_standby_names')", primary).await? != "*" {
        primary.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        primary.batch_execute("SELECT pg_reload_conf()").await?;
        // Sessions wait for the standby when the checkpointer has read the setting, which no view shows.
        sleep(Duration::from_secs(1)).await;
    }
    let place = word("pg_current_wal_insert_lsn()", primary).await?;
    let in_sync = IN_SYNC.replace("{place}", &place);
    let deadline = Instant::now() + PATIENCE;
    while word(&in_sync, primary).await? != "true" {
        if Instant::now() > deadline {
            return Err("the standby did not catch up".into());
        }
        sleep(WAIT_BETWEEN_LOOKS).await;
    }
    Ok(())
}

async fn stop_waiting(primary: &mut AsyncPgConnection) -> Result<(), Failure> {
    primary.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
    Ok(primary.batch_execute("SELECT pg_reload_conf()").await?)
}

/// Waits until a session of the dead server finds out.
async fn wait_until_it_is_gone(mut session: AsyncPgConnection) {
    while session.batch_execute("SELECT 1").await.is_ok() {
        sleep(WAIT_BETWEEN_LOOKS).await;
    }
}

async fn make_primary(standby: &PrivateServer) -> Result<(), Failure> {
    let mut connection = connect(standby.url()).await?;
    if word("pg_promote()", &mut connection).await? != "true" {
        return Err("the standby was not promoted".into());
    }
    Ok(())
}
