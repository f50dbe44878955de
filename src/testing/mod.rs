//! Testing an application that defers jobs (feature `testing`).

mod time;

pub use time::{at, at_blocking};
