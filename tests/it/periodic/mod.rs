//! Periodic tasks: what can be registered, and what is deferred when.

mod deferring;
mod faults;
mod in_database;
mod many;
mod registering;
mod schedules;
