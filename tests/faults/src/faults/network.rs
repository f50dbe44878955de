//! Faults of the network between one process and the server.

use std::time::Duration;

use tokio::time::sleep;

use crate::processes::Process;
use crate::proxy::Network;
use crate::schedule::{Fault, Kind};

/// By how much a slow network delays each piece.
const DELAY: Duration = Duration::from_millis(100);

/// How long requests are collected before the connections are cut.
const TIME_TO_SEND: Duration = Duration::from_millis(300);

/// Disturbs the network of a process for a while.
pub(super) async fn disturb(process: &Process, fault: &Fault) {
    match fault.kind {
        Kind::ArriveLate if !fault.seed.is_multiple_of(3) => {
            process.proxy.hold_old();
            sleep(TIME_TO_SEND).await;
            process.proxy.cut_old();
        }
        Kind::RefuseConnections => process.proxy.set(Network::Refuses),
        Kind::DelayNetwork => process.proxy.set(Network::Delays(DELAY)),
        Kind::ArriveLate => process.proxy.hold_old(),
        _ => process.proxy.set(Network::HoldsAll),
    }
    sleep(fault.duration).await;
    process.proxy.set(Network::Works);
}
