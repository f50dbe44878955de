//! Faults of processes that need more than a signal.

use super::Rig;
use crate::Failure;
use crate::schedule::Fault;

/// Lets a worker's clock jump forwards and backwards.
pub(super) async fn step_clock(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    rig.worker(fault.target).step_clock(fault.duration).await
}
