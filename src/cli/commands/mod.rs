//! The commands, one file each. Those that find and change jobs are in `jobs`.

pub(crate) mod clean;
pub(crate) mod controls;
pub(crate) mod counts;
pub(crate) mod defer;
pub(crate) mod flow;
#[cfg(feature = "probe")]
pub(crate) mod health_probe;
pub(crate) mod healthchecks;
pub(crate) mod jobs;
pub(crate) mod schema;
pub(crate) mod watch;
pub(crate) mod worker;
pub(crate) mod workers;
