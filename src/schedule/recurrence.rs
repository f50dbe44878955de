//! When a schedule ticks: by a cron expression, or at an interval.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::schedule::cron::Cron;

/// When a schedule ticks.
#[derive(Debug, Clone)]
pub(crate) enum Recurrence {
    Cron(Cron),
    /// Every so many seconds, counted from the beginning of 1970, so that all programs agree on the ticks.
    Every(i64),
}

/// The name of the time zone that every program has.
const UTC: &str = "UTC";

impl Recurrence {
    /// Checks a cron expression, and the name of its time zone. Default: UTC.
    pub(crate) fn cron(expression: &str, time_zone: Option<&str>) -> Result<Self, Error> {
        let cron = Cron::new(expression)?;
        match time_zone {
            None | Some(UTC) => Ok(Self::Cron(cron)),
            #[cfg(feature = "chrono-tz")]
            Some(name) => Ok(Self::Cron(cron.in_time_zone(name)?)),
            #[cfg(not(feature = "chrono-tz"))]
            Some(name) => {
                let rule = "must be UTC, because this program is built without the feature chrono-tz of procrastinate";
                Err(Error::invalid("time zone", name, rule))
            }
        }
    }

    /// Checks an interval.
    pub(crate) fn every(interval: Duration) -> Result<Self, Error> {
        match i64::try_from(interval.as_secs()) {
            Ok(seconds @ 1..) if interval.subsec_nanos() == 0 => Ok(Self::Every(seconds)),
            _ => Err(invalid_interval(&format!("{interval:?}"))),
        }
    }

    /// Checks an interval in seconds.
    pub(crate) fn every_seconds(seconds: i64) -> Result<Self, Error> {
        if seconds < 1 { Err(invalid_interval(&format!("{seconds}s"))) } else { Ok(Self::Every(seconds)) }
    }

    /// Returns the first tick after this time.
    pub(crate) fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.after(time).next(),
            Self::Every(seconds) => {
                let next = time.timestamp().div_euclid(*seconds).checked_add(1)?.checked_mul(*seconds)?;
                DateTime::from_timestamp(next, 0)
            }
        }
    }

    /// Formats a time as the clock of the schedule shows it, with its time zone.
    #[cfg(feature = "admin")]
    pub(crate) fn shown(&self, time: DateTime<Utc>) -> String {
        match self {
            Self::Cron(cron) => cron.shown(time),
            Self::Every(_) => time.format(crate::schedule::cron::SHOWN).to_string(),
        }
    }

    /// Returns the last tick at or before this time.
    pub(crate) fn last_until(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.last_until(time),
            Self::Every(seconds) => {
                let last = time.timestamp().div_euclid(*seconds).checked_mul(*seconds)?;
                DateTime::from_timestamp(last, 0)
            }
        }
    }
}

fn invalid_interval(interval: &str) -> Error {
    Error::invalid("interval", interval, "must be a whole number of seconds, at least 1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_has_the_same_ticks_in_every_program() {
        for (seconds, now, last, next) in [
            (600, "2026-11-29T08:09:59.9Z", "2026-11-29T08:00:00Z", "2026-11-29T08:10:00Z"),
            (600, "2026-11-29T08:10:00Z", "2026-11-29T08:10:00Z", "2026-11-29T08:20:00Z"),
            (7, "1970-01-01T00:00:07Z", "1970-01-01T00:00:07Z", "1970-01-01T00:00:14Z"),
            (7, "1969-12-31T23:59:59Z", "1969-12-31T23:59:53Z", "1970-01-01T00:00:00Z"),
            (90_000, "1970-01-02T02:00:00Z", "1970-01-02T01:00:00Z", "1970-01-03T02:00:00Z"),
        ] {
            let recurrence = Recurrence::every(Duration::from_secs(seconds)).unwrap();
            assert_eq!(recurrence.last_until(time(now)), Some(time(last)), "every {seconds} s until {now}");
            assert_eq!(recurrence.next(time(now)), Some(time(next)), "every {seconds} s after {now}");
        }
    }

    #[test]
    fn an_interval_is_a_whole_number_of_seconds() {
        for wrong in [Duration::ZERO, Duration::from_millis(1_500), Duration::MAX] {
            let error = Recurrence::every(wrong).map(drop).unwrap_err().to_string();
            let expected = format!("invalid interval \"{wrong:?}\": must be a whole number of seconds, at least 1");
            assert_eq!(error, expected);
        }
        let longest = Recurrence::every(Duration::from_secs(i64::MAX.unsigned_abs())).unwrap();
        assert_eq!(longest.next(time("2026-11-29T08:00:00Z")), None);
        assert_eq!(longest.last_until(time("2026-11-29T08:00:00Z")), Some(time("1970-01-01T00:00:00Z")));
        assert_eq!(longest.last_until(DateTime::<Utc>::MIN_UTC), None);
    }
}
