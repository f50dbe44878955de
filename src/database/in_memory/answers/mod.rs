//! What each statement comes to, in the groups of `queries`.

#[cfg(feature = "cli")]
mod cli;
mod defer;
mod finish_and_fetch;
mod inspect;
mod manage;
mod periodic;
