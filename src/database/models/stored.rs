//! Values that PostgreSQL can store and Rust's types cannot hold, read as well as possible. One such value must not
//! make the other rows of a query unreadable.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::data_types::PgTimestamp;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{Jsonb, Nullable, Timestamptz};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::validation::DEEPEST_ARGS;

/// The arguments of a job. A value that is not readable becomes a text with its JSON.
#[derive(Debug, Clone, FromSqlRow)]
pub struct StoredArgs {
    pub(crate) args: Value,
    /// Why the arguments are not as they were deferred, if so.
    pub(crate) problem: Option<String>,
}

impl FromSql<Jsonb, Pg> for StoredArgs {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // PostgreSQL sends jsonb as a version number, which is 1, and the text.
        match value.as_bytes() {
            [1, text @ ..] => Ok(Self::read(text)),
            _ => Err("the database sent jsonb in an unknown format".into()),
        }
    }
}

impl StoredArgs {
    fn read(text: &[u8]) -> Self {
        let error = match serde_json::from_slice(text) {
            Ok(args) => return Self { args, problem: None },
            Err(error) => error,
        };
        let mut problem = None;
        let args = match serde_json::from_slice(text) {
            Ok(raw) => read_part(raw, "", 0, &mut problem),
            Err(_) => Value::String(String::from_utf8_lossy(text).into_owned()),
        };
        Self { args, problem: Some(problem.unwrap_or_else(|| error.to_string())) }
    }
}

impl From<StoredArgs> for Value {
    fn from(stored: StoredArgs) -> Self {
        stored.args
    }
}

/// Reads a part of the arguments, which is at this path and inside this many arrays and objects.
fn read_part(raw: &RawValue, path: &str, depth: usize, problem: &mut Option<String>) -> Value {
    let text = raw.get();
    let is_compound = text.starts_with(['{', '[']);
    if is_compound && depth < DEEPEST_ARGS {
        if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
            let read = |(name, member): (String, &RawValue)| {
                let separator = if path.is_empty() { "" } else { "." };
                let member = read_part(member, &format!("{path}{separator}{name}"), depth + 1, problem);
                (name, member)
            };
            return Value::Object(members.into_iter().map(read).collect());
        }
        if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) {
            let elements = elements.into_iter().zip(0..);
            let read = |(element, index)| read_part(element, &format!("{path}[{index}]"), depth + 1, problem);
            return Value::Array(elements.map(read).collect());
        }
    } else if !is_compound && let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    problem.get_or_insert_with(|| {
        if is_compound {
            format!("the value at {path} is nested more than {DEEPEST_ARGS} levels deep")
        } else {
            format!("the number at {path} is out of the range of Rust's numbers")
        }
    });
    Value::String(text.to_owned())
}

/// A time. One that chrono does not have becomes the earliest or the latest that it has.
#[derive(Debug, Clone, Copy, FromSqlRow)]
pub struct StoredTime(DateTime<Utc>);

impl FromSql<Timestamptz, Pg> for StoredTime {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let PgTimestamp(since_2000) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
        Ok(Self(saturated(since_2000)))
    }
}

impl From<StoredTime> for DateTime<Utc> {
    fn from(stored: StoredTime) -> Self {
        stored.0
    }
}

/// Like [`StoredTime`]. NULL and an infinite time become `None`.
#[derive(Debug, Clone, Copy, FromSqlRow)]
pub struct StoredTimeOrNone(Option<DateTime<Utc>>);

impl FromSql<Nullable<Timestamptz>, Pg> for StoredTimeOrNone {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let PgTimestamp(since_2000) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
        let is_infinite = [i64::MIN, i64::MAX].contains(&since_2000);
        Ok(Self((!is_infinite).then(|| saturated(since_2000))))
    }

    fn from_nullable_sql(value: Option<PgValue<'_>>) -> deserialize::Result<Self> {
        value.map_or(Ok(Self(None)), Self::from_sql)
    }
}

impl From<StoredTimeOrNone> for Option<DateTime<Utc>> {
    fn from(stored: StoredTimeOrNone) -> Self {
        stored.0
    }
}

/// The time at this distance from the year 2000, in microseconds.
fn saturated(since_2000: i64) -> DateTime<Utc> {
    /// The Unix time of the year 2000, in seconds.
    const YEAR_2000: i64 = 946_684_800;
    // A time at the very end cannot be shown in each time zone.
    let margin = TimeDelta::days(2);
    let (earliest, latest) = (DateTime::<Utc>::MIN_UTC + margin, DateTime::<Utc>::MAX_UTC - margin);
    let time = DateTime::from_timestamp(YEAR_2000, 0)
        .and_then(|epoch| epoch.checked_add_signed(TimeDelta::microseconds(since_2000)));
    time.unwrap_or(if since_2000 < 0 { earliest } else { latest }).clamp(earliest, latest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn floats_are_read_to_the_last_bit() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1_000 {
            let float = random.f64() * 1e6;
            let read = StoredArgs::read(&serde_json::to_vec(&float).unwrap());
            assert_eq!(read.args.as_f64().map(f64::to_bits), Some(float.to_bits()), "{float}");
        }
    }

    #[test]
    fn values_that_rust_cannot_hold_become_texts() {
        let huge = format!("1{}", "0".repeat(400));
        let text = format!(r#"{{"a": "ü", "b": [{{"c": {huge}, "d": -7}}], "e": {{}}, "f": 18446744073709551615}}"#);
        let StoredArgs { args, problem } = StoredArgs::read(text.as_bytes());
        assert_eq!(args, json!({ "a": "ü", "b": [{ "c": huge, "d": -7 }], "e": {}, "f": u64::MAX }));
        assert_eq!(problem.unwrap(), "the number at b[0].c is out of the range of Rust's numbers");

        let nested = |depth: usize| format!(r#"{{"a": {}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(StoredArgs::read(nested(DEEPEST_ARGS - 1).as_bytes()).problem, None);
        let StoredArgs { mut args, problem } = StoredArgs::read(nested(100_000).as_bytes());
        assert!(problem.unwrap().ends_with(" is nested more than 127 levels deep"));
        let mut value = args["a"].take();
        for _ in 1..DEEPEST_ARGS {
            value = value[0].take();
        }
        assert!(value.as_str().unwrap().starts_with("[[["), "{value}");
    }

    #[test]
    fn a_time_that_chrono_does_not_have_becomes_the_nearest_one() {
        assert_eq!(saturated(0).to_rfc3339(), "2000-01-01T00:00:00+00:00");
        assert_eq!(saturated(-1).to_rfc3339(), "1999-12-31T23:59:59.999999+00:00");
        assert!(saturated(i64::MAX) > saturated(0) && saturated(i64::MIN) < saturated(0));
        // PostgreSQL's last year, which is beyond chrono's.
        assert_eq!(saturated(9_223_371_331_200_000_000 - 1), saturated(i64::MAX));
        assert!(
            saturated(i64::MAX).with_timezone(&chrono::FixedOffset::east_opt(50_000).unwrap()).to_string().len() > 10
        );
    }
}
