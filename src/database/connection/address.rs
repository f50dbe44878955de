//! Reads the address of a database, without showing a password in an error.

use std::error::Error as _;

use tokio_postgres::Config;

/// Parses an address.
///
/// The error is the reason in brackets. It is empty if the reason quotes a part of the address that could be one of the
/// password.
pub(crate) fn parse(address: &str) -> Result<Config, String> {
    address.parse().map_err(|error| reason_without_secrets(address, &error))
}

fn reason_without_secrets(address: &str, error: &tokio_postgres::Error) -> String {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    let parameters = address.split_once('?').map_or("", |(_, parameters)| parameters);
    let is_option = |option: &str| {
        !parameters.contains('@') && option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let is_shown = match reason.strip_prefix("unknown option `") {
        Some(option) => is_option(option.trim_end_matches('`')),
        None => reason.starts_with("invalid value for option ") || reason == "unexpected EOF",
    };
    if is_shown { format!(" ({reason})") } else { String::new() }
}
