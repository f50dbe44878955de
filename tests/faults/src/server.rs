//! The server under test, and the rig's own connections to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::MigrationHarness;
use procrastinate::DieselConnector;
use procrastinate::migrations::MIGRATIONS;
use throwaway_postgres::{Database, Options, Restart, Server as PrivateServer};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::tasks::pool;

/// How long the rig tries what must succeed.
const PATIENCE: Duration = Duration::from_secs(40);

const WAIT_BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// A private server with a migrated database.
#[derive(Debug)]
pub(crate) struct Server {
    database: Database,
    server: Arc<PrivateServer>,
    pub(crate) address: SocketAddr,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl Server {
    /// Starts a server in this directory, or in the one for temporary files.
    pub(crate) async fn start(parent_directory: Option<&Path>) -> Result<Self, Failure> {
        // What is committed must survive a crash of the server. The machine itself does not crash.
        let mut options = Options::new().ignore_database_url(true).setting("synchronous_commit", "on");
        options = options.setting("full_page_writes", "on").setting("deadlock_timeout", "200ms");
        options = options.setting("max_wal_size", "64MB").setting("log_lock_waits", "on");
        if let Some(directory) = parent_directory {
            options = options.parent_directory(directory);
        }
        let start = move || {
            let server = PrivateServer::start_with(&options)?;
            let database = server.create_database("faults")?;
            Ok::<_, throwaway_postgres::Error>((server, database))
        };
        let (server, database) = tokio::task::spawn_blocking(start).await??;
        let (_, address) = database.url().rsplit_once('@').ok_or("the URL has no address")?;
        let (address, _) = address.split_once('/').ok_or("the URL has no database")?;
        let address = address.parse()?;
        let server = Self { database, server: Arc::new(server), address };
        server.migrate().await?;
        Ok(server)
    }

    /// Returns the URL of the database through a proxy on this port, as the role that owns the database.
    pub(crate) fn url_through(&self, port: u16) -> String {
        self.database.url().replace(&self.address.to_string(), &format!("127.0.0.1:{port}"))
    }

    /// Connects to the database as its owner.
    pub(crate) async fn connect(&self) -> Result<AsyncPgConnection, Failure> {
        connect(self.database.url()).await
    }

    /// Connects to another database of the server as a superuser, whatever the settings of this one are.
    async fn connect_as_superuser(&self) -> Result<AsyncPgConnection, Failure> {
        connect(self.server.url()).await
    }

    /// Runs a statement as a superuser in another database, and tries again until it succeeds. `{name}` in it becomes
    /// the name of the database.
    pub(crate) async fn administer(&self, statement: &str) -> Result<(), Failure> {
        let statement = statement.replace("{name}", &format!("\"{}\"", self.database.name()));
        persist(async || Ok(self.connect_as_superuser().await?.batch_execute(&statement).await?)).await
    }

    /// Returns the process IDs of the sessions in the database.
    pub(crate) async fn sessions(&self) -> Result<Vec<i32>, Failure> {
        let sessions = format!(
            "SELECT pid::bigint AS number FROM pg_stat_activity
            WHERE datname = '{}' AND backend_type = 'client backend' ORDER BY pid",
            self.database.name()
        );
        persist(async || {
            let sessions = numbers(&sessions, &mut self.connect_as_superuser().await?).await?;
            Ok(sessions.into_iter().filter_map(|pid| i32::try_from(pid).ok()).collect())
        })
        .await
    }

    /// Terminates sessions in the database.
    pub(crate) async fn terminate(&self, sessions: &[i32]) -> Result<(), Failure> {
        let sessions: Vec<String> = sessions.iter().map(ToString::to_string).collect();
        let statement =
            format!("SELECT pg_terminate_backend(pid) FROM unnest('{{{}}}'::int[]) AS pid", sessions.join(","));
        self.administer(&statement).await
    }

    /// Changes settings of the database, and terminates all sessions, so that new ones have the settings.
    pub(crate) async fn set_for_all(&self, statements: &str) -> Result<(), Failure> {
        self.administer(statements).await?;
        let sessions = self.sessions().await?;
        self.terminate(&sessions).await
    }

    pub(crate) async fn restart(&self, mode: Restart) -> Result<(), Failure> {
        let server = Arc::clone(&self.server);
        Ok(tokio::task::spawn_blocking(move || server.restart(mode)).await??)
    }

    /// Runs the migrations that are missing.
    pub(crate) async fn migrate(&self) -> Result<(), Failure> {
        let connector = DieselConnector::new(pool(self.database.url()));
        persist(async || connector.run_pending_migrations(MIGRATIONS).await.map(drop).map_err(Failure::from)).await
    }

    /// Reverts the last migrations, and runs them again.
    pub(crate) async fn revert_and_migrate(&self, count: usize) -> Result<(), Failure> {
        let url = self.database.url().to_owned();
        let revert = move || {
            type Blocking = diesel_async::async_connection_wrapper::AsyncConnectionWrapper<AsyncPgConnection>;
            let mut connection = <Blocking as diesel::Connection>::establish(&url)?;
            for _ in 0..count {
                connection.revert_last_migration(MIGRATIONS)?;
            }
            Ok::<_, Failure>(())
        };
        // It waits two seconds for a lock. Then it is tried another time, as the migrations' own runner does.
        let reverted = tokio::task::spawn_blocking(revert).await?;
        self.migrate().await?;
        reverted
    }
}

/// Returns the column `number` of all rows.
pub(crate) async fn numbers(query: &str, connection: &mut AsyncPgConnection) -> Result<Vec<i64>, Failure> {
    let rows: Vec<Number> = diesel::sql_query(query).load(connection).await?;
    Ok(rows.into_iter().map(|row| row.number).collect())
}

async fn connect(url: &str) -> Result<AsyncPgConnection, Failure> {
    Ok(timeout(Duration::from_secs(5), AsyncPgConnection::establish(url)).await??)
}

/// Tries an operation until it succeeds.
pub(crate) async fn persist<T>(mut operation: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match timeout(PATIENCE, operation()).await.unwrap_or_else(|late| Err(late.into())) {
            Err(_) if Instant::now() < deadline => sleep(WAIT_BETWEEN_TRIES).await,
            result => return result,
        }
    }
}
