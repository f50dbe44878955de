//! The server, connections, and figures about tables.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::DieselConnector;
use throwaway_postgres::{Database, Options, Restart, Server};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::Measured;

/// The tables of the queue with many rows.
pub(crate) const TABLES: [&str; 2] = ["procrastinate_jobs", "procrastinate_events"];

/// A server with durable storage, and with autovacuum as it is by default.
pub(crate) struct LoadServer {
    // Before the server, because it must be dropped first.
    template: Database,
    server: Server,
}

/// The size of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableSize {
    pub(crate) table_mib: f64,
    pub(crate) indexes_mib: f64,
    pub(crate) live: i64,
    pub(crate) dead: i64,
    pub(crate) vacuums: i64,
}

impl LoadServer {
    pub(crate) fn start() -> Measured<Self> {
        let options = Options::new()
            .ignore_database_url(true)
            .durable(true)
            .setting("shared_buffers", "512MB")
            .setting("max_wal_size", "2GB")
            .setting("max_connections", "400")
            .setting("autovacuum", "on")
            .setting("autovacuum_naptime", "5s");
        let server = Server::start_with(&options)?;
        let template = server.create_database("load")?;
        let url = template.url().to_owned();
        std::thread::spawn(move || {
            use diesel::Connection;
            let mut connection = diesel::PgConnection::establish(&url)?;
            procrastinate::migrations::run_pending_migrations(&mut connection, procrastinate::migrations::MIGRATIONS)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })
        .join()
        .map_err(|_| "the migrations panicked")??;
        Ok(Self { template, server })
    }

    pub(crate) async fn introduction(&self) -> Measured<String> {
        let version: String = connect(self.server.url()).await?.query_one("SHOW server_version", &[]).await?.get(0);
        Ok(format!(
            "procrastinate {}, PostgreSQL {version} on the same machine, which has {} cores; {}",
            env!("CARGO_PKG_VERSION"),
            std::thread::available_parallelism()?,
            if cfg!(debug_assertions) { "DEBUG BUILD, not comparable" } else { "release build" },
        ))
    }

    /// Creates a database with the tables of the queue.
    pub(crate) fn database(&self) -> Measured<Database> {
        Ok(self.server.create_database_from(&self.template, "load")?)
    }

    /// Restarts the server, and waits until it responds.
    pub(crate) async fn restart(&self) -> Measured<()> {
        tokio::task::block_in_place(|| self.server.restart(Restart::Fast))?;
        while connect(self.server.url()).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// A connector with a pool of this size.
pub(crate) async fn connector(url: &str, size: u32) -> Measured<DieselConnector> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    Ok(DieselConnector::new(Pool::builder().max_size(size).build(manager).await?))
}

/// Opens a connection for SQL.
pub(crate) async fn connect(url: &str) -> Measured<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Returns the one number of a query.
pub(crate) async fn number(client: &Client, query: &str) -> Measured<i64> {
    Ok(client.query_one(query, &[]).await?.get(0))
}

/// Returns the size of a table.
pub(crate) async fn size_of(client: &Client, table: &str) -> Measured<TableSize> {
    let row = client
        .query_one(
            "SELECT (pg_table_size($1::text::regclass) / 1048576.0)::float8,
                (pg_indexes_size($1::text::regclass) / 1048576.0)::float8,
                n_live_tup, n_dead_tup, autovacuum_count
            FROM pg_stat_user_tables WHERE relname = $1::text",
            &[&table],
        )
        .await?;
    Ok(TableSize {
        table_mib: row.get(0),
        indexes_mib: row.get(1),
        live: row.get(2),
        dead: row.get(3),
        vacuums: row.get(4),
    })
}
