//! One field of a cron expression.

use std::collections::BTreeSet;

use super::values::{Nth, Values};

/// A kind of field: its name and values.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names of values, in order, starting with `first`.
    names: &'static [&'static str],
    kind: FieldKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Plain,
    Day,
    DayOfWeek,
}

pub(super) const SECOND: Field = Field { name: "second", first: 0, last: 59, names: &[], kind: FieldKind::Plain };
pub(super) const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[], kind: FieldKind::Plain };
pub(super) const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[], kind: FieldKind::Plain };
pub(super) const DAY: Field = Field { name: "day", first: 1, last: 31, names: &[], kind: FieldKind::Day };
pub(super) const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    kind: FieldKind::Plain,
};
pub(super) const DAY_OF_WEEK: Field = Field {
    name: "day of week",
    first: 0,
    last: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    kind: FieldKind::DayOfWeek,
};

/// The rule that a field breaks.
type Rule = String;

impl Field {
    /// The number of values.
    pub(super) fn size(&self) -> usize {
        (self.first..=self.last).count()
    }

    /// The rule with the name of the field and its text.
    pub(super) fn explain(&self, text: &str, rule: &str) -> Rule {
        format!("field {} {text:?} {rule}", self.name)
    }

    /// Parses the field. The text is in lower case.
    pub(super) fn read(&self, text: &str) -> Result<Values, Rule> {
        if text.starts_with(['h', 'r']) {
            return Err("must not use \"H\" or \"R\", because programs would not agree on the time".to_owned());
        }
        let mut values = Values::default();
        if text == "?" && self.kind != FieldKind::Plain {
            values.star = true;
            return Ok(values);
        }
        let items: Vec<&str> = text.split(',').collect();
        for item in &items {
            self.read_item(item, &mut values)?;
        }
        if values.nearest.is_some() && items.len() > 1 {
            return Err("must not have \"W\" in a list".to_owned());
        }
        Ok(values)
    }

    fn read_item(&self, item: &str, values: &mut Values) -> Result<(), Rule> {
        let nearest = nearest_day(item).filter(|_| self.kind == FieldKind::Day);
        let last = item.strip_prefix('l').filter(|digits| self.kind == FieldKind::DayOfWeek && is_number(digits));
        if item == "*" {
            values.star = true;
        } else if item == "l" && self.kind == FieldKind::Day {
            values.last = true;
        } else if let Some(day) = nearest {
            values.nearest = Some(self.value(day)?);
        } else if let Some(weekday) = last {
            values.nth.push((self.value(weekday)?, Nth::Last));
        } else if self.kind == FieldKind::DayOfWeek && item.contains('#') {
            self.read_nth(item, values)?;
        } else {
            values.numbers.extend(self.numbers(item)?);
        }
        Ok(())
    }

    /// Parses `5#2`, `fri#2` or `mon-fri#2`: the second such day of the month.
    fn read_nth(&self, item: &str, values: &mut Values) -> Result<(), Rule> {
        let (weekdays, nth) = item.split_once('#').unwrap_or((item, ""));
        if !is_number(nth) || !(1..=5).contains(&parse(nth)) {
            return Err("must have a number from 1 to 5 after \"#\"".to_owned());
        }
        let is_range_of_numbers = weekdays.contains('-') && weekdays.contains(|c: char| c.is_ascii_digit());
        if is_range_of_numbers || weekdays.contains(['/', '*']) {
            return Err("must have one day or a range of names before \"#\"".to_owned());
        }
        let nth = Nth::Number(parse(nth));
        values.nth.extend(self.numbers(weekdays)?.into_iter().map(|weekday| (weekday, nth)));
        Ok(())
    }

    /// Parses a number or a range, each with an optional step, or `*` with a step.
    fn numbers(&self, item: &str) -> Result<BTreeSet<u32>, Rule> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (item, None),
        };
        if range == "*" {
            return Ok(self.stepped(self.first, self.last, step.unwrap_or(1)));
        }
        let Some((low, high)) = range.split_once('-') else {
            let low = self.value(range)?;
            return Ok(match step {
                Some(step) => self.stepped(low, self.last, step),
                None => BTreeSet::from([low]),
            });
        };
        let low = self.value(low)?;
        let high = if self.kind == FieldKind::Day && high == "l" { self.last } else { self.value(high)? };
        let step = step.unwrap_or(1);
        Ok(match low.cmp(&high) {
            std::cmp::Ordering::Less => self.stepped(low, high, step),
            // A range from a value to itself means all values, starting at the first one.
            std::cmp::Ordering::Equal => self.stepped(self.first, self.last, step),
            std::cmp::Ordering::Greater => self.wrapped(low, high, step),
        })
    }

    fn stepped(&self, low: u32, high: u32, step: u32) -> BTreeSet<u32> {
        (low..=high).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect()
    }

    /// A range over the end, such as from Friday to Monday.
    ///
    /// The steps after the end are croniter's. If they do not divide evenly, they start one later than continued
    /// counting.
    fn wrapped(&self, low: u32, high: u32, step: u32) -> BTreeSet<u32> {
        let mut values = self.stepped(low, self.last, step);
        let passed = values.last().map_or(0, |highest| self.last - highest);
        let skipped = if step > passed.saturating_add(1) { step - passed } else { 0 };
        values.extend(self.stepped(self.first.saturating_add(skipped), high, step));
        values
    }

    fn step(&self, text: &str) -> Result<u32, Rule> {
        if is_number(text) && parse(text) > 0 {
            Ok(parse(text))
        } else {
            Err(format!("must have a number of at least 1 after \"/\", not {text:?}"))
        }
    }

    /// Parses a number or a name. Day 7 of the week is day 0, Sunday.
    fn value(&self, text: &str) -> Result<u32, Rule> {
        let named = (self.first..).zip(self.names).find(|(_, name)| **name == text).map(|(value, _)| value);
        let value = match named {
            Some(value) => value,
            None if is_number(text) => parse(text),
            None => return Err(format!("has {text:?}, but values must be {}", self.known_names())),
        };
        match value {
            7 if self.kind == FieldKind::DayOfWeek => Ok(0),
            value if (self.first..=self.last).contains(&value) => Ok(value),
            _ => {
                let last = if self.kind == FieldKind::DayOfWeek { 7 } else { self.last };
                Err(format!("has {text:?}, but values must be from {} to {last}", self.first))
            }
        }
    }

    fn known_names(&self) -> String {
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!("numbers or the names {first} to {last}"),
            _ => "numbers".to_owned(),
        }
    }
}

/// The digits of `15w` or `w15`.
fn nearest_day(item: &str) -> Option<&str> {
    item.strip_suffix('w').or_else(|| item.strip_prefix('w')).filter(|digits| is_number(digits))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a number of any length. A number that is too large for `u32` becomes the largest one.
fn parse(digits: &str) -> u32 {
    digits.parse().unwrap_or(u32::MAX)
}
