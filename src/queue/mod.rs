//! What an application can ask of the queue.
//!
//! | module | what it does |
//! |---|---|
//! | `defer` | deferring jobs: one, many, a tick of a periodic task |
//! | `job_manager` | finding, counting, changing and deleting jobs |
//! | `listener` | notifications about jobs |
//! | `retention` | which old jobs to delete |
//! | `metrics` | what is counted and timed |

pub(crate) mod defer;
pub mod job_manager;
pub(crate) mod listener;
#[cfg_attr(not(feature = "metrics"), path = "no_metrics.rs")]
pub(crate) mod metrics;
pub(crate) mod retention;
