//! Ticks in a time zone whose clock changes twice a year.

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

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
    search: croner::Cron,
    keeps_pace: bool,
}

impl Local {
    pub(super) fn new(name: &str, search: croner::Cron, keeps_pace: bool) -> Result<Self, Error> {
        let zone = name.parse().map_err(|_| {
            Error::invalid("time zone", name, "must be a name of the IANA database, such as \"Europe/Vienna\"")
        })?;
        Ok(Self { zone, search, keeps_pace })
    }

    pub(super) fn name(&self) -> &'static str {
        self.zone.name()
    }

    /// The first tick after this time.
    pub(super) fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (earliest, latest) = shown_everywhere();
        let time = time.clamp(earliest, latest);
        if self.keeps_pace {
            // For such schedules the library already behaves as documented.
            let found = self.search.find_next_occurrence(&time.with_timezone(&self.zone), false).ok()?;
            return Some(found.to_utc());
        }
        let mut shown = time.with_timezone(&self.zone).naive_local();
        loop {
            shown = self.search.find_next_occurrence(&shown, false).ok()?;
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
            let found = self.search.find_previous_occurrence(&time.with_timezone(&self.zone), true).ok()?;
            return Some(found.to_utc());
        }
        let local = time.with_timezone(&self.zone).naive_local();
        // Times of day that the clock will show again count already, because they counted the first time.
        let mut shown = match self.zone.from_local_datetime(&local) {
            LocalResult::Ambiguous(first, second) if second <= time => local + (second - first),
            _ => local,
        };
        let mut inclusive = true;
        loop {
            shown = self.search.find_previous_occurrence(&shown, inclusive).ok()?;
            inclusive = false;
            let tick = self.moment(shown)?;
            if tick <= time {
                return Some(tick);
            }
        }
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
        let offset_at = |moment: NaiveDateTime| self.zone.offset_from_utc_datetime(&moment).fix();
        let mut before = shown.checked_sub_signed(BETWEEN_CHANGES)?;
        let mut after = shown.checked_add_signed(BETWEEN_CHANGES)?;
        let old = offset_at(before);
        while after - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
            if offset_at(middle) == old { before = middle } else { after = middle }
        }
        Some(after.and_utc())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use chrono::{DateTime, TimeDelta, Utc};

    use crate::periodic::cron::Cron;

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
    fn an_unknown_zone_is_refused_by_name() {
        let error = Cron::new("@daily").unwrap().in_time_zone("Europe/Wien").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid time zone "Europe/Wien": must be a name of the IANA database, such as "Europe/Vienna""#
        );
    }
}
