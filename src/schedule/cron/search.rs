//! Finds the next or the last time of day and date that an expression selects. There are no time zones here.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::values::{Nth, Values};

/// After so many days, the same dates fall on the same days of the week again. An expression that selects none of them
/// selects none at all.
const DAYS_OF_CYCLE: u32 = 146_097;

/// The times that an expression selects.
#[derive(Debug)]
pub(super) struct Search {
    seconds: Vec<u32>,
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: Values,
    months: Vec<u32>,
    weekdays: Values,
    /// Whether there is any such date. Otherwise a search would go through the whole cycle.
    has_dates: bool,
}

impl Search {
    /// Creates a search from the values of the fields: seconds, minutes, hours, days, months, days of the week.
    pub(super) fn new([seconds, minutes, hours, days, months, weekdays]: [Values; 6]) -> Self {
        let months = listed(&months, 1..=12);
        Self {
            seconds: listed(&seconds, 0..=59),
            minutes: listed(&minutes, 0..=59),
            hours: listed(&hours, 0..=23),
            has_dates: !weekdays.star || has_dates(&days, &months),
            days,
            months,
            weekdays,
        }
    }

    /// Returns the first time after this one.
    pub(super) fn after(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        self.at_or_after(whole_second(time).checked_add_signed(TimeDelta::seconds(1))?)
    }

    /// Returns the first time that is this whole second or later.
    pub(super) fn at_or_after(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        let date = self.date_from(time.date())?;
        let in_day = if date == time.date() { self.time_from(time.time()) } else { self.first_time() };
        match in_day {
            Some(in_day) => Some(date.and_time(in_day)),
            None => Some(self.date_from(date.succ_opt()?)?.and_time(self.first_time()?)),
        }
    }

    /// Returns the last time that is not after this one.
    pub(super) fn at_or_before(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        let date = self.date_until(time.date())?;
        let in_day = if date == time.date() { self.time_until(time.time()) } else { self.last_time() };
        match in_day {
            Some(in_day) => Some(date.and_time(in_day)),
            None => Some(self.date_until(date.pred_opt()?)?.and_time(self.last_time()?)),
        }
    }

    /// Returns the last time that is at least a second before this whole second.
    #[cfg(feature = "chrono-tz")]
    pub(super) fn before(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        self.at_or_before(time.checked_sub_signed(TimeDelta::seconds(1))?)
    }

    fn first_time(&self) -> Option<NaiveTime> {
        self.time_from(NaiveTime::MIN)
    }

    fn last_time(&self) -> Option<NaiveTime> {
        NaiveTime::from_hms_opt(23, 59, 59).and_then(|last| self.time_until(last))
    }

    fn time_from(&self, time: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let in_minute = || first_from(&self.seconds, second).map(|second| (hour, minute, second));
        let in_hour = || Some((hour, first_from(&self.minutes, minute + 1)?, *self.seconds.first()?));
        let in_day = || Some((first_from(&self.hours, hour + 1)?, *self.minutes.first()?, *self.seconds.first()?));
        let is_hour = self.hours.contains(&hour);
        let is_minute = is_hour && self.minutes.contains(&minute);
        let found = is_minute.then(in_minute).flatten().or_else(|| is_hour.then(in_hour).flatten()).or_else(in_day);
        found.and_then(|(hour, minute, second)| NaiveTime::from_hms_opt(hour, minute, second))
    }

    fn time_until(&self, time: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let in_minute = || last_until(&self.seconds, second).map(|second| (hour, minute, second));
        let in_hour = || Some((hour, last_until(&self.minutes, minute.checked_sub(1)?)?, *self.seconds.last()?));
        let in_day =
            || Some((last_until(&self.hours, hour.checked_sub(1)?)?, *self.minutes.last()?, *self.seconds.last()?));
        let is_hour = self.hours.contains(&hour);
        let is_minute = is_hour && self.minutes.contains(&minute);
        let found = is_minute.then(in_minute).flatten().or_else(|| is_hour.then(in_hour).flatten()).or_else(in_day);
        found.and_then(|(hour, minute, second)| NaiveTime::from_hms_opt(hour, minute, second))
    }

    fn date_from(&self, mut date: NaiveDate) -> Option<NaiveDate> {
        if !self.has_dates {
            return None;
        }
        for _ in 0..=DAYS_OF_CYCLE {
            if !self.months.contains(&date.month()) {
                date = last_of_month(date)?.succ_opt()?;
            } else if self.selects_day(date) {
                return Some(date);
            } else {
                date = date.succ_opt()?;
            }
        }
        None
    }

    fn date_until(&self, mut date: NaiveDate) -> Option<NaiveDate> {
        if !self.has_dates {
            return None;
        }
        for _ in 0..=DAYS_OF_CYCLE {
            if !self.months.contains(&date.month()) {
                date = date.with_day(1)?.pred_opt()?;
            } else if self.selects_day(date) {
                return Some(date);
            } else {
                date = date.pred_opt()?;
            }
        }
        None
    }

    /// Whether the fields for days select this date. If both are set, one is enough.
    fn selects_day(&self, date: NaiveDate) -> bool {
        match (self.days.star, self.weekdays.star) {
            (true, true) => true,
            (true, false) => self.selects_weekday(date),
            (false, true) => self.selects_day_of_month(date),
            (false, false) => self.selects_day_of_month(date) || self.selects_weekday(date),
        }
    }

    fn selects_day_of_month(&self, date: NaiveDate) -> bool {
        let days = &self.days;
        days.numbers.contains(&date.day())
            || (days.last && Some(date) == last_of_month(date))
            || days.nearest.is_some_and(|day| Some(date) == nearest_working_day(date, day))
    }

    fn selects_weekday(&self, date: NaiveDate) -> bool {
        let weekday = date.weekday().num_days_from_sunday();
        let is_nth = |nth: &Nth| match nth {
            Nth::Number(number) => (date.day() - 1) / 7 + 1 == *number,
            Nth::Last => last_of_month(date).is_some_and(|last| date.day() + 7 > last.day()),
        };
        self.weekdays.numbers.contains(&weekday)
            || self.weekdays.nth.iter().any(|(other, nth)| *other == weekday && is_nth(nth))
    }
}

/// Whether one of the months has one of the days.
fn has_dates(days: &Values, months: &[u32]) -> bool {
    let has_day = |month: &u32| {
        let longest = match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        days.numbers.iter().any(|day| *day <= longest)
    };
    days.star || days.last || days.nearest.is_some() || months.iter().any(has_day)
}

/// Returns the time without a fraction of a second.
fn whole_second(time: NaiveDateTime) -> NaiveDateTime {
    time.with_nanosecond(0).unwrap_or(time)
}

/// Returns the values in order.
pub(super) fn listed(values: &Values, all: RangeInclusive<u32>) -> Vec<u32> {
    if values.star { all.collect() } else { values.numbers.iter().copied().collect() }
}

fn first_from(values: &[u32], least: u32) -> Option<u32> {
    values.iter().copied().find(|value| *value >= least)
}

fn last_until(values: &[u32], most: u32) -> Option<u32> {
    values.iter().copied().rfind(|value| *value <= most)
}

fn last_of_month(date: NaiveDate) -> Option<NaiveDate> {
    (28..=31).rev().find_map(|day| date.with_day(day))
}

/// Returns the day from Monday to Friday that is nearest to this day, in the month of the date.
fn nearest_working_day(date: NaiveDate, day: u32) -> Option<NaiveDate> {
    let wanted = date.with_day(day)?;
    let move_by = match wanted.weekday().num_days_from_monday() {
        5 if day == 1 => 2,
        5 => -1,
        6 if Some(wanted) == last_of_month(date) => -2,
        6 => 1,
        _ => 0,
    };
    wanted.checked_add_signed(TimeDelta::days(move_by))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use chrono::NaiveDateTime;
    use proptest::prelude::*;

    use super::super::expression::Fields;
    use super::Search;

    fn search(expression: &str) -> Search {
        Fields::read(expression).unwrap().into_search()
    }

    fn time(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_and_the_last_time_are_found_across_days_months_and_years() {
        for (expression, from, next, last) in [
            ("30 8 * * *", "2026-07-31T08:29:59", "2026-07-31T08:30:00", "2026-07-30T08:30:00"),
            ("30 8 * * *", "2026-07-31T08:30:00", "2026-08-01T08:30:00", "2026-07-31T08:30:00"),
            ("59 23 31 12 *", "2026-12-31T23:59:01", "2027-12-31T23:59:00", "2026-12-31T23:59:00"),
            ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00", "2024-02-29T00:00:00"),
            ("0 0 29 2 *", "2097-01-01T00:00:00", "2104-02-29T00:00:00", "2096-02-29T00:00:00"),
            ("0 0 l * *", "2026-02-27T12:00:00", "2026-02-28T00:00:00", "2026-01-31T00:00:00"),
            ("0 0 1w * *", "2026-08-02T00:00:00", "2026-08-03T00:00:00", "2026-07-01T00:00:00"),
            ("0 0 28w 2 *", "2026-01-01T00:00:00", "2026-02-27T00:00:00", "2025-02-28T00:00:00"),
            ("0 0 28w 2 *", "2027-01-01T00:00:00", "2027-02-26T00:00:00", "2026-02-27T00:00:00"),
            ("0 0 * * fri#5", "2026-01-31T00:00:00", "2026-05-29T00:00:00", "2026-01-30T00:00:00"),
            ("0 0 * * l5", "2026-02-01T00:00:00", "2026-02-27T00:00:00", "2026-01-30T00:00:00"),
            ("0 0 13 * fri", "2026-02-12T00:00:00", "2026-02-13T00:00:00", "2026-02-06T00:00:00"),
            ("* * * * * 59", "2026-12-31T23:59:59", "2027-01-01T00:00:59", "2026-12-31T23:59:59"),
        ] {
            let search = search(expression);
            let found = (search.after(time(from)), search.at_or_before(time(from)));
            assert_eq!(found, (Some(time(next)), Some(time(last))), "{expression} from {from}");
        }
    }

    #[test]
    fn an_expression_that_selects_nothing_is_not_searched_for() {
        for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            let search = search(expression);
            assert_eq!(search.after(time("2026-01-01T00:00:00")), None, "{expression}");
            assert_eq!(search.at_or_before(time("2026-01-01T00:00:00")), None, "{expression}");
            assert!(!search.has_dates, "{expression}");
        }
        for expression in ["0 0 29 2 *", "0 0 30 2,3 *", "0 0 30 2 mon", "0 0 30,l 2 *", "0 0 28w 2 *", "0 0 * 2 fri#5"]
        {
            let search = search(expression);
            assert!(search.after(time("2026-01-01T00:00:00")).is_some(), "{expression}");
            assert!(search.at_or_before(time("2026-01-01T00:00:00")).is_some(), "{expression}");
        }
    }

    #[test]
    fn a_search_ends_at_the_first_and_the_last_date() {
        let search = search("0 0 1 1 *");
        assert_eq!(search.after(NaiveDateTime::MAX), None);
        assert_eq!(search.at_or_before(NaiveDateTime::MIN), Some(NaiveDateTime::MIN));
        let search = self::search("0 0 2 1 *");
        assert_eq!(search.at_or_before(NaiveDateTime::MIN), None);
    }

    proptest! {
        #[test]
        fn searching_backward_undoes_searching_forward(
            minute in 0..60_u32, hour in 0..24_u32, day in 1..29_u32, weekday in 0..7_u32, form in 0..5_usize,
            seconds in 0..4_000_000_000_i64,
        ) {
            let expression = [
                format!("{minute} {hour} {day} * *"),
                format!("*/{} {hour} * * {weekday}", minute + 1),
                format!("{minute} {hour} {day} * {weekday}"),
                format!("{minute} * * */2 *"),
                format!("{minute} {hour} {day}w * *"),
            ];
            let search = search(&expression[form]);
            let from = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
            let next = search.after(from).unwrap();
            let last = search.at_or_before(from).unwrap();
            prop_assert!(last <= from && from < next);
            // Nothing is between the two.
            prop_assert_eq!(search.after(last), Some(next));
            prop_assert_eq!(search.at_or_before(next - chrono::TimeDelta::seconds(1)), Some(last));
            prop_assert_eq!(search.at_or_after(next), Some(next));
        }
    }
}
