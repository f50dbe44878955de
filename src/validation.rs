//! Rules for names, locks and arguments. They are checked before a statement is sent.

use std::time::Duration;

use serde_json::Value;

use crate::error::Error;

/// The longest name of a queue or task, in bytes. The columns hold 128 characters. Counting bytes is stricter, and the
/// same for every script.
const LONGEST_NAME: usize = 128;

/// The longest lock, in bytes. PostgreSQL cannot index values over a third of a page: 2,704 bytes with the other
/// column.
const LONGEST_LOCK: usize = 2_600;

/// How deep arguments may be nested, their object included. JSON that is nested deeper is not read: see the limit of
/// `serde_json`.
pub(crate) const DEEPEST_ARGS: usize = 127;

/// The longest age, in PostgreSQL's range of dates.
const LONGEST_AGE: Duration = Duration::from_secs(1_000 * 31_557_600);

/// Checks the name of a queue or task. `what` names the kind.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::invalid(what, name, "must not be empty"));
    }
    if name.len() > LONGEST_NAME {
        let rule = format!("must be at most {LONGEST_NAME} bytes, but is {}", name.len());
        return Err(Error::invalid(what, name, rule));
    }
    check_no_nul(what, name)
}

pub(crate) fn check_lock(what: &'static str, lock: Option<&str>) -> Result<(), Error> {
    let Some(lock) = lock else { return Ok(()) };
    if lock.len() > LONGEST_LOCK {
        let rule = format!("must be at most {LONGEST_LOCK} bytes, but is {}", lock.len());
        return Err(Error::invalid(what, lock, rule));
    }
    check_no_nul(what, lock)
}

/// Checks a value of a filter. Names that are too long to be stored may still be compared.
pub(crate) fn check_filter(what: &'static str, text: Option<&str>) -> Result<(), Error> {
    text.map_or(Ok(()), |text| check_no_nul(what, text))
}

/// The longest text that people write, in bytes.
const LONGEST_TEXT: usize = 10_000;

/// Checks a text that people write, such as a reason.
pub(crate) fn check_text(what: &'static str, text: Option<&str>) -> Result<(), Error> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > LONGEST_TEXT {
        return Err(Error::invalid(what, text, format!("must be at most {LONGEST_TEXT} bytes, but is {}", text.len())));
    }
    check_no_nul(what, text)
}

fn check_no_nul(what: &'static str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::invalid(what, text, "must not contain the NUL character, which PostgreSQL cannot store"));
    }
    Ok(())
}

/// Checks an age: a thousand years at most, so that the date it leads to exists.
pub(crate) fn check_age(what: &'static str, age: Duration) -> Result<(), Error> {
    if age > LONGEST_AGE {
        return Err(Error::invalid(what, format!("{age:?}"), "must be at most 1,000 years"));
    }
    Ok(())
}

/// A longer path to a part of the arguments is not shown.
const LONGEST_PATH: usize = 100;

/// Checks the arguments of a job and returns them: `procrastinate_jobs.args` holds an object.
pub(crate) fn check_args<'a>(task_name: &str, args: &'a Result<Value, serde_json::Error>) -> Result<&'a Value, Error> {
    let args = args.as_ref().map_err(|error| unserializable(task_name, error))?;
    if !args.is_object() {
        return Err(invalid_args(task_name, "must be a JSON object with the arguments by name"));
    }
    match unstorable(args, 0) {
        Some((path, rule)) if path.is_empty() || path.len() > LONGEST_PATH => Err(invalid_args(task_name, rule)),
        Some((path, rule)) => {
            Err(invalid_args(task_name, &format!("{rule}; look at the field {}", path.trim_start_matches('.'))))
        }
        None => Ok(args),
    }
}

/// Returns the path to a part of the arguments that breaks a rule, and the rule. The value is inside this many arrays
/// and objects.
fn unstorable(value: &Value, depth: usize) -> Option<(String, &'static str)> {
    const NUL: &str = "must not contain the NUL character, which PostgreSQL cannot store";
    let here = |rule| Some((String::new(), rule));
    match value {
        Value::Array(_) | Value::Object(_) if depth == DEEPEST_ARGS => {
            here("must not be nested more than 127 levels deep, because no worker could read them")
        }
        Value::String(text) if text.contains('\0') => here(NUL),
        Value::Array(values) => (0..).zip(values).find_map(|(index, value)| {
            unstorable(value, depth + 1).map(|(path, rule)| (format!("[{index}]{path}"), rule))
        }),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            if name.contains('\0') {
                return here(NUL);
            }
            unstorable(value, depth + 1).map(|(path, rule)| (format!(".{name}{path}"), rule))
        }),
        // An application can enable a feature of serde_json with which its numbers have any size.
        Value::Number(number) if number.as_f64().is_none_or(f64::is_infinite) => {
            here("must not contain a number that is out of the range of f64, because no worker could read it")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The error of arguments that cannot be serialized to JSON.
pub(crate) fn unserializable(task_name: &str, error: &serde_json::Error) -> Error {
    invalid_args(task_name, &format!("must be serializable to JSON: {error}"))
}

/// The error of arguments that break a rule. It does not contain them, because they may be secret.
pub(crate) fn invalid_args(task_name: &str, rule: &str) -> Error {
    Error::invalid("arguments of the task", task_name, rule)
}
