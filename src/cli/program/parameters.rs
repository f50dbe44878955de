//! The parameters of an address. Those that tokio-postgres does not know are taken out of it.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;

/// A parameter, and its place in the address.
struct Parameter<'a> {
    key: Cow<'a, str>,
    value: String,
    place: Range<usize>,
}

/// Takes these parameters out of an address. Returns the rest and the values by their keys, the last one of each key
/// last.
///
/// Both forms of an address are read as tokio-postgres reads them. An address that cannot be read stays as it is, and
/// tokio-postgres says why it is invalid.
pub(crate) fn take(address: &str, keys: &[&str]) -> (String, Vec<(String, String)>) {
    let is_url = address.starts_with("postgres://") || address.starts_with("postgresql://");
    let (start, separator, parameters) = match is_url {
        true => match start_of_parameters(address) {
            Some(start) => (start, "&", of_url(address, start)),
            None => return (address.to_owned(), Vec::new()),
        },
        false => (0, " ", of_keywords(address)),
    };
    let Some(parameters) = parameters else { return (address.to_owned(), Vec::new()) };
    let (taken, kept): (Vec<_>, Vec<_>) = parameters.into_iter().partition(|found| keys.contains(&&*found.key));
    let kept: Vec<&str> = kept.into_iter().map(|kept| &address[kept.place]).collect();
    // Without parameters, the question mark goes, too.
    let before = &address[..start];
    let before = if kept.is_empty() { before.trim_end_matches('?') } else { before };
    let taken = taken.into_iter().map(|taken| (taken.key.into_owned(), taken.value)).collect();
    (format!("{before}{}", kept.join(separator)), taken)
}

/// Returns where the parameters of a URL start. The password may contain a question mark.
fn start_of_parameters(url: &str) -> Option<usize> {
    let after_password = url.find('@').map_or(0, |at| at + 1);
    url[after_password..].find('?').map(|mark| after_password + mark + 1)
}

fn of_url(url: &str, start: usize) -> Option<Vec<Parameter<'_>>> {
    let mut parameters = Vec::new();
    let mut at = start;
    while at < url.len() {
        let equals = at + url[at..].find('=')?;
        let end = url[equals..].find('&').map_or(url.len(), |ampersand| equals + ampersand);
        let key = percent_decode_str(&url[at..equals]).decode_utf8().ok()?;
        let value = percent_decode_str(&url[equals + 1..end]).decode_utf8_lossy().into_owned();
        parameters.push(Parameter { key, value, place: at..end });
        at = end + 1;
    }
    Some(parameters)
}

fn of_keywords(address: &str) -> Option<Vec<Parameter<'_>>> {
    let mut parameters = Vec::new();
    let mut at = skip_spaces(address, 0);
    while at < address.len() {
        let key_end = at + address[at..].find(|c: char| c == '=' || c.is_whitespace())?;
        let equals = skip_spaces(address, key_end);
        if !address[equals..].starts_with('=') {
            return None;
        }
        let (value, end) = value(address, skip_spaces(address, equals + 1))?;
        parameters.push(Parameter { key: Cow::Borrowed(&address[at..key_end]), value, place: at..end });
        at = skip_spaces(address, end);
    }
    Some(parameters)
}

fn skip_spaces(address: &str, at: usize) -> usize {
    address[at..].find(|c: char| !c.is_whitespace()).map_or(address.len(), |spaces| at + spaces)
}

/// Returns the value that starts here, without quotes and backslashes, and where it ends.
fn value(address: &str, start: usize) -> Option<(String, usize)> {
    let is_quoted = address[start..].starts_with('\'');
    let mut value = String::new();
    let mut characters = address[start..].char_indices().skip(usize::from(is_quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if is_quoted => return Some((value, start + at + 1)),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            space if space.is_whitespace() && !is_quoted => return Some((value, start + at)),
            other => value.push(other),
        }
    }
    (!is_quoted).then_some((value, address.len()))
}

#[cfg(test)]
mod tests {
    use super::take;

    #[test]
    fn parameters_are_taken_out_of_both_forms_of_an_address() {
        for (address, rest, taken) in [
            ("postgres://h/shop", "postgres://h/shop", &[][..]),
            ("postgres://h/shop?sslmode=require", "postgres://h/shop", &["sslmode=require"]),
            ("postgresql://h?port=1&sslmode=x&user=b", "postgresql://h?port=1&user=b", &["sslmode=x"]),
            ("postgres://h?ssl%6dode=a&sslmode=b&user=", "postgres://h?user=", &["sslmode=a", "sslmode=b"]),
            ("postgres://h?sslrootcert=%2Fa%20b%2Fca.crt", "postgres://h", &["sslrootcert=/a b/ca.crt"]),
            ("postgres://u:p?sslmode=x@h/d?sslmode=y&user=f", "postgres://u:p?sslmode=x@h/d?user=f", &["sslmode=y"]),
            ("host=h sslmode = require port=5", "host=h port=5", &["sslmode=require"]),
            (r"sslrootcert='/it\'s a' host='h i'", "host='h i'", &["sslrootcert=/it's a"]),
            (r"sslrootcert=a\ b password='sslmode=x'", "password='sslmode=x'", &["sslrootcert=a b"]),
            ("sslmode=require", "", &["sslmode=require"]),
        ] {
            let (found, values) = take(address, &["sslmode", "sslrootcert"]);
            assert_eq!(found, rest, "{address}");
            let values: Vec<_> = values.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(values, taken, "{address}");
            assert!(found.parse::<tokio_postgres::Config>().is_ok(), "{found}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_read_stays_as_it_is() {
        for address in ["", "shop", "sslmode=require host", "sslmode='require", "postgres://h?sslmode=x&y", "a b=c"] {
            assert_eq!(take(address, &["sslmode"]), (address.to_owned(), Vec::new()));
        }
    }
}
