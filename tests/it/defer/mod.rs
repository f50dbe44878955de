//! Deferring jobs.

#[cfg(all(feature = "bb8", feature = "testing"))]
mod concurrent;
mod deferring;
