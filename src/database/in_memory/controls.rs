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
    /// The keys of limits for each key, of which jobs have started.
    pub(super) keys: BTreeMap<Target, BTreeMap<String, Key>>,
    /// How often it was the turn of any key.
    pub(super) turns: u64,
}

/// A key of which jobs have started.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// When it was last its turn.
    pub(super) turn: u64,
    pub(super) starts: Vec<DateTime<Utc>>,
}
