//! Parts that know nothing of jobs.

pub(crate) mod backoff;
pub(crate) mod clock;
pub(crate) mod extensions;
pub(crate) mod panics;
