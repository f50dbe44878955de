//! The worker: what it runs, when, and what it makes of failures.

mod endings;
mod faults;
mod housekeeping;
mod order;
mod retries;
mod waiting;
