//! The values that a field of a cron expression selects.

use std::collections::BTreeSet;

/// Which such weekday of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nth {
    Number(u32),
    Last,
}

/// The values of a field.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// Every value, from `*` or `?`.
    pub(super) star: bool,
    pub(super) numbers: BTreeSet<u32>,
    /// For days: the last day of the month.
    pub(super) last: bool,
    /// For days: the day from Monday to Friday nearest to this one.
    pub(super) nearest: Option<u32>,
    /// For days of the week: the first, second or last ones of the month.
    pub(super) nth: Vec<(u32, Nth)>,
}

impl Values {
    pub(super) fn number(number: u32) -> Self {
        Self { numbers: BTreeSet::from([number]), ..Self::default() }
    }

    pub(super) fn is_several(&self) -> bool {
        self.star || self.numbers.len() > 1
    }
}
