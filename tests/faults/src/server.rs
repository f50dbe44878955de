//! The server under test, and the rig's own connections to it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::MigrationHarness;
use procrastinate::DieselConnector;
use procrastinate::migrations::MIGRATIONS;
use throwaway_postgres::{Options, Restart, Server as PrivateServer};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::tasks::pool;

/// How long the rig tries what must succeed.
const PATIENCE: Duration = Duration::from_secs(40);

const WAIT_BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// A private server with a migrated database.
pub(crate) struct Server {
    options: Options,
    /// The name of the database.
    pub(crate) name: String,
    /// The URL of the database on the first server, as its owner.
    first_url: String,
    first_address: SocketAddr,
    /// The server that runs now.
    current: RwLock<Current>,
}

/// The first server, or the standby that was promoted last.
#[derive(Clone)]
struct Current {
    server: Arc<PrivateServer>,
    address: SocketAddr,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
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
        let start = {
            let options = options.clone();
            move || {
                let server = PrivateServer::start_with(&options)?;
                let database = server.create_database("faults")?;
                let (name, url) = (database.name().to_owned(), database.url().to_owned());
                // A database is dropped with its value. This one ends with its server.
                std::mem::forget(database);
                Ok::<_, throwaway_postgres::Error>((server, name, url))
            }
        };
        let (server, name, first_url) = tokio::task::spawn_blocking(start).await??;
        let first_address = address_of(&first_url)?;
        let current = RwLock::new(Current { server: Arc::new(server), address: first_address });
        let server = Self { options, name, first_url, first_address, current };
        server.migrate().await?;
        Ok(server)
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the address of the server that runs now.
    pub(crate) fn address(&self) -> SocketAddr {
        self.current().address
    }

    /// Returns the URL of the database at this address, as the role that owns the database.
    fn url_at(&self, address: &str) -> String {
        self.first_url.replace(&self.first_address.to_string(), address)
    }

    /// Returns the URL of the database through a proxy on this port.
    pub(crate) fn url_through(&self, port: u16) -> String {
        self.url_at(&format!("127.0.0.1:{port}"))
    }

    /// Returns the URL of the database without a proxy.
    pub(crate) fn url(&self) -> String {
        self.url_at(&self.address().to_string())
    }

    /// Returns the URL of another database of the same owner.
    pub(crate) fn url_of(&self, database: &str) -> String {
        self.url().replace(&self.name, database)
    }

    /// Connects to the database as its owner.
    pub(crate) async fn connect(&self) -> Result<AsyncPgConnection, Failure> {
        connect(&self.url()).await
    }

    /// Connects to another database of the server as a superuser, whatever the settings of this one are.
    pub(crate) async fn connect_as_superuser(&self) -> Result<AsyncPgConnection, Failure> {
        connect(self.current().server.url()).await
    }

    /// Runs a statement as a superuser in another database, and tries again until it succeeds. `{name}` in it becomes
    /// the name of the database.
    pub(crate) async fn administer(&self, statement: &str) -> Result<(), Failure> {
        let statement = statement.replace("{name}", &format!("\"{}\"", self.name));
        persist(async || Ok(self.connect_as_superuser().await?.batch_execute(&statement).await?)).await
    }

    /// Returns the process IDs of the sessions in the database.
    pub(crate) async fn sessions(&self) -> Result<Vec<i32>, Failure> {
        let sessions = format!(
            "SELECT pid::bigint AS number FROM pg_stat_activity
            WHERE datname = '{}' AND backend_type = 'client backend' ORDER BY pid",
            self.name
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
        let server = self.current().server;
        Ok(tokio::task::spawn_blocking(move || server.restart(mode)).await??)
    }

    /// Runs the migrations that are missing.
    pub(crate) async fn migrate(&self) -> Result<(), Failure> {
        let connector = DieselConnector::new(pool(&self.url()));
        persist(async || connector.run_pending_migrations(MIGRATIONS).await.map(drop).map_err(Failure::from)).await
    }

    /// Reverts the last migrations, and runs them again.
    pub(crate) async fn revert_and_migrate(&self, count: usize) -> Result<(), Failure> {
        let url = self.url();
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

    /// Starts a standby of the server.
    pub(crate) async fn start_standby(&self) -> Result<PrivateServer, Failure> {
        let (server, options) = (self.current().server, self.options.clone());
        Ok(tokio::task::spawn_blocking(move || server.start_standby(&options)).await??)
    }

    /// From now on, this is the server. Its predecessor is removed.
    pub(crate) async fn replace_with(&self, server: PrivateServer) -> Result<(), Failure> {
        let address = address_of(server.url())?;
        let new = Current { server: Arc::new(server), address };
        let former = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), new);
        Ok(tokio::task::spawn_blocking(move || drop(former)).await?)
    }

    /// Returns the process ID of the whole server.
    pub(crate) async fn pid(&self) -> Result<i32, Failure> {
        let directory = word("current_setting('data_directory')", &mut self.connect_as_superuser().await?).await?;
        let file = std::fs::read_to_string(Path::new(&directory).join("postmaster.pid"))?;
        Ok(file.lines().next().unwrap_or_default().parse()?)
    }

    /// Returns a program of the server's installation, if it is there.
    pub(crate) async fn program(&self, name: &str) -> Result<PathBuf, Failure> {
        let directory = "(SELECT setting FROM pg_config WHERE name = 'BINDIR')";
        let directory = word(directory, &mut self.connect_as_superuser().await?).await?;
        let program = Path::new(&directory).join(name);
        if program.exists() { Ok(program) } else { Err(format!("there is no program {}", program.display()).into()) }
    }
}

impl fmt::Debug for Server {
    /// Omits the URLs, because they contain passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns the address in a URL of a private server.
fn address_of(url: &str) -> Result<SocketAddr, Failure> {
    let (_, address) = url.rsplit_once('@').ok_or("the URL has no address")?;
    let (address, _) = address.split_once('/').ok_or("the URL has no database")?;
    Ok(address.parse()?)
}

/// Returns the value of an expression.
pub(crate) async fn word(expression: &str, connection: &mut AsyncPgConnection) -> Result<String, Failure> {
    let row: Word = diesel::sql_query(format!("SELECT ({expression})::text AS word")).get_result(connection).await?;
    Ok(row.word)
}

/// Returns the column `number` of all rows.
pub(crate) async fn numbers(query: &str, connection: &mut AsyncPgConnection) -> Result<Vec<i64>, Failure> {
    let rows: Vec<Number> = diesel::sql_query(query).load(connection).await?;
    Ok(rows.into_iter().map(|row| row.number).collect())
}

pub(crate) async fn connect(url: &str) -> Result<AsyncPgConnection, Failure> {
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
