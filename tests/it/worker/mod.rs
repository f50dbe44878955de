//! The worker: what it runs, when, and what it makes of failures.

mod abort;
mod buffer;
mod chores;
mod cuts;
mod encodings;
mod endings;
mod error_types;
mod errors;
mod faults;
mod fencing;
mod flow_control;
pub mod holding_proxy;
mod housekeeping;
mod killed;
mod late;
mod logging;
mod middleware;
mod order;
pub mod proxy;
mod queues;
mod retries;
mod secrets;
mod shutdown;
mod signals;
pub mod silent_proxy;
mod timeouts;
#[cfg(feature = "testing")]
mod unknown_tasks;
mod waiting;
