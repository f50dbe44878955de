//! The migrations: alone and beside an application's own, on empty databases and on such as Python's Procrastinate has
//! set up, in any schema, and by many processes at once.

mod adoption;
mod application;
mod catalog;
mod check;
mod combined;
mod diesel_cli;
mod harness;
mod older;
mod origins;
mod phases;
mod refusal;
mod role;
mod runner;
mod schema_missing;
mod schema_rs;
mod schemas;
mod status;
mod written;
