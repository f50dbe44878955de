//! How PostgreSQL changes values when it stores them.

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::{Number, Value};

/// A bound time: PostgreSQL stores microseconds, and Diesel drops the rest.
pub(super) fn stored_time(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(time)
}

/// A time passed as a text, which PostgreSQL rounds.
pub(super) fn read_time(text: Option<&str>) -> Option<DateTime<Utc>> {
    let time: DateTime<Utc> = text?.parse().ok()?;
    Some(time.duration_round(TimeDelta::microseconds(1)).unwrap_or(time))
}

/// The time this many seconds before another, or the earliest time if there is none.
pub(super) fn seconds_before(now: DateTime<Utc>, seconds: f64) -> DateTime<Utc> {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    now.checked_sub_signed(TimeDelta::microseconds(micros)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Arguments as `jsonb` stores them.
///
/// It keeps numbers as decimals, so a number that Rust writes with an exponent is returned with all its digits. If it
/// is whole, it is returned as an integer. There is no negative zero.
pub(super) fn stored_args(args: Value) -> Value {
    match args {
        Value::Number(number) => Value::Number(stored_number(number)),
        Value::Array(values) => values.into_iter().map(stored_args).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, stored_args(value))).collect(),
        other => other,
    }
}

fn stored_number(number: Number) -> Number {
    let text = number.to_string();
    if text == "-0.0" {
        return Number::from_f64(0.0).unwrap_or(number);
    }
    let Some((digits, Ok(exponent))) =
        text.split_once('e').map(|(digits, exponent)| (digits, exponent.parse::<usize>()))
    else {
        return number;
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > exponent {
        return number;
    }
    let written_out = format!("{whole}{fraction}{}", "0".repeat(exponent - fraction.len()));
    written_out.parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_numbers_are_written_out_and_all_others_stay() {
        for (number, stored) in [
            (json!(1e16), "10000000000000000"),
            (json!(-1.5e17), "-150000000000000000"),
            (json!(1e300), "1e+300"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(0.1), "0.1"),
            (json!(7), "7"),
            (json!(-0.0), "0.0"),
        ] {
            assert_eq!(stored_args(json!({ "n": [number.clone()] })).to_string(), format!(r#"{{"n":[{stored}]}}"#));
        }
    }

    #[test]
    fn a_bound_time_is_cut_and_a_written_one_is_rounded() {
        let time: DateTime<Utc> = "2030-01-01T00:00:00.000000999Z".parse().unwrap();
        assert_eq!(stored_time(time).to_rfc3339(), "2030-01-01T00:00:00+00:00");
        assert_eq!(read_time(Some("2030-01-01T00:00:00.000000999Z")).unwrap().timestamp_subsec_micros(), 1);
        assert_eq!(read_time(None), None);
    }
}
