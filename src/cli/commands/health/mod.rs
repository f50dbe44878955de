//! The health of the database and of a worker.
//!
//! | file | purpose |
//! |---|---|
//! | `healthchecks` | the command `healthchecks` |
//! | `probe` | health checks of a worker over HTTP |

pub(crate) mod healthchecks;
#[cfg(feature = "probe")]
pub(crate) mod probe;
