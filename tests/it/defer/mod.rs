//! Deferring jobs.

mod argument_locks;
#[cfg(all(feature = "bb8", feature = "testing"))]
mod concurrent;
mod deferring;
mod unless_enqueued;
