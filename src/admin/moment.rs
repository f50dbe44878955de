//! Times as the pages show them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A time: how long ago, or in how long. The exact time is for machines and for the pointer; the script shows it in the
/// visitor's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) relative: String,
    /// As in `2026-11-29 22:15:03 UTC`.
    pub(crate) exact: String,
    /// As in `2026-11-29T22:15:03.123Z`.
    pub(crate) machine: String,
}

impl Moment {
    pub(crate) fn new(time: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let distance = time.signed_duration_since(now);
        let relative = if distance.num_seconds() > 0 {
            format!("in {}", span(distance))
        } else if distance.num_seconds() > -1 {
            "now".to_owned()
        } else {
            format!("{} ago", span(-distance))
        };
        Self {
            relative,
            exact: time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            machine: time.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}

/// A length of time in its two largest units, such as `2 h 5 min`.
pub(crate) fn span(length: TimeDelta) -> String {
    let millis = length.num_milliseconds().max(0);
    let seconds = millis / 1_000;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_two_units() {
        for (seconds, expected) in [
            (0.25, "250 ms"),
            (59.0, "59 s"),
            (60.0, "1 min"),
            (61.0, "1 min 1 s"),
            (7_500.0, "2 h 5 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            let length = TimeDelta::from_std(std::time::Duration::from_secs_f64(seconds)).unwrap();
            assert_eq!(span(length), expected);
        }
    }

    #[test]
    fn a_time_is_before_or_after_now() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let at = |seconds| Moment::new(now + TimeDelta::seconds(seconds), now);
        assert_eq!(at(-90).relative, "1 min 30 s ago");
        assert_eq!(at(0).relative, "now");
        assert_eq!(at(3_600).relative, "in 1 h");
        assert_eq!(at(0).exact, "2027-01-15 08:00:00 UTC");
        assert_eq!(at(0).machine, "2027-01-15T08:00:00.000Z");
    }
}
