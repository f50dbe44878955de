//! Faults of the server and of its sessions.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::Rig;
use crate::Failure;
use crate::schedule::Fault;

/// Terminates some sessions again and again, whatever they are doing.
pub(super) async fn terminate(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(fault.seed);
    let end = Instant::now() + fault.duration;
    while Instant::now() < end {
        let mut sessions = rig.server.sessions().await?;
        sessions.retain(|_| random.u8(0..4) == 0);
        rig.server.terminate(&sessions).await?;
        sleep(Duration::from_millis(random.u64(10..200))).await;
    }
    Ok(())
}

/// Kills the server's process of one session. The server then ends all others and recovers.
pub(super) async fn crash(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    let sessions = rig.server.sessions().await?;
    if let Some(pid) = sessions.get(fault.target % sessions.len().max(1)) {
        kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    Ok(())
}

/// Lets the database have a setting for a while, in all sessions.
pub(super) async fn with_setting(rig: &Rig, fault: &Fault, setting: &str) -> Result<(), Failure> {
    rig.server.set_for_all(&format!("ALTER DATABASE {{name}} SET {setting}")).await?;
    sleep(fault.duration).await;
    rig.server.set_for_all("ALTER DATABASE {name} RESET ALL").await
}

/// Lets statements and locks time out after 100 ms.
pub(super) async fn short_timeouts(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    let setting = if fault.target.is_multiple_of(2) { "statement_timeout = '100ms'" } else { "lock_timeout = '100ms'" };
    with_setting(rig, fault, setting).await
}
