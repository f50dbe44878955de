//! Connection URLs and SQL names, with their quoting.

use std::fmt::Write as _;

/// Returns the connection string for another database. It supports both forms of PostgreSQL's clients: `postgres://...`
/// and `host=... dbname=...`.
pub(crate) fn with_database(connection: &str, database: &str) -> String {
    let scheme_end = ["postgres://", "postgresql://"]
        .into_iter()
        .find_map(|scheme| connection.starts_with(scheme).then_some(scheme.len()));
    let Some(scheme_end) = scheme_end else {
        // A later value for a keyword replaces an earlier one.
        let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
        return format!("{connection} dbname='{escaped}'");
    };
    let (before_query, query) = connection.split_once('?').unwrap_or((connection, ""));
    let path = before_query[scheme_end..].find('/').map_or(before_query.len(), |slash| scheme_end + slash);
    let mut url = format!("{}/{}", &before_query[..path], percent_encode(database));
    // A parameter with that name would override the path.
    let kept = query.split('&').filter(|parameter| !parameter.is_empty() && !parameter.starts_with("dbname="));
    for (index, parameter) in kept.enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(parameter);
    }
    url
}

/// Returns the URL with another role and its password. It must be the URL of a private cluster.
pub(crate) fn with_account(url: &str, role: &str, password: &str) -> String {
    let (_, rest) = url.rsplit_once('@').unwrap_or(("", url));
    format!("postgres://{}:{}@{rest}", percent_encode(role), percent_encode(password))
}

/// Everything but the unreserved characters of RFC 3986, section 2.3, becomes `%` and two hexadecimal digits.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A name in SQL, whatever characters it has.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_changes_in_a_url() {
        for (given, expected) in [
            ("postgres://u:p@host:5432/app", "postgres://u:p@host:5432/new"),
            ("postgres://u:p@host:5432", "postgres://u:p@host:5432/new"),
            ("postgresql://host/app?sslmode=disable", "postgresql://host/new?sslmode=disable"),
            ("postgres://host?dbname=app&connect_timeout=3", "postgres://host/new?connect_timeout=3"),
            ("postgres:///app?host=/run/postgresql", "postgres:///new?host=/run/postgresql"),
            ("postgres://u:p%2Fq@[::1]:1/a%20b", "postgres://u:p%2Fq@[::1]:1/new"),
            ("host=localhost dbname=app", "host=localhost dbname=app dbname='new'"),
        ] {
            assert_eq!(with_database(given, "new"), expected);
        }
    }

    #[test]
    fn only_the_role_and_its_password_change_in_a_url() {
        let url = with_account("postgres://postgres:secret@127.0.0.1:5432/db", "ada", "s@/");
        assert_eq!(url, "postgres://ada:s%40%2F@127.0.0.1:5432/db");
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(with_database("postgres://h/x", "a b/?\"ü"), "postgres://h/a%20b%2F%3F%22%C3%BC");
        assert_eq!(with_database("host=h", r"it's \"), r"host=h dbname='it\'s \\'");
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }
}
