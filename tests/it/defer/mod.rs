//! Deferring jobs.

mod argument_locks;
#[cfg(all(feature = "bb8", feature = "testing"))]
mod concurrent;
mod deferring;
mod late_holders;
#[cfg(feature = "deadpool")]
mod pipelined;
mod replacing;
mod start_before;
mod task_options;
mod unique;
mod unless_enqueued;
