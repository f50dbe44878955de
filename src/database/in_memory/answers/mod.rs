//! The implementations of statements, grouped like `statements`.

#[cfg(feature = "admin")]
mod actions;
#[cfg(feature = "admin")]
mod admin;
mod ageing;
#[cfg(feature = "cli")]
mod cli;
mod defer;
#[cfg(any(feature = "cli", feature = "admin"))]
mod explain;
mod finish_and_fetch;
mod flow_control;
mod inspect;
mod manage;
mod options;
mod periodic;
mod schedules;
mod unique_keys;
mod workers;
