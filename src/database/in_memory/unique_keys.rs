//! Keys that refuse further jobs while a job holds them.

use chrono::{DateTime, Utc};

/// A key that a job holds or has held.
#[derive(Debug)]
pub(crate) struct HeldKey {
    pub(crate) job_id: i64,
    pub(crate) period_seconds: f64,
    /// When the key of a job that is gone is free.
    pub(crate) free_at: Option<DateTime<Utc>>,
}
