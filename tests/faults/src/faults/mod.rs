//! The faults. Each is undone when its function returns.
//!
//! | file | faults |
//! |---|---|
//! | `processes` | killing, pausing, shutting down, stepping the clock |
//! | `network` | what the proxies do |
//! | `sessions` | terminated sessions, crashes and restarts of the server, settings of the database |
//! | `tables` | locks, migrations, exhausted pools |
//! | `disk` | a full disk |
//! | `replica` | a standby that is promoted |
//! | `restore` | a dump that is restored |

pub(crate) mod disk;
mod network;
mod processes;
mod replica;
mod restore;
mod sessions;
mod tables;

use std::path::PathBuf;
use std::sync::Arc;

use self::disk::Disk;
use crate::Failure;
use crate::ledger::Ledger;
use crate::processes::Process;
use crate::proxy::Network;
use crate::schedule::{Fault, Kind};
use crate::server::Server;

/// What the faults happen to.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) workers: Vec<Process>,
    pub(crate) deferrers: Vec<Process>,
    pub(crate) server: Server,
    /// The disk of the server, if it can be filled.
    pub(crate) disk: Option<Disk>,
    /// Where the files of the rig are.
    pub(crate) directory: PathBuf,
    /// The rig's own ledger.
    pub(crate) history: Arc<Ledger>,
}

impl Rig {
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.workers.iter().chain(&self.deferrers)
    }

    fn worker(&self, target: usize) -> &Process {
        &self.workers[target % self.workers.len()]
    }

    fn process(&self, target: usize) -> &Process {
        let target = target % (self.workers.len() + self.deferrers.len());
        self.workers.get(target).unwrap_or_else(|| &self.deferrers[target - self.workers.len()])
    }

    /// Lets a fault happen, and undoes it.
    pub(crate) async fn apply(&self, fault: &Fault) -> Result<(), Failure> {
        match fault.kind {
            Kind::KillWorker => self.worker(fault.target).kill().await,
            Kind::KillDeferrer => self.deferrers[fault.target % self.deferrers.len()].kill().await,
            Kind::ShutDownWorker => self.worker(fault.target).shut_down().await,
            Kind::PauseBriefly | Kind::PauseLong => self.worker(fault.target).pause(fault.duration).await,
            Kind::StepClock => processes::step_clock(self, fault).await,
            Kind::TerminateSessions => sessions::terminate(self, fault).await,
            Kind::CrashServer => sessions::crash(self, fault).await,
            Kind::RestartFast => self.server.restart(throwaway_postgres::Restart::Fast).await,
            Kind::RestartImmediately => self.server.restart(throwaway_postgres::Restart::Immediate).await,
            Kind::ReadOnly => sessions::with_setting(self, fault, "default_transaction_read_only = on").await,
            Kind::ShortTimeouts => sessions::short_timeouts(self, fault).await,
            Kind::RefuseConnections | Kind::DelayNetwork | Kind::BlackHoleBriefly | Kind::BlackHoleLong => {
                network::disturb(self.process(fault.target), fault).await;
                Ok(())
            }
            Kind::ArriveLate => {
                // One process, or all of them.
                let all: Vec<&Process> = self.processes().collect();
                let one = [self.process(fault.target)];
                network::arrive_late(if fault.seed.is_multiple_of(2) { &all } else { &one }, fault).await;
                Ok(())
            }
            Kind::LockTable => tables::lock(self, fault).await,
            Kind::Migrate => tables::migrate(self).await,
            Kind::HogPool => tables::hog_pools(self, fault).await,
            Kind::FillDisk => disk::fill(self, fault).await,
            Kind::PromoteReplica => replica::promote(self, fault).await,
            Kind::DumpAndRestore => restore::dump_and_restore(self, fault).await,
        }
    }

    /// Undoes whatever a fault that failed has left.
    pub(crate) async fn heal(&self) -> Result<(), Failure> {
        for process in self.processes() {
            process.proxy.set(Network::Works);
        }
        self.server.set_for_all("ALTER DATABASE {name} RESET ALL").await?;
        self.server.migrate().await
    }
}
