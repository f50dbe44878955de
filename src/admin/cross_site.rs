//! Refuses requests that another site has a browser send.
//!
//! A browser sends the credentials of a visitor with a form of any site. It also says where the form is from, in the
//! header `Sec-Fetch-Site`. It does so only for HTTPS and for this machine, so for plain HTTP the header `Origin` is
//! compared with `Host`.

use axum::http::{HeaderMap, Method, header};

/// Whether the request may change something.
///
/// A request with neither header is not from a browser, or from a very old one. It must carry credentials that a
/// browser does not add on its own.
pub(crate) fn may_change(headers: &HeaderMap, trusted_origins: &[String]) -> bool {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = value("origin");
    if origin.is_some_and(|origin| trusted_origins.iter().any(|trusted| trusted == origin)) {
        return true;
    }
    match (value("sec-fetch-site"), origin) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = value(header::HOST.as_str());
            origin.split_once("://").is_some_and(|(_, origin_host)| Some(origin_host) == host)
        }
        (None, None) => headers.contains_key(header::AUTHORIZATION),
    }
}

/// Whether a request with this method changes nothing.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::may_change;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_forms_of_the_same_origin_may_change_something() {
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("authorization", "Basic eDp5")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("host", "evil.example")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://portal.example")], true),
            (&[("origin", "http://queue.intranet:8080"), ("host", "queue.intranet:8080")], true),
            (&[("origin", "http://queue.intranet"), ("host", "queue.intranet:8080")], false),
            (&[("origin", "http://evil.example"), ("host", "queue.intranet:8080")], false),
            (&[("origin", "null"), ("host", "null")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://queue.intranet")], false),
            (&[("origin", "http://portal.example")], false),
            (&[("host", "queue.intranet")], false),
            (&[("host", "queue.intranet"), ("authorization", "Bearer x")], true),
        ];
        for (lines, expected) in cases {
            let trusted = ["https://portal.example".to_owned()];
            assert_eq!(may_change(&headers(lines), &trusted), *expected, "{lines:?}");
        }
    }
}
