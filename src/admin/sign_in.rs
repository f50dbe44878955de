//! Ready-made decisions who a visitor is.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq};

use crate::admin::access::Access;

/// Asks for a name and a password. Nobody can sign in with an empty password. The pages then have to be served over
/// HTTPS, because a browser sends the password with each request.
///
/// # Example
///
/// ```
/// use procrastinate::admin::{Access, basic_auth};
///
/// # fn example(app: &procrastinate::App) {
/// let users = basic_auth([
///     (Access::operator("ann"), "correct horse"),
///     (Access::reader("bob"), "battery staple"),
/// ]);
/// let pages = procrastinate::admin::AdminPages::new(app).access(users);
/// # }
/// ```
pub fn basic_auth<P: Into<String>>(
    users: impl IntoIterator<Item = (Access, P)>,
) -> impl Fn(&Parts) -> Access + Send + Sync + 'static {
    let users: Vec<(Access, Vec<u8>)> = users
        .into_iter()
        .map(|(access, password)| (access, password.into()))
        // A variable that is not set must not open the pages.
        .filter(|(_, password)| !password.is_empty())
        .filter_map(|(access, password)| {
            let secret = format!("{}:{password}", access.visitor().ok()?).into_bytes();
            Some((access, secret))
        })
        .collect();
    move |request| {
        let given = credentials(request, "basic").and_then(|given| STANDARD.decode(given).ok());
        match given {
            Some(given) => choose(&users, &given).unwrap_or_else(|| Access::challenge("Basic")),
            None => Access::challenge("Basic"),
        }
    }
}

/// Expects a token in the header `Authorization: Bearer …`, for programs and for proxies that add it.
///
/// # Example
///
/// ```
/// use procrastinate::admin::{Access, bearer_token};
///
/// # fn example(app: &procrastinate::App) {
/// let token = std::env::var("ADMIN_TOKEN").unwrap_or_default();
/// let pages = procrastinate::admin::AdminPages::new(app).access(bearer_token(Access::operator("deployment"), token));
/// # }
/// ```
pub fn bearer_token(access: Access, token: impl Into<String>) -> impl Fn(&Parts) -> Access + Send + Sync + 'static {
    let users = vec![(access, token.into().into_bytes())];
    move |request| {
        // An empty token would let everybody in who sends none.
        let given = credentials(request, "bearer").filter(|given| !given.is_empty());
        given.and_then(|given| choose(&users, given.as_bytes())).unwrap_or_else(|| Access::challenge("Bearer"))
    }
}

/// Trusts a header with the name of the user, which a proxy in front of the application sets. The function says what
/// this user may do.
///
/// Use it only if every request comes through the proxy, and the proxy removes this header from the requests that it
/// receives.
///
/// # Example
///
/// ```
/// use procrastinate::admin::{Access, proxy_header};
///
/// # fn example(app: &procrastinate::App) {
/// let users = proxy_header("x-forwarded-user", |user| match user {
///     "ann@example.com" => Access::operator(user),
///     _ => Access::reader(user),
/// });
/// let pages = procrastinate::admin::AdminPages::new(app).access(users);
/// # }
/// ```
pub fn proxy_header(
    name: &'static str,
    decide: impl Fn(&str) -> Access + Send + Sync + 'static,
) -> impl Fn(&Parts) -> Access + Send + Sync + 'static {
    move |request| {
        let mut values = request.headers.get_all(name).iter();
        // Two values would be one of the proxy and one of somebody else.
        match (values.next().and_then(|user| user.to_str().ok()), values.next()) {
            (Some(user), None) if !user.is_empty() => decide(user),
            _ => Access::nobody(),
        }
    }
}

/// Lets everybody on this machine in, and nobody else. The application must serve the pages with
/// [`into_make_service_with_connect_info`](axum::Router::into_make_service_with_connect_info). Without it, nobody is
/// let in.
///
/// The address in the browser must be `localhost` or a loopback address, too. Otherwise a site whose name leads to this
/// machine could use the pages through the visitor's browser.
///
/// Behind a proxy on the same machine, all requests come from this machine. So do not use it there.
///
/// # Example
///
/// ```
/// use procrastinate::admin::{Access, loopback};
///
/// # fn example(app: &procrastinate::App) {
/// let pages = procrastinate::admin::AdminPages::new(app).access(loopback(Access::operator("developer")));
/// # }
/// ```
pub fn loopback(access: Access) -> impl Fn(&Parts) -> Access + Send + Sync + 'static {
    move |request| match request.extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) if address.ip().to_canonical().is_loopback() && is_for_loopback(request) => {
            access.clone()
        }
        _ => Access::nobody(),
    }
}

/// Whether the request names this machine as its host.
fn is_for_loopback(request: &Parts) -> bool {
    let header = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has the host in the address.
    let Some(host) = header.or_else(|| request.uri.authority().map(Authority::as_str)) else { return false };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What follows the scheme in the header `Authorization`.
fn credentials<'r>(request: &'r Parts, scheme: &str) -> Option<&'r str> {
    let (given, rest) = request.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// The user with this secret. The time that it takes does not depend on how much of a secret is right.
fn choose(users: &[(Access, Vec<u8>)], given: &[u8]) -> Option<Access> {
    let mut chosen = None;
    for (access, secret) in users {
        let is_equal: Choice = secret.as_slice().ct_eq(given);
        if bool::from(is_equal) {
            chosen = Some(access.clone());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn name(access: &Access) -> Option<String> {
        access.visitor().ok().map(str::to_owned)
    }

    #[test]
    fn a_password_belongs_to_one_name() {
        let users = basic_auth([(Access::operator("ann"), "secret:1"), (Access::reader("bob"), "other")]);
        let of = |credentials: &str| name(&users(&request(&[("authorization", credentials)])));
        let basic = |text: &str| format!("basic {}", STANDARD.encode(text));
        assert_eq!(of(&basic("ann:secret:1")).as_deref(), Some("ann"));
        assert_eq!(of(&basic("bob:other")).as_deref(), Some("bob"));
        for wrong in ["ann:other", "ann:", "ann", ":secret:1", "", "bob:other "] {
            assert_eq!(of(&basic(wrong)), None, "{wrong}");
        }
        let unset = basic_auth([(Access::operator("ann"), "")]);
        assert_eq!(name(&unset(&request(&[("authorization", &basic("ann:"))]))), None);
        assert_eq!(of("Basic !"), None);
        assert_eq!(of("Bearer secret:1"), None);
        assert_eq!(name(&users(&request(&[]))), None);
    }

    #[test]
    fn a_token_is_never_empty() {
        let token = bearer_token(Access::operator("ci"), "t0ken");
        let of = |credentials: &str| name(&token(&request(&[("authorization", credentials)])));
        assert_eq!(of("Bearer t0ken").as_deref(), Some("ci"));
        assert_eq!(of("Bearer t0ke"), None);
        let empty = bearer_token(Access::operator("ci"), "");
        assert_eq!(name(&empty(&request(&[("authorization", "Bearer ")]))), None);
    }

    #[test]
    fn a_header_of_a_proxy_has_one_value() {
        let users = proxy_header("x-user", |user| Access::reader(user));
        assert_eq!(name(&users(&request(&[("x-user", "ann")]))).as_deref(), Some("ann"));
        assert_eq!(name(&users(&request(&[("x-user", "ann"), ("x-user", "bob")]))), None);
        assert_eq!(name(&users(&request(&[("x-user", "")]))), None);
        assert_eq!(name(&users(&request(&[]))), None);
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        let local = loopback(Access::operator("developer"));
        let is_let_in = |from: Option<&str>, host: &[(&str, &str)]| {
            let mut request = request(host);
            if let Some(from) = from {
                request.extensions.insert(ConnectInfo(from.parse::<SocketAddr>().unwrap()));
            }
            name(&local(&request)).is_some()
        };
        for (from, expected) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true), ("10.0.0.1:1", false)]
        {
            assert_eq!(is_let_in(Some(from), &[("host", "localhost:8080")]), expected, "{from}");
        }
        assert!(!is_let_in(None, &[("host", "localhost:8080")]));
        // A site can have a name that leads to this machine.
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("user@localhost", true),
            ("", false),
        ] {
            assert_eq!(is_let_in(Some("127.0.0.1:1"), &[("host", host)]), expected, "{host:?}");
        }
        assert!(!is_let_in(Some("127.0.0.1:1"), &[]));
    }
}
