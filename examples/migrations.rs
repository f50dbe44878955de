//! The queue's migrations beside an application's own: as one list, and written into the application's directory.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::fs;

use diesel::prelude::*;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use procrastinate::{CombinedMigrations, MIGRATIONS, run_pending_migrations, write_migrations};
use throwaway_postgres::Server;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Server::start()?;
    let database = server.create_database("migrations")?;
    let mut connection = PgConnection::establish(database.url())?;

    // The application's directory, with a table that refers to jobs.
    let directory = std::env::temp_dir().join(format!("migrations-of-a-shop-{}", std::process::id()));
    let orders = directory.join("2026-01-01-000000_orders");
    fs::create_dir_all(&orders)?;
    fs::write(
        orders.join("up.sql"),
        "CREATE TABLE orders (
             id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
             mail_job_id bigint REFERENCES procrastinate_jobs (id) ON DELETE SET NULL)",
    )?;
    fs::write(orders.join("down.sql"), "DROP TABLE orders")?;

    // One list: the queue's come first, whichever way they are added.
    let of_the_shop = || FileBasedMigrations::from_path(&directory);
    let everything = CombinedMigrations::new().add(of_the_shop()?).add(MIGRATIONS);
    for version in run_pending_migrations(&mut connection, everything)? {
        println!("applied {version}");
    }

    // Written into the directory they are the same migrations, so nothing is pending. From here on the Diesel CLI can do
    // everything by itself.
    for path in write_migrations(&directory)? {
        println!("wrote {}", path.file_name().unwrap_or_default().display());
    }
    assert!(!connection.has_pending_migration(of_the_shop()?)?);

    let reverted = connection.revert_last_migration(of_the_shop()?)?;
    println!("reverted {reverted}, the shop's own newest");
    assert_eq!(reverted.to_string(), "20260101000000");

    fs::remove_dir_all(&directory)?;
    Ok(())
}
