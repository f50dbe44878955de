//! Runs the queue's migrations together with an application's own, as one list or from one directory.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::fs;

use diesel::prelude::*;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use procrastinate::migrations::{
    CombinedMigrations, MIGRATIONS, migration_status, run_pending_migrations, run_pre_migrations, write_migrations,
};
use throwaway_postgres::Server;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Server::start()?;
    let database = server.create_database("migrations")?;
    let mut connection = PgConnection::establish(database.url())?;

    // The application's migrations, with a table that refers to jobs.
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

    // As one list. The queue's migrations come first, in whichever order they are added.
    let of_the_shop = || FileBasedMigrations::from_path(&directory);
    let everything = CombinedMigrations::new().add(of_the_shop()?).add(MIGRATIONS);
    for version in run_pending_migrations(&mut connection, everything)? {
        println!("applied {version}");
    }

    // In the directory they are the same migrations, so nothing is pending. From now on the Diesel CLI can run all of
    // them.
    for path in write_migrations(&directory)? {
        println!("wrote {}", path.file_name().unwrap_or_default().display());
    }
    assert!(!connection.has_pending_migration(of_the_shop()?)?);

    let reverted = connection.revert_last_migration(of_the_shop()?)?;
    println!("reverted {reverted}, the latest of the shop");
    assert_eq!(reverted.to_string(), "20260101000000");

    // A later version of the shop. Changes that break the older version run after it is gone.
    let archive = directory.join("2026-02-01-000000_archive");
    let post = directory.join("2026-02-02-000000_post_drop_orders");
    for (step, up) in [(&archive, "CREATE TABLE archive (id bigint)"), (&post, "DROP TABLE orders")] {
        fs::create_dir_all(step)?;
        fs::write(step.join("up.sql"), up)?;
    }
    println!("before the upgrade: {:?}", run_pre_migrations(&mut connection, of_the_shop()?)?);
    let status = migration_status(&mut connection, of_the_shop()?)?;
    assert!(status.is_ready_for_upgrade() && !status.is_up_to_date());
    println!("after it: {:?}", run_pending_migrations(&mut connection, of_the_shop()?)?);

    fs::remove_dir_all(&directory)?;
    Ok(())
}
