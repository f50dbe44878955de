//! Forms with values that operators type.
//!
//! | file | contents |
//! |---|---|
//! | `recorded` | a change and its record in one transaction, and why it was refused |
//! | `defer` | defers a job by the name of its task |
//! | `limits` | the limits of a queue or task |

pub(crate) mod defer;
pub(crate) mod limits;
pub(crate) mod recorded;
