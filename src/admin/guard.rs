//! What happens to each request before and after a page.

use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use crate::admin::access::{Access, Refusal};
use crate::admin::cross_site::{is_safe, may_change};
use crate::admin::layout::{Layout, html};
use crate::admin::shared::Shared;

/// A page that could not be shown: a title and what to do. The guard turns it into a page.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    title: String,
    text: String,
    /// Where to go on: the address of a page from the first one, and a text.
    link: Option<(&'static str, &'static str)>,
}

/// How the text begins if the visitor wanted to change something.
const UNCHANGED: &str = "Nothing was changed. ";

impl Problem {
    pub(crate) fn new(status: StatusCode, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, title: title.into(), text: text.into(), link: None }
    }

    /// Leads to another page.
    pub(crate) fn with_link(mut self, page: &'static str, text: &'static str) -> Self {
        self.link = Some((page, text));
        self
    }

    /// The problem of a page that only reads, where a visitor did not want to change anything.
    fn of_reading(mut self) -> Self {
        if let Some(rest) = self.text.strip_prefix(UNCHANGED) {
            self.text = rest.to_owned();
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'p> {
    layout: &'p Layout,
    problem: &'p Problem,
}

/// Refuses visitors without access and changes from other sites. Adds the headers that protect the pages, and how long
/// the page took. Its script asks for the next one the later.
pub(crate) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let access = shared.decide.access_of(&parts);
    parts.extensions.insert(access.clone());
    let layout = match Layout::from_request_parts(&mut parts, &()).await {
        Ok(layout) => layout,
        Err(response) => return response,
    };
    let only_reads = is_safe(&parts.method);
    let mut response = match refusal(&access) {
        Some(response) => response,
        None if !only_reads && !may_change(&parts.headers, &shared.trusted_origins) => Problem::new(
            StatusCode::FORBIDDEN,
            "The request came from another site",
            "Nothing was changed. If a proxy in front of these pages changes the host, the application must name the \
             origin that browsers see: AdminPages::trusted_origin.",
        )
        .into_response(),
        None => next.run(Request::from_parts(parts, body)).await,
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let problem = if only_reads { problem.of_reading() } else { problem };
        let page = html(&ProblemPage { layout: &layout, problem: &problem });
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.extend(page.headers().clone());
        response = Response::from_parts(parts, page.into_body());
    }
    protect(&mut response);
    let took = format!("page;dur={:.1}", began.elapsed().as_secs_f64() * 1_000.0);
    if let Ok(took) = HeaderValue::from_str(&took) {
        response.headers_mut().insert(HeaderName::from_static("server-timing"), took);
    }
    response
}

/// The response to a visitor without access.
fn refusal(access: &Access) -> Option<Response> {
    let problem = |status, text: &str| Problem::new(status, "You cannot see this page", text).into_response();
    match access.visitor().err()? {
        Refusal::Redirect(to) => Some(match HeaderValue::from_str(to) {
            Ok(_) => Redirect::to(to).into_response(),
            Err(_) => problem(StatusCode::FORBIDDEN, "The application redirects to an address that is not valid."),
        }),
        Refusal::Forbidden => Some(problem(
            StatusCode::FORBIDDEN,
            "The application decides who can see these pages. Until it does, they are closed: AdminPages::access.",
        )),
        Refusal::Challenge(scheme) => {
            let mut response = problem(StatusCode::UNAUTHORIZED, "Sign in to see it.");
            let value = format!("{scheme} realm=\"procrastinate\", charset=\"UTF-8\"");
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
            }
            Some(response)
        }
    }
}

/// No page runs a script or a style of anybody else, is shown within another site, or stays in a cache.
fn protect(response: &mut Response) {
    const HEADERS: [(HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not "no-referrer", with which browsers send no origin.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}
