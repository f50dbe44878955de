//! The worker: what it runs, when, and what it makes of failures.

mod abort;
mod endings;
mod errors;
mod faults;
mod housekeeping;
mod logging;
mod middleware;
mod order;
mod retries;
mod shutdown;
mod timeouts;
mod waiting;
