//! The commands, one file each.

pub(crate) mod act;
pub(crate) mod clean;
pub(crate) mod counts;
pub(crate) mod defer;
pub(crate) mod filter;
#[cfg(feature = "probe")]
pub(crate) mod health_probe;
pub(crate) mod healthchecks;
pub(crate) mod jobs;
pub(crate) mod list;
pub(crate) mod one_job;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod watch;
pub(crate) mod why;
pub(crate) mod worker;
pub(crate) mod workers;
