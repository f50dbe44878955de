//! The pages as a router.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::admin::access::{Access, Decide};
use crate::admin::assets::asset;
use crate::admin::guard::guard;
use crate::admin::hiding::Hiding;
use crate::admin::pages;
use crate::admin::pages::overview::cache::OverviewCache;
use crate::admin::shared::Shared;
use crate::app::App;

/// How long a statement of a page may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The admin pages of an application. See [`admin`](crate::admin).
///
/// # Example
///
/// ```no_run
/// use axum::Router;
/// use procrastinate::admin::{Access, AdminPages};
///
/// # #[derive(Clone)] struct User { name: String, is_admin: bool }
/// # fn example(app: &procrastinate::App) -> Router {
/// // The application's own sign-in has put the user into the request before.
/// let pages = AdminPages::new(app).access(|request| match request.extensions.get::<User>() {
///     Some(user) if user.is_admin => Access::operator(&user.name),
///     Some(user) => Access::reader(&user.name),
///     None => Access::redirect("/login"),
/// });
/// Router::new().nest_service("/queue", pages.router())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct AdminPages(Shared);

impl AdminPages {
    /// The pages about the queue of this application. They are closed until [`access`](Self::access) opens them.
    pub fn new(app: &App) -> Self {
        Self(Shared {
            app: app.clone(),
            decide: Decide::new(|_| Access::nobody()),
            trusted_origins: Vec::new(),
            statement_timeout: STATEMENT_TIMEOUT,
            hiding: Hiding::default(),
        })
    }

    /// Decides for each request who the visitor is, and what the visitor may do. Default: nobody sees anything.
    ///
    /// The function must not block. If a decision takes a query, make it in a middleware of the application around the
    /// pages, and put its result into the extensions of the request.
    pub fn access(mut self, decide: impl Fn(&Parts) -> Access + Send + Sync + 'static) -> Self {
        self.0.decide = Decide::new(decide);
        self
    }

    /// Accepts changes from forms of this origin, such as `https://portal.example.com`, too. That is needed behind a
    /// proxy that changes the header `Host`, if the pages are served over plain HTTP. Default: only from the pages
    /// themselves.
    pub fn trusted_origin(mut self, origin: impl Into<String>) -> Self {
        self.0.trusted_origins.push(origin.into());
        self
    }

    /// How long the server may take for one statement of a page. Default: five seconds.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.0.statement_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Hides the value of a field in the arguments of all tasks, at any depth. Upper and lower case do not matter.
    ///
    /// As soon as anything is hidden, visitors search for a text in errors only, because a search in arguments would
    /// tell what is in them. Errors, locks and queueing locks are shown as they are.
    pub fn hide_field(mut self, name: impl AsRef<str>) -> Self {
        self.0.hiding.hide_field(None, name.as_ref());
        self
    }

    /// Hides the value of a field in the arguments of one task, as [`hide_field`](Self::hide_field) does.
    pub fn hide_field_of(mut self, task: impl Into<String>, name: impl AsRef<str>) -> Self {
        self.0.hiding.hide_field(Some(task.into()), name.as_ref());
        self
    }

    /// Hides all arguments of a task. See [`hide_field`](Self::hide_field).
    pub fn hide_arguments_of(mut self, task: impl Into<String>) -> Self {
        self.0.hiding.hide_all_of(task.into());
        self
    }

    /// The pages, for [`nest_service`](Router::nest_service) in the application's router under any path. It answers the
    /// path with a slash at its end, too, and fits a router with a state.
    pub fn router(self) -> Router {
        let shared = Arc::new(self.0);
        Router::new()
            .route("/", get(pages::overview::overview))
            // A link to the first page works with and without a slash at the end of its path.
            .route("/overview", get(pages::overview::overview))
            .route("/jobs", get(pages::jobs::jobs))
            .route("/jobs/change", post(pages::change::change_jobs))
            .route("/jobs/defer", get(pages::forms::defer::form).post(pages::forms::defer::defer))
            .route("/jobs/{id}", get(pages::job::job))
            .route("/jobs/{id}/change", post(pages::change::change_job))
            .route("/queues", get(pages::queues::queues))
            .route("/queues/change", post(pages::queues::change_queue))
            .route("/queues/limit", get(pages::forms::limits::limits).post(pages::forms::limits::change))
            .route("/schedules", get(pages::schedules::schedules))
            .route("/schedules/show", get(pages::schedules::schedule))
            .route("/schedules/new", get(pages::schedules::form::new).post(pages::schedules::form::create))
            .route("/schedules/edit", get(pages::schedules::form::edit).post(pages::schedules::form::save))
            .route("/schedules/change", post(pages::schedules::change::change))
            .route("/tasks", get(pages::tasks::tasks))
            .route("/locks", get(pages::locks::locks))
            .route("/actions", get(pages::actions::actions))
            .route("/workers", get(pages::workers::workers))
            .fallback(pages::not_found)
            .method_not_allowed_fallback(pages::only_forms)
            .layer(Extension(OverviewCache::default()))
            .layer(axum::middleware::from_fn(pages::address::without_nul))
            .layer(axum::middleware::from_fn_with_state(shared.clone(), guard))
            .route("/assets/{name}", get(asset))
            .with_state(shared)
    }
}
