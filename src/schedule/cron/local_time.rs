//! Ticks in a time zone whose clock changes twice a year.

use std::sync::Arc;

use chrono::offset::LocalResult;
use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::search::Search;
use crate::error::Error;

/// A clock changes at most once within this time.
const BETWEEN_CHANGES: TimeDelta = TimeDelta::days(1);

/// The times that can be shown in every time zone.
fn shown_everywhere() -> (DateTime<Utc>, DateTime<Utc>) {
    let margin = TimeDelta::days(2);
    (DateTime::<Utc>::MIN_UTC + margin, DateTime::<Utc>::MAX_UTC - margin)
}

/// A schedule in a time zone.
#[derive(Clone)]
pub(super) struct Local {
    zone: Tz,
    search: Arc<Search>,
    keeps_pace: bool,
}

impl Local {
    pub(super) fn new(name: &str, search: Arc<Search>, keeps_pace: bool) -> Result<Self, Error> {
        let zone = name.parse().map_err(|_| {
            Error::invalid("time zone", name, "must be a name of the IANA database, such as \"Europe/Vienna\"")
        })?;
        Ok(Self { zone, search, keeps_pace })
    }

    pub(super) fn name(&self) -> &'static str {
        self.zone.name()
    }

    /// Formats a time as the clock shows it.
    #[cfg(feature = "admin")]
    pub(super) fn shown(&self, time: DateTime<Utc>) -> String {
        let (earliest, latest) = shown_everywhere();
        time.clamp(earliest, latest).with_timezone(&self.zone).format(super::SHOWN).to_string()
    }

    /// The first tick after this time.
    pub(super) fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (earliest, latest) = shown_everywhere();
        if time >= latest {
            return None;
        }
        let time = time.max(earliest);
        // Ticks are whole seconds.
        let time = time.with_nanosecond(0).unwrap_or(time);
        if self.keeps_pace {
            return self.next_at_pace(time);
        }
        let mut shown = self.shown_at(time);
        loop {
            shown = self.search.after(shown)?;
            let tick = self.moment(shown)?;
            // While a time of day repeats, the tick can be earlier.
            if tick > time {
                return Some(tick);
            }
        }
    }

    /// The last tick at or before this time.
    pub(super) fn last_until(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (earliest, latest) = shown_everywhere();
        if time < earliest {
            return None;
        }
        let time = time.min(latest);
        let time = time.with_nanosecond(0).unwrap_or(time);
        if self.keeps_pace {
            return self.last_at_pace(time);
        }
        let local = self.shown_at(time);
        // Times of day that the clock will show again count already, because they counted the first time.
        let mut shown = match self.zone.from_local_datetime(&local) {
            LocalResult::Ambiguous(first, second) if second <= time => local + (second - first),
            _ => local,
        };
        shown = self.search.at_or_before(shown)?;
        loop {
            let tick = self.moment(shown)?;
            if tick <= time {
                return Some(tick);
            }
            shown = self.search.before(shown)?;
        }
    }

    /// The first tick after this time of a schedule that keeps its pace. It ticks whenever the clock shows a time that
    /// the expression selects, so twice for a time that the clock shows twice.
    fn next_at_pace(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = time;
        let mut shown = self.search.after(self.shown_at(time))?;
        loop {
            let offset = self.offset_at(from);
            let found = shown.checked_sub_offset(offset)?.and_utc();
            let until = found.min(from.checked_add_signed(BETWEEN_CHANGES)?);
            if self.offset_at(until) != offset {
                from = self.change_between(from, until);
                shown = self.search.at_or_after(self.shown_at(from))?;
            } else if until == found {
                return Some(found);
            } else {
                // No change is before `until`. Changes that are far from the tick do not matter.
                from = until.max(found - BETWEEN_CHANGES * 2);
            }
        }
    }

    /// The last tick at or before this time of a schedule that keeps its pace.
    fn last_at_pace(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = time;
        let mut shown = self.search.at_or_before(self.shown_at(time))?;
        loop {
            let offset = self.offset_at(from);
            let found = shown.checked_sub_offset(offset)?.and_utc();
            let until = found.max(from.checked_sub_signed(BETWEEN_CHANGES)?);
            if self.offset_at(until) != offset {
                from = self.change_between(until, from) - TimeDelta::seconds(1);
                shown = self.search.at_or_before(self.shown_at(from))?;
            } else if until == found {
                return Some(found);
            } else {
                from = until.min(found + BETWEEN_CHANGES * 2);
            }
        }
    }

    fn offset_at(&self, time: DateTime<Utc>) -> FixedOffset {
        self.zone.offset_from_utc_datetime(&time.naive_utc()).fix()
    }

    fn shown_at(&self, time: DateTime<Utc>) -> NaiveDateTime {
        time.with_timezone(&self.zone).naive_local()
    }

    /// The first second with the later offset. The clock changes once between the two times, which are whole seconds.
    fn change_between(&self, mut before: DateTime<Utc>, mut after: DateTime<Utc>) -> DateTime<Utc> {
        let old = self.offset_at(before);
        while after - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
            if self.offset_at(middle) == old { before = middle } else { after = middle }
        }
        after
    }

    /// The moment at which the clock shows this: the first time if it does so twice, right after the gap if it never
    /// does.
    fn moment(&self, shown: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&shown) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => Some(moment.to_utc()),
            LocalResult::None => self.end_of_gap(shown),
        }
    }

    /// The first moment after the gap that contains this time of day.
    fn end_of_gap(&self, shown: NaiveDateTime) -> Option<DateTime<Utc>> {
        let before = shown.checked_sub_signed(BETWEEN_CHANGES)?;
        let after = shown.checked_add_signed(BETWEEN_CHANGES)?;
        Some(self.change_between(before.and_utc(), after.and_utc()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use chrono::{DateTime, TimeDelta, Utc};

    use crate::schedule::cron::Cron;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn ticks(expression: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let cron = Cron::new(expression).unwrap().in_time_zone(zone).unwrap();
        cron.between(time(from), time(to)).map(|tick| tick.format("%dT%H:%M").to_string()).collect()
    }

    /// In Vienna, the clock skipped 2:00 to 3:00 on this night.
    fn in_spring(expression: &str) -> Vec<String> {
        ticks(expression, "Europe/Vienna", "2026-03-28T22:59:59Z", "2026-03-29T02:59:59Z")
    }

    /// In Vienna, the clock showed 2:00 to 3:00 twice on this night.
    fn in_autumn(expression: &str) -> Vec<String> {
        ticks(expression, "Europe/Vienna", "2026-10-24T22:59:59Z", "2026-10-25T02:59:59Z")
    }

    #[test]
    fn a_skipped_time_of_day_runs_at_the_first_moment_after_the_gap() {
        assert_eq!(in_spring("30 2 * * *"), ["29T01:00"]);
        assert_eq!(in_spring("0 2,4 * * *"), ["29T01:00", "29T02:00"]);
        // Three times of day that coincide count once.
        assert_eq!(in_spring("0,20,40 2-3 * * *"), ["29T01:00", "29T01:20", "29T01:40"]);
        assert_eq!(in_spring("59 1 * * *"), ["29T00:59"]);
        // A gap of half an hour, and one of a whole day.
        let half = ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T23:00:00Z");
        assert_eq!(half, ["03T15:30"]);
        let day = ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z");
        assert_eq!(day, ["29T22:00", "30T10:00", "30T22:00", "31T22:00"]);
    }

    #[test]
    fn a_repeated_time_of_day_counts_only_the_first_time() {
        assert_eq!(in_autumn("30 2 * * *"), ["25T00:30"]);
        assert_eq!(
            in_autumn("0,30 1,2,3 * * *"),
            ["24T23:00", "24T23:30", "25T00:00", "25T00:30", "25T02:00", "25T02:30"]
        );
    }

    #[test]
    fn a_schedule_without_hours_or_minutes_keeps_its_pace() {
        assert_eq!(in_spring("30 * * * *"), ["28T23:30", "29T00:30", "29T01:30", "29T02:30"]);
        assert_eq!(in_spring("*/30 2 * * *"), [""; 0]);
        assert_eq!(in_autumn("30 * * * *"), ["24T23:30", "25T00:30", "25T01:30", "25T02:30"]);
        assert_eq!(in_autumn("*/30 2 * * *"), ["25T00:00", "25T00:30", "25T01:00", "25T01:30"]);
    }

    #[test]
    fn searching_backward_finds_what_searching_forward_finds() {
        for (zone, start) in [
            ("Europe/Vienna", "2026-03-28T20:00:00Z"),
            ("Europe/Vienna", "2026-10-24T20:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T10:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T10:00:00Z"),
            ("America/St_Johns", "2026-11-01T00:00:00Z"),
            ("Pacific/Apia", "2011-12-30T00:00:00Z"),
        ] {
            for expression in
                ["30 2 * * *", "0,10,59 1-3 * * *", "*/7 * * * *", "*/7 2 * * *", "0 0 * * *", "0 */2 * * *"]
            {
                let cron = Cron::new(expression).unwrap().in_time_zone(zone).unwrap();
                let (start, end) = (time(start), time(start) + TimeDelta::hours(14));
                let all: Vec<_> = cron.between(start, end).collect();
                assert!(all.is_sorted_by(|one, next| one < next), "{expression} in {zone}: {all:?}");
                for minutes in 1..14 * 60 {
                    let moment = start + TimeDelta::minutes(minutes) + TimeDelta::milliseconds(500);
                    let next = all.iter().find(|tick| **tick > moment);
                    let last = all.iter().rfind(|tick| **tick <= moment);
                    if let Some(next) = next {
                        assert_eq!(
                            cron.after(moment).next().as_ref(),
                            Some(next),
                            "{expression} in {zone} at {moment}"
                        );
                    }
                    if let Some(last) = last {
                        assert_eq!(cron.last_until(moment).as_ref(), Some(last), "{expression} in {zone} at {moment}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_schedule_that_keeps_its_pace_ticks_whenever_the_clock_shows_one_of_its_times() {
        for (zone, start) in [
            ("Europe/Vienna", "2026-03-28T20:00:00Z"),
            ("Europe/Vienna", "2026-10-24T20:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T10:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T10:00:00Z"),
            ("America/St_Johns", "2026-11-01T00:00:00Z"),
            ("Pacific/Apia", "2011-12-30T00:00:00Z"),
        ] {
            for expression in ["*/7 * * * *", "*/7 2 * * *", "0 */2 * * *", "15 * * * *", "*/20 1-2 25,29 * *"] {
                let cron = Cron::new(expression).unwrap().in_time_zone(zone).unwrap();
                let tz: chrono_tz::Tz = zone.parse().unwrap();
                let (start, end) = (time(start), time(start) + TimeDelta::hours(30));
                let minutes = (1..=30 * 60).map(|minutes| start + TimeDelta::minutes(minutes));
                let expected: Vec<_> = minutes
                    .filter(|minute| {
                        let shown = minute.with_timezone(&tz).naive_local();
                        cron.search.at_or_after(shown) == Some(shown)
                    })
                    .collect();
                let found: Vec<_> = cron.between(start, end).collect();
                assert_eq!(found, expected, "{expression} in {zone}");
                assert_eq!(cron.last_until(end), expected.last().copied().or_else(|| cron.last_until(start)));
            }
        }
    }

    #[test]
    fn a_schedule_that_keeps_its_pace_is_found_across_years_and_ends_without_ticks() {
        let cron = Cron::new("*/30 2 29 2 *").unwrap().in_time_zone("Europe/Vienna").unwrap();
        assert_eq!(cron.after(time("2026-01-01T00:00:00Z")).next(), Some(time("2028-02-29T01:00:00Z")));
        assert_eq!(cron.last_until(time("2026-01-01T00:00:00Z")), Some(time("2024-02-29T01:30:00Z")));
        let none = Cron::new("*/30 2 30 2 *").unwrap().in_time_zone("Europe/Vienna").unwrap();
        assert_eq!(none.after(time("2026-01-01T00:00:00Z")).next(), None);
        assert_eq!(none.last_until(time("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let error = Cron::new("@daily").unwrap().in_time_zone("Europe/Wien").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid time zone "Europe/Wien": must be a name of the IANA database, such as "Europe/Vienna""#
        );
    }
}
