//! The migrations: alone and together with an application's own, on empty databases and on those that Python's
//! Procrastinate has created, in any schema, and by many processes at the same time.

mod adoption;
mod application;
pub mod catalog;
mod check;
mod combined;
mod diesel_cli;
mod four_roles;
mod harness;
mod load;
mod older;
mod origins;
#[cfg(feature = "bb8")]
mod owner;
mod phases;
mod refusal;
mod role;
mod runner;
mod schema_missing;
mod schema_rs;
mod schemas;
mod sql_page;
mod status;
mod written;
