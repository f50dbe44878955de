//! What each statement comes to, in the groups of `queries`.

#[cfg(feature = "cli")]
mod browse;
mod defer;
mod inspect;
mod lifecycle;
mod manage;
mod periodic;
mod testing;
