//! The worker: what it runs, when, and what it makes of failures.

mod endings;
mod faults;
mod order;
mod retries;
mod waiting;
