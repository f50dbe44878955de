//! A web shop. Its e-mails, invoices and reports are jobs.
//!
//! | file | contents |
//! |---|---|
//! | `orders` | orders, and the jobs that belong to them |
//! | `tasks` | the tasks |
//! | `queue` | the application with its pool, tasks and migrations |
//! | `web` | the pages |
//! | `mail` | sending mails |
//! | `main` | the program, which runs the pages, the worker or both |
#![allow(missing_docs, reason = "an application, not a library")]

pub mod mail;
pub mod orders;
pub mod queue;
pub mod schema;
pub mod tasks;
pub mod web;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8;

use mail::Mailer;

pub type Pool = bb8::Pool<AsyncPgConnection>;

/// The state that pages and tasks share.
#[derive(Debug, Clone)]
pub struct Shop {
    pub pool: Pool,
    pub mailer: Mailer,
}

/// The errors of the shop.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error("invalid amount {amount_cents}: must be at least one cent")]
    FreeOfCharge { amount_cents: i64 },
    #[error("could not get a connection")]
    Pool(#[from] bb8::RunError),
    #[error("database error")]
    Database(#[from] diesel::result::Error),
    #[error("queue error")]
    Queue(#[from] procrastinate::Error),
    #[error("could not send a mail to {address}: {reason}")]
    Mail { address: String, reason: String },
}
