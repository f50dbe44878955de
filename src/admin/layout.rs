//! What all pages have in common.

use askama::Template;
use axum::Extension;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::admin::access::Access;
use crate::admin::action::Action;
use crate::admin::assets::{ICON, SCRIPT, STYLE};
use crate::admin::moment::Moment;

/// The visitor of a page, and where the page is.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) access: Access,
    /// What leads from this page to the first one: `""`, `"../"`, or the last part of its own address.
    pub(crate) root: String,
    /// The first part of the page's address, as in `jobs`.
    pub(crate) section: String,
    /// The time by the clock of the database.
    pub(crate) now: DateTime<Utc>,
    /// Whether the database has the tables of this crate. One of Python's alone has not.
    pub(crate) has_companions: bool,
}

impl Layout {
    pub(crate) fn visitor(&self) -> &str {
        self.access.visitor().unwrap_or_default()
    }

    pub(crate) fn allows(&self, action: Action) -> bool {
        self.access.allows(action)
    }

    /// Whether the visitor may pause or resume anything.
    pub(crate) fn can_pause(&self) -> bool {
        self.has_companions && (self.allows(Action::Pause) || self.allows(Action::Resume))
    }

    /// Whether the visitor may set or remove any limit.
    pub(crate) fn can_limit(&self) -> bool {
        self.has_companions && (self.allows(Action::SetLimit) || self.allows(Action::RemoveLimit))
    }

    /// Whether buttons are missing that the visitor might look for, because the database is Python's alone.
    pub(crate) fn lacks_buttons(&self) -> bool {
        const SECTIONS: [&str; 4] = ["jobs", "queues", "tasks", "schedules"];
        let is_operator = Action::ALL.into_iter().any(|action| self.allows(action));
        !self.has_companions && is_operator && SECTIONS.contains(&self.section.as_str())
    }

    pub(crate) fn moment(&self, time: &DateTime<Utc>) -> Moment {
        Moment::new(*time, self.now)
    }

    pub(crate) fn style(&self) -> &'static str {
        &STYLE.name
    }

    pub(crate) fn icon(&self) -> &'static str {
        &ICON.name
    }

    pub(crate) fn script(&self) -> &'static str {
        &SCRIPT.name
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Layout {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        // The guard has put it there. Without it, the page stays closed.
        let Ok(Extension(access)) = Extension::<Access>::from_request_parts(parts, state).await else {
            return Err(StatusCode::FORBIDDEN.into_response());
        };
        let uri = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |uri| uri.0.clone());
        let section = parts.uri.path().trim_matches('/').split('/').next().unwrap_or_default().to_owned();
        Ok(Self { access, root: root(uri.path(), parts.uri.path()), section, now: Utc::now(), has_companions: true })
    }
}

/// The relative address of the first page. It is relative because a proxy can serve the pages under another path than
/// the application.
fn root(original: &str, inner: &str) -> String {
    // A slash at the end counts, too: a browser takes what is before it for a folder.
    let depth = if inner.len() <= 1 { 0 } else { inner.matches('/').count() };
    match depth {
        // The address of the first page can end with a slash, or not.
        0 => match original.rsplit_once('/') {
            Some((_, last)) if !last.is_empty() => format!("{last}/"),
            _ => "./".to_owned(),
        },
        1 => "./".to_owned(),
        _ => "../".repeat(depth - 1),
    }
}

/// A page as a response.
pub(crate) fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(action = "admin_error", "could not write a page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::root;

    #[test]
    fn links_are_relative_to_the_first_page() {
        for (original, inner, expected) in [
            ("/", "/", "./"),
            ("/queue", "/", "queue/"),
            ("/queue/", "/", "./"),
            ("/a/queue", "/", "queue/"),
            ("/queue/jobs", "/jobs", "./"),
            ("/jobs/7", "/jobs/7", "../"),
            ("/queue/jobs/7/retry", "/jobs/7/retry", "../../"),
            ("/queue/jobs/", "/jobs/", "../"),
            ("/queue/a//b", "/a//b", "../../"),
        ] {
            assert_eq!(root(original, inner), expected, "{original}");
        }
    }
}
