//! The rows of pauses, limits and ageing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::database::models::{ProcrastinateFlowControl, ProcrastinatePriorityAgeing};

/// A queue or task: its kind and its name.
pub(super) type Target = (String, String);

/// The ageing of a queue.
#[derive(Debug)]
pub(super) struct Ageing {
    pub(super) row: ProcrastinatePriorityAgeing,
    /// The newest job when the last pass began.
    pub(super) last_job_id: i64,
}

/// Pauses and limits.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) controls: BTreeMap<Target, ProcrastinateFlowControl>,
    /// The queues whose priorities age.
    pub(super) ageings: BTreeMap<String, Ageing>,
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
