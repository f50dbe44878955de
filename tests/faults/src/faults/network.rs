//! Faults of the network between processes and the server.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::processes::Process;
use crate::proxy::Network;
use crate::schedule::{Fault, Kind};

/// By how much a slow network delays each piece.
const DELAY: Duration = Duration::from_millis(100);

/// Disturbs the network of a process for a while.
pub(super) async fn disturb(process: &Process, fault: &Fault) {
    match fault.kind {
        Kind::RefuseConnections => process.proxy.set(Network::Refuses),
        Kind::DelayNetwork => process.proxy.set(Network::Delays(DELAY)),
        _ => process.proxy.set(Network::HoldsAll),
    }
    sleep(fault.duration).await;
    process.proxy.set(Network::Works);
}

/// Holds what these processes send on the connections that exist, and lets it arrive in the end. Their new connections
/// work.
///
/// Either the processes wait for responses, or they find the connections closed, again and again. Then they send the
/// same again, and what arrives late is from the past.
pub(super) async fn arrive_late(processes: &[&Process], fault: &Fault) {
    let mut random = fastrand::Rng::with_seed(fault.seed);
    let end = Instant::now() + fault.duration;
    let is_cut = random.u8(0..4) > 0;
    while Instant::now() < end {
        processes.iter().for_each(|process| process.proxy.hold_old());
        if !is_cut {
            break;
        }
        sleep(Duration::from_millis(random.u64(100..400))).await;
        processes.iter().for_each(|process| process.proxy.cut_old());
        sleep(Duration::from_millis(random.u64(200..900))).await;
    }
    tokio::time::sleep_until(end).await;
    processes.iter().for_each(|process| process.proxy.set(Network::Works));
}
