//! The rows of pauses and limits.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::database::models::ProcrastinateFlowControl;

/// A queue or task: its kind and its name.
pub(super) type Target = (String, String);

/// Pauses and limits.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) controls: BTreeMap<Target, ProcrastinateFlowControl>,
    /// The starts of jobs whose starts are limited.
    pub(super) starts: BTreeMap<Target, Vec<DateTime<Utc>>>,
}
