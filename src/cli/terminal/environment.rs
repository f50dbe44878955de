//! Values from the environment.
//!
//! clap could read them, but it treats an empty variable as a value, while Procrastinate treats it as not set. It also
//! shows the values in its help, including passwords.

use crate::cli::terminal::failure::Failure;

/// Returns the value of a variable that is set and not empty.
pub(crate) fn text(variable: &str) -> Result<Option<String>, Failure> {
    match std::env::var(variable) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("invalid value in the environment variable {variable}: must be UTF-8")))
        }
    }
}

/// Returns the flag's value, or else the variable's.
pub(crate) fn or_variable<T>(
    flag: Option<T>,
    variable: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Failure> {
    if flag.is_some() {
        return Ok(flag);
    }
    let Some(value) = text(variable)? else { return Ok(None) };
    match parse(&value) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(rule) => {
            Err(Failure::usage(format!("invalid value {value:?} in the environment variable {variable}: {rule}")))
        }
    }
}

/// Returns the value of two opposite flags, or else the variable's.
pub(crate) fn switch(on: bool, off: bool, variable: &str) -> Result<Option<bool>, Failure> {
    let flag = if on || off { Some(on) } else { None };
    or_variable(flag, variable, parse_bool)
}

/// Parses a boolean like Procrastinate: only the first letter counts.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text.chars().next().map(|first| first.to_ascii_lowercase()) {
        Some('0' | 'n' | 'f') => Ok(false),
        Some('1' | 'y' | 't') => Ok(true),
        _ => Err("must be 1, y or t for yes, or 0, n or f for no".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bool;

    #[test]
    fn the_first_letter_decides() {
        for yes in ["1", "y", "t", "True", "YES"] {
            assert_eq!(parse_bool(yes), Ok(true));
        }
        for no in ["0", "n", "f", "False", "NO"] {
            assert_eq!(parse_bool(no), Ok(false));
        }
        assert!(parse_bool("on").is_err());
    }
}
