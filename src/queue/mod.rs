//! The queue as an application uses it.
//!
//! | module | purpose |
//! |---|---|
//! | `bulk` | changes many jobs for the admin pages, and records who did what |
//! | `defer` | defers jobs: one, many, or a tick of a periodic task |
//! | `job_manager` | finds, counts, changes and deletes jobs |
//! | `explanation` | explains why a job is not running |
//! | `listener` | receives notifications about jobs |
//! | `retention` | selects old jobs to delete |
//! | `metrics` | counts and times jobs |

#[cfg(feature = "admin")]
pub(crate) mod bulk;
pub(crate) mod defer;
#[cfg(any(feature = "cli", feature = "admin"))]
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the pages need only a part of it"))]
pub(crate) mod explanation;
pub mod job_manager;
pub(crate) mod listener;
#[cfg_attr(not(feature = "metrics"), path = "no_metrics.rs")]
pub(crate) mod metrics;
pub(crate) mod retention;
