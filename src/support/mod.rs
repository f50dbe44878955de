//! Helpers that do not depend on jobs.

pub(crate) mod backoff;
pub(crate) mod causes;
pub(crate) mod clock;
pub(crate) mod extensions;
pub(crate) mod json;
pub(crate) mod misfit;
pub(crate) mod panics;
pub(crate) mod refusal;
pub(crate) mod shared_future;
pub(crate) mod text;
#[cfg(any(feature = "cli", feature = "admin"))]
pub(crate) mod values;
