//! Formats times for people and for programs.

use chrono::{DateTime, Local, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

use crate::cli::terminal::table::on_one_line;
use crate::queue::explanation::phrase::{Part, Phrase};

/// How times are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The time by the database's clock, from which relative times count.
    pub(crate) now: DateTime<Utc>,
    /// Whether to show the clock time instead of a relative time.
    pub(crate) is_exact: bool,
}

impl Times {
    /// Formats `in 3 min`, or `2030-01-31 08:00:00 +01:00` in the local time zone.
    pub(crate) fn show(self, time: DateTime<Utc>) -> String {
        if self.is_exact {
            return exact(time);
        }
        let distance = time - self.now;
        if distance.num_milliseconds().abs() < 1_000 {
            "now".to_owned()
        } else if distance > TimeDelta::zero() {
            format!("in {}", length(distance))
        } else {
            format!("{} ago", length(-distance))
        }
    }

    /// Formats a text with its times and jobs.
    pub(crate) fn tell(self, phrase: &Phrase) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) | Part::Key(text) => text.clone(),
            Part::Time(time) => self.show(*time),
            Part::Job(_, text) => on_one_line(text),
            Part::OrRetry => ", or use `retry`".to_owned(),
        };
        phrase.0.iter().map(part).collect()
    }

    pub(crate) fn show_some(self, time: Option<DateTime<Utc>>) -> String {
        time.map_or_else(String::new, |time| self.show(time))
    }
}

/// Formats the clock time in the local time zone, with its offset.
pub(crate) fn exact(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// Formats a time for programs: RFC 3339 in UTC.
pub(crate) fn json(time: Option<DateTime<Utc>>) -> Value {
    time.map_or(Value::Null, |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
}

/// Formats a length of time in one suitable unit.
pub(crate) fn length(length: TimeDelta) -> String {
    let seconds = length.num_seconds();
    match seconds {
        ..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", (seconds + 30) / 60),
        6_000..172_800 => format!("{} h", (seconds + 1_800) / 3_600),
        172_800..63_072_000 => format!("{} days", (seconds + 43_200) / 86_400),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::{TimeDelta, Times, Utc};

    #[test]
    fn times_are_shown_relative_to_now() {
        let times = Times { now: Utc::now(), is_exact: false };
        for (seconds, expected) in [
            (0, "now"),
            (45, "in 45 s"),
            (180, "in 3 min"),
            (-7_200, "2 h ago"),
            (-86_400 * 3, "3 days ago"),
            (31_536_000 * 4, "in 4 years"),
        ] {
            assert_eq!(times.show(times.now + TimeDelta::seconds(seconds)), expected);
        }
    }
}
