//! Values that people write: on the command line, in the environment and in forms. An error says the rule.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;

/// Parses seconds, like Procrastinate, or a number with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const RULE: &str = "must be a number of seconds, such as 2.5, or have a unit: 500ms, 30s, 5m, 2h, 7d";
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(RULE.to_owned()),
    };
    let number: f64 = number.trim().parse().map_err(|_| RULE.to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| RULE.to_owned())
}

/// Parses a time in ISO 8601. Like in Procrastinate, a time without an offset is in UTC.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    const WITH_OFFSET: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"];
    const WITHOUT: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    let written = text.trim().replacen(' ', "T", 1);
    let written = written.strip_suffix(['Z', 'z']).map_or(written.clone(), |start| format!("{start}+00:00"));
    let exact = WITH_OFFSET.iter().find_map(|format| DateTime::parse_from_str(&written, format).ok());
    if let Some(time) = exact {
        return Ok(time.to_utc());
    }
    let naive = WITHOUT.iter().find_map(|format| NaiveDateTime::parse_from_str(&written, format).ok());
    let midnight = || NaiveDate::parse_from_str(&written, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    naive.or_else(midnight).map(|time| time.and_utc()).ok_or_else(|| {
        "must be a time in ISO 8601, such as 2030-01-31T08:00:00+01:00, or in UTC without an offset".to_owned()
    })
}

/// Parses a priority.
pub(crate) fn priority(text: &str) -> Result<i32, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number from {} to {}", i32::MIN, i32::MAX))
}

/// Parses a maximum number.
#[cfg(feature = "cli")]
pub(crate) fn limit(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number from 0 to {}", u32::MAX))
}

/// Parses a number of jobs that a limit allows.
#[cfg(feature = "admin")]
pub(crate) fn number_of_jobs(text: &str) -> Result<u32, String> {
    let number = text.trim().parse().ok().and_then(|number: i32| u32::try_from(number).ok()).filter(|jobs| *jobs > 0);
    number.ok_or_else(|| format!("must be a whole number from 1 to {}", i32::MAX))
}

/// Parses a JSON object.
#[cfg(feature = "cli")]
pub(crate) fn arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be a JSON object, such as '{\"a\": 3}'".to_owned()),
        Err(error) => Err(format!("must be a JSON object, such as '{{\"a\": 3}}': {error}")),
    }
}

/// Parses a JSON object that somebody has typed into a form.
#[cfg(feature = "admin")]
pub(crate) fn typed_arguments(text: &str) -> Result<Value, String> {
    const RULE: &str = "must be a JSON object, such as {\"order\": 1}";
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(RULE.to_owned()),
        Err(error) if error.is_eof() => Err(format!("{RULE}, but it is not complete")),
        Err(error) => Err(format!("{RULE}; look at line {}, column {}", error.line(), error.column())),
    }
}

/// Parses a JSON object, all of whose numbers a worker of this crate holds exactly: as `i64`, `u64` or `f64`.
#[cfg(feature = "admin")]
pub(crate) fn exact_arguments(text: &str) -> Result<Value, String> {
    let args = typed_arguments(text)?;
    match inexact_number(text) {
        Some(number) => Err(format!("must not have the number {number}, which workers would round")),
        None => Ok(args),
    }
}

/// The first number of a text that is valid JSON that a worker of this crate would round.
#[cfg(feature = "admin")]
pub(crate) fn inexact_number(json: &str) -> Option<&str> {
    numbers(json).into_iter().find(|number| !is_exact(number))
}

/// The numbers of a text that is valid JSON, as they are written.
#[cfg(feature = "admin")]
fn numbers(json: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let mut found = Vec::new();
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[start..];
        let end = if let Some(text) = rest.strip_prefix('"') {
            let mut is_escaped = false;
            let is_end = |c: char| {
                let is_end = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            };
            text.find(is_end).map_or(rest.len(), |quote| quote + 2)
        } else {
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            found.push(&rest[..end]);
            end
        };
        rest = &rest[end..];
    }
    found
}

/// Whether the number stays the same if it is read as `i64` or `u64`, or as `f64` and written again.
#[cfg(feature = "admin")]
fn is_exact(number: &str) -> bool {
    let is_whole = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    is_whole || number.parse::<f64>().is_ok_and(|float| digits(&format!("{float:e}")) == digits(number))
}

/// The digits of a number without zeros at both ends, and the power of ten by which to multiply them.
#[cfg(feature = "admin")]
fn digits(number: &str) -> (String, i64) {
    let number = number.trim_start_matches('-').to_ascii_lowercase();
    let (mantissa, exponent) = number.split_once('e').unwrap_or((&number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let kept = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - kept.len()).unwrap_or(0);
    let power = exponent.parse().unwrap_or(0) + zeros - i64::try_from(fraction.len()).unwrap_or(0);
    let kept = kept.trim_start_matches('0').to_owned();
    if kept.is_empty() { (kept, 0) } else { (kept, power) }
}

#[cfg(test)]
mod tests {
    use super::{DateTime, Duration, Utc, duration, time};

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, seconds) in
            [("2.5", 2.5), ("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("2 h", 7_200.0), ("7d", 604_800.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "-1", "5 weeks", "nan", "inf", "1e400", "h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_in_utc() {
        let expected: DateTime<Utc> = "2030-01-31T07:00:00Z".parse().unwrap();
        for text in [
            "2030-01-31T07:00:00Z",
            "2030-01-31T08:00:00+01:00",
            "2030-01-31T08:00+0100",
            "2030-01-31 07:00:00",
            "2030-01-31T07:00",
            "2030-01-31T07:00:00.000",
        ] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        assert_eq!(time("2030-01-31"), Ok("2030-01-31T00:00:00Z".parse().unwrap()));
        assert!(time("tomorrow").is_err());
    }

    #[cfg(feature = "admin")]
    #[test]
    fn arguments_are_exact_if_no_worker_would_round_a_number() {
        use super::exact_arguments;
        for text in [
            r#"{"a": 18446744073709551615, "b": -9223372036854775808, "c": [0, -0.0, 0.1, 1.10, 1e3, 2.5E-7]}"#,
            r#"{"id": "123456789012345678901234567890", "quote\"5": "\\", "none": null, "yes": true}"#,
            r#"{"large": 1e300, "n": 100000000000000000000000}"#,
        ] {
            assert_eq!(exact_arguments(text), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
        for (text, number) in [
            (r#"{"a": 123456789012345678901234567890}"#, "123456789012345678901234567890"),
            (r#"{"a\\": [1, {"b": 0.1234567890123456789}]}"#, "0.1234567890123456789"),
            (r#"{"a": 1e-400}"#, "1e-400"),
        ] {
            let rule = format!("must not have the number {number}, which workers would round");
            assert_eq!(exact_arguments(text), Err(rule), "{text}");
        }
        assert!(exact_arguments("[]").is_err());
    }
}
