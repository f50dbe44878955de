//! The server, its databases, connections to them, and checks of their contents.

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, AppBuilder, DieselConnector};
use throwaway_postgres::{Database, Options, Server};
use tokio_postgres::{Client, NoTls};

use crate::Measured;
use crate::arguments::Arguments;
use crate::rows::jobs_to_do;
use crate::tasks::{counted, no_op, timed};

/// The server on which everything is measured.
pub(crate) struct BenchServer {
    pub(crate) arguments: Arguments,
    // Before the server, because it must be dropped first.
    template: Database,
    server: Server,
}

impl BenchServer {
    /// Starts a private server. Work that would affect only some rounds is disabled: the server neither vacuums nor
    /// writes checkpoints, except on request.
    pub(crate) async fn prepare(arguments: Arguments) -> Measured<Self> {
        let options = Options::new()
            .ignore_database_url(true)
            .durable(true)
            .setting("shared_buffers", "512MB")
            .setting("max_wal_size", "4GB")
            .setting("checkpoint_timeout", "1h")
            .setting("autovacuum", "off")
            .setting("synchronous_commit", arguments.synchronous_commit());
        let server = Server::start_with(&options)?;
        let template = server.create_database("speed")?;
        migrate(template.superuser_url()).await?;
        Ok(Self { arguments, template, server })
    }

    /// Describes the versions, the machine and the settings.
    pub(crate) async fn introduction(&self) -> Measured<String> {
        let client = connect(self.server.url()).await?;
        let setting =
            async |name: &str| -> Measured<String> { Ok(client.query_one(&format!("SHOW {name}"), &[]).await?.get(0)) };
        let cores = std::thread::available_parallelism()?;
        Ok(format!(
            "procrastinate {}, PostgreSQL {} on the same machine, which has {cores} cores; {}; fsync {}, synchronous_commit \
             {}, full_page_writes {}, shared_buffers {}; {} jobs, {} rounds (growth and latency {}), {} other rows",
            env!("CARGO_PKG_VERSION"),
            setting("server_version").await?,
            if cfg!(debug_assertions) { "DEBUG BUILD, not comparable" } else { "release build" },
            setting("fsync").await?,
            setting("synchronous_commit").await?,
            setting("full_page_writes").await?,
            setting("shared_buffers").await?,
            self.arguments.jobs(),
            self.arguments.rounds(),
            self.arguments.long_rounds(),
            self.arguments.rows(),
        ))
    }

    /// Creates a database with the crate's tables, which are empty.
    pub(crate) fn database(&self) -> Measured<Database> {
        self.database_like(&self.template)
    }

    /// Copies a database without sessions.
    pub(crate) fn database_like(&self, template: &Database) -> Measured<Database> {
        Ok(self.server.create_database_from(template, "speed")?)
    }

    /// Creates an empty database.
    pub(crate) fn empty_database(&self) -> Measured<Database> {
        Ok(self.server.create_database("speed")?)
    }

    /// Creates a database with this many pending jobs of the task `no_op`, vacuumed and analyzed.
    pub(crate) async fn database_with_jobs(&self, jobs: u32) -> Measured<Database> {
        let database = self.database()?;
        fill_with_jobs(database.superuser_url(), jobs).await?;
        Ok(database)
    }
}

/// Runs the crate's migrations.
pub(crate) async fn migrate(url: &str) -> Measured<()> {
    let connector = DieselConnector::new(pool_of(url, 1).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    Ok(())
}

/// Adds this many pending jobs of the task `no_op`.
pub(crate) async fn fill_with_jobs(url: &str, jobs: u32) -> Measured<()> {
    fill(url, &jobs_to_do(jobs, "no_op", "'work'")).await?;
    settle(url).await
}

/// Vacuums, analyzes and writes a checkpoint, so that no such work is left.
pub(crate) async fn settle(url: &str) -> Measured<()> {
    let client = connect(url).await?;
    client.batch_execute("VACUUM ANALYZE").await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// Runs SQL that inserts rows as fast as possible, without triggers and foreign key checks.
pub(crate) async fn fill(url: &str, sql: &str) -> Measured<()> {
    let client = connect(url).await?;
    client.batch_execute("SET session_replication_role = replica").await?;
    Ok(client.batch_execute(sql).await?)
}

/// Disables triggers for raw SQL that writes events itself. Foreign keys are still checked.
pub(crate) async fn disable_triggers(url: &str) -> Measured<()> {
    Ok(connect(url).await?.batch_execute("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER").await?)
}

/// Opens a connection for raw SQL.
pub(crate) async fn connect(url: &str) -> Measured<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // The task ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

/// Creates a pool of a usual size for an application.
pub(crate) async fn pool(url: &str) -> Measured<Pool<AsyncPgConnection>> {
    pool_of(url, 5).await
}

/// Creates a pool of this many connections.
async fn pool_of(url: &str, connections: u32) -> Measured<Pool<AsyncPgConnection>> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    Ok(Pool::builder().max_size(connections).build(manager).await?)
}

/// Builds an application with the tasks.
pub(crate) fn app(pool: Pool<AsyncPgConnection>) -> Measured<App> {
    Ok(builder(pool).build()?)
}

pub(crate) fn builder(pool: Pool<AsyncPgConnection>) -> AppBuilder {
    App::builder(DieselConnector::new(pool)).task::<no_op>().task::<timed>().task::<counted>()
}

/// The expected contents of a database after a measurement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) jobs: i64,
    pub(crate) succeeded: i64,
    pub(crate) events: i64,
}

impl Contents {
    /// This many pending jobs.
    pub(crate) fn deferred(jobs: u32) -> Self {
        Self { jobs: jobs.into(), succeeded: 0, events: jobs.into() }
    }

    /// This many succeeded jobs, with their events.
    pub(crate) fn processed(jobs: u32) -> Self {
        Self { jobs: jobs.into(), succeeded: jobs.into(), events: 3 * i64::from(jobs) }
    }

    /// No jobs, because all were deleted.
    pub(crate) fn nothing() -> Self {
        Self { jobs: 0, succeeded: 0, events: 0 }
    }

    /// Fails if the database has different contents.
    pub(crate) async fn expect(self, url: &str) -> Measured<()> {
        let counted = connect(url)
            .await?
            .query_one(
                "SELECT count(*), count(*) FILTER (WHERE status = 'succeeded'), (SELECT count(*) FROM procrastinate_events)
                 FROM procrastinate_jobs",
                &[],
            )
            .await?;
        let found = Self { jobs: counted.get(0), succeeded: counted.get(1), events: counted.get(2) };
        if found != self { Err(format!("expected {self:?}, found {found:?}").into()) } else { Ok(()) }
    }
}
