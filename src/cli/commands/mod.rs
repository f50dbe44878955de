//! The commands, one file or folder each.

#[cfg(feature = "admin")]
pub(crate) mod admin;
pub(crate) mod ageing;
pub(crate) mod clean;
pub(crate) mod controls;
pub(crate) mod counts;
pub(crate) mod defer;
pub(crate) mod flow;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod schedules;
pub(crate) mod schema;
pub(crate) mod watch;
pub(crate) mod worker;
pub(crate) mod workers;
