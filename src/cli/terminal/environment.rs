//! Values that come from the environment where no flag gives them.
//!
//! clap could read them, but takes an empty variable for a value, where Procrastinate takes it for none, and shows values
//! in its help, passwords too.

use crate::cli::terminal::failure::Failure;

/// The value of a variable that is set and not empty.
pub(crate) fn text(variable: &str) -> Result<Option<String>, Failure> {
    match std::env::var(variable) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("the environment variable {variable} is no text in UTF-8")))
        }
    }
}

/// The flag's value, or else the variable's.
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

/// Either of two flags that say the opposite of each other, or else the variable.
pub(crate) fn switch(on: bool, off: bool, variable: &str) -> Result<Option<bool>, Failure> {
    let flag = if on || off { Some(on) } else { None };
    or_variable(flag, variable, parse_bool)
}

/// As Procrastinate reads it: the first letter counts.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text.chars().next().map(|first| first.to_ascii_lowercase()) {
        Some('0' | 'n' | 'f') => Ok(false),
        Some('1' | 'y' | 't') => Ok(true),
        _ => Err("it is 1, y or t for yes, and 0, n or f for no".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bool;

    #[test]
    fn the_first_letter_says_yes_or_no() {
        for yes in ["1", "y", "t", "True", "YES"] {
            assert_eq!(parse_bool(yes), Ok(true));
        }
        for no in ["0", "n", "f", "False", "NO"] {
            assert_eq!(parse_bool(no), Ok(false));
        }
        assert!(parse_bool("on").is_err());
    }
}
