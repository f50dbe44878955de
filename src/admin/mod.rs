//! Web pages about the queue, to mount in an axum application: jobs, queues, schedules, workers, and what operators do
//! with them. They work for jobs of every language, and without script.
//!
//! | item | for |
//! |---|---|
//! | [`AdminPages`] | the pages, as a [`Router`](axum::Router) |
//! | [`Access`], [`Action`] | who may see them, and what a visitor may do |
//! | [`basic_auth`], [`bearer_token`], [`proxy_header`], [`loopback`] | ready-made decisions |
//!
//! The guide has a page about them: [`admin_pages`](crate::guide::admin_pages).
//!
//! # Example
//!
//! ```no_run
//! use axum::Router;
//! use procrastinate::App;
//! use procrastinate::admin::{Access, AdminPages, basic_auth};
//!
//! fn routes(app: &App, password: String) -> Router {
//!     let pages = AdminPages::new(app).access(basic_auth([(Access::operator("ann"), password)]));
//!     Router::new().nest_service("/queue", pages.router())
//! }
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `router`, `shared` | the builder, the routes, and what all pages need |
//! | `guard` | what happens to each request before a page: access, other sites, headers |
//! | `reading` | a transaction in which a page reads |
//! | `layout`, `moment` | what all pages show, and times |
//! | `pages` | one file a page |
//! | `assets` | the stylesheet and the script |

mod access;
mod action;
mod assets;
mod cross_site;
mod guard;
mod hiding;
mod layout;
mod moment;
mod pages;
mod reading;
mod router;
mod shared;
mod sign_in;

pub use access::Access;
pub use action::Action;
pub use router::AdminPages;
pub use sign_in::{basic_auth, bearer_token, loopback, proxy_header};
