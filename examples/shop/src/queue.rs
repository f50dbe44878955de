//! The shop's queue: its pool, tasks and migrations.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError, bb8};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use procrastinate::migrations::CombinedMigrations;
use procrastinate::{App, DieselConnector, JobStatus};

use crate::tasks::{mail_invoice, report_sales, send_confirmation, write_invoice};
use crate::{Pool, Shop};

/// The shop's own migrations.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Returns the queue's migrations and the shop's as one list.
///
/// # Errors
///
/// The error of Diesel, if migrations cannot be read.
pub fn migrations() -> CombinedMigrations {
    CombinedMigrations::new().add(procrastinate::migrations::MIGRATIONS).add(MIGRATIONS)
}

pub async fn pool(database_url: &str) -> Result<Pool, PoolError> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
    bb8::Pool::builder().max_size(10).connection_timeout(Duration::from_secs(5)).build(manager).await
}

/// Builds the queue on the shop's pool, with the shop as shared state.
///
/// # Errors
///
/// Returns an error if a task is invalid.
pub fn queue(shop: &Shop) -> Result<App, procrastinate::Error> {
    App::builder(DieselConnector::new(shop.pool.clone()))
        .state(shop.clone())
        .task::<send_confirmation>()
        .task::<write_invoice>()
        .task::<mail_invoice>()
        .task::<report_sales>()
        .worker_defaults(|worker| {
            worker
                .concurrency(5)
                .shutdown_graceful_timeout(Duration::from_secs(20))
                .delete_jobs_older_than(JobStatus::Succeeded, 30 * DAY)
        })
        .build()
}
