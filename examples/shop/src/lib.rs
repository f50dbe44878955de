//! A web shop. Its e-mails, invoices and reports are jobs.
//!
//! | file | what it is |
//! |---|---|
//! | `orders` | placing an order with its jobs in one transaction; the order with its jobs in one query |
//! | `tasks` | the jobs' code |
//! | `queue` | the shop's pool and tasks as a queue |
//! | `web` | the pages |
//! | `mail` | the mail server |
//! | `main` | the program: web pages, worker, or both |
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

/// What pages and tasks share.
#[derive(Debug, Clone)]
pub struct Shop {
    pub pool: Pool,
    pub mailer: Mailer,
}

/// What can go wrong in the shop.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error("an order costs at least a cent, not {amount_cents}")]
    FreeOfCharge { amount_cents: i64 },
    #[error("the database has no connection to give")]
    Pool(#[from] bb8::RunError),
    #[error("the database refused")]
    Database(#[from] diesel::result::Error),
    #[error("the queue refused")]
    Queue(#[from] procrastinate::Error),
    #[error("no mail was sent to {address}: {reason}")]
    Mail { address: String, reason: String },
}
