//! The database contract, line by line: what a client in any language may rely on. Plain SQL on a blocking connection,
//! as another client would write it, and nothing of this crate but its migrations.

mod actions;
mod ageing;
mod batch_defer;
mod batch_endings;
mod batch_finish_and_fetch;
mod batch_retry;
mod cancel;
mod change_jobs;
mod changed_key_limits;
mod defer;
mod defer_each;
mod ended_keyed_jobs;
mod events;
mod fetch;
mod finish;
mod flow_control;
mod functions;
mod key_limits;
mod notifications;
mod one_by_one;
mod outdated_keys;
mod periodic;
mod put_back;
mod queue;
mod races;
mod remembered_searches;
mod replace;
mod rescue;
mod retry;
mod slots;
mod start_before;
mod tables;
mod unique_keys;
mod waiting_keys;
mod workers;
