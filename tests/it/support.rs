//! What the tests share: a migrated database each, and connections to it.

use std::sync::OnceLock;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinateWorker};
use procrastinate::{DieselConnector, Error, JobId, JobStatus, Worker};
use throwaway_postgres::{Database, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// How long to wait for what must happen, before a test fails. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A database with the crate's migrations, a copy of one that was migrated once.
pub fn database() -> Database {
    static TEMPLATE: OnceLock<Database> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let database = empty_database();
        let mut connection = connect(&database);
        procrastinate::migrations::run_pending_migrations(&mut connection, procrastinate::migrations::MIGRATIONS)
            .unwrap();
        database
    });
    Server::shared().unwrap().create_database_from(template, "test").unwrap()
}

/// A database with nothing in it.
pub fn empty_database() -> Database {
    Server::shared().unwrap().create_database("test").unwrap()
}

/// A database with the crate's migrations and this encoding, which is not UTF-8 as that of the others is.
pub fn database_in(encoding: &str) -> Database {
    let server = Server::shared().unwrap();
    let database = server.create_database("test").unwrap();
    let mut connection = maintenance();
    let name = database.name();
    let owner = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'");
    let owner = rows(&mut connection, &owner).remove(0);
    sql(&mut connection, &format!("DROP DATABASE \"{name}\""));
    sql(
        &mut connection,
        &format!(
            "CREATE DATABASE \"{name}\" OWNER \"{owner}\" TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        ),
    );
    let migrations = procrastinate::migrations::MIGRATIONS;
    procrastinate::migrations::run_pending_migrations(&mut connect(&database), migrations).unwrap();
    database
}

/// A blocking connection.
pub fn connect(database: &Database) -> PgConnection {
    PgConnection::establish(database.url()).unwrap()
}

/// A blocking connection as superuser, for what an application cannot do.
pub fn superuser(database: &Database) -> PgConnection {
    PgConnection::establish(database.superuser_url()).unwrap()
}

/// The application's pool.
pub async fn pool(database: &Database) -> Pool<AsyncPgConnection> {
    impatient_pool(database, Duration::from_secs(10)).await
}

/// A pool that waits this long for a connection. Only then bb8 reports that the server is unreachable.
pub async fn impatient_pool(database: &Database, timeout: Duration) -> Pool<AsyncPgConnection> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    Pool::builder().max_size(5).connection_timeout(timeout).build(manager).await.unwrap()
}

/// Runs the body in a transaction, with each version of diesel-async. They differ in what `transaction` accepts.
pub async fn transaction<T, E: From<diesel::result::Error>>(
    connection: &mut AsyncPgConnection,
    body: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, E>,
) -> Result<T, E> {
    AnsiTransactionManager::begin_transaction(&mut *connection).await?;
    let result = body(&mut *connection).await;
    match result {
        Ok(_) => AnsiTransactionManager::commit_transaction(connection).await?,
        Err(_) => AnsiTransactionManager::rollback_transaction(connection).await?,
    }
    result
}

/// A connector on a pool of its own.
pub async fn connector(database: &Database) -> DieselConnector {
    DieselConnector::new(pool(database).await)
}

/// Runs SQL of any number of statements.
pub fn sql(connection: &mut PgConnection, statements: &str) {
    diesel::connection::SimpleConnection::batch_execute(connection, statements)
        .unwrap_or_else(|error| panic!("{error} in:\n{statements}"));
}

/// Ends all other connections to the database of this connection, and returns how many there were. Those that are still
/// being opened are among them. `pg_stat_activity` does not show them, but each of them holds a lock of its database.
pub fn end_other_connections(connection: &mut PgConnection) -> usize {
    let here = rows(connection, "SELECT oid, pg_backend_pid() FROM pg_database WHERE datname = current_database()");
    let (database, own_pid) = here[0].split_once(" | ").unwrap();
    let others = format!(
        "SELECT pg_terminate_backend(pid) FROM (
             SELECT pid FROM pg_stat_activity WHERE datid = {database} AND backend_type = 'client backend'
             UNION SELECT pid FROM pg_locks WHERE classid = 'pg_database'::regclass AND objid = {database}
         ) AS connected WHERE pid <> {own_pid}"
    );
    rows(&mut maintenance(), &others).len()
}

/// Makes the database unreachable, except on this connection.
pub async fn close_database(database: &Database, connection: &mut PgConnection) {
    allow_connections(database, false);
    eventually("no other connection is left", || end_other_connections(connection) == 0).await;
}

/// Allows connections again after [`close_database`].
pub fn open_database(database: &Database) {
    allow_connections(database, true);
}

fn allow_connections(database: &Database, allow: bool) {
    sql(&mut maintenance(), &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS {allow}", database.name()));
}

/// A connection as superuser to another database of the server.
fn maintenance() -> PgConnection {
    PgConnection::establish(Server::shared().unwrap().url()).unwrap()
}

/// The current state of a job.
pub fn job(connection: &mut PgConnection, id: JobId) -> ProcrastinateJob {
    ProcrastinateJob::query().filter(ProcrastinateJob::has_id(id)).first(connection).unwrap()
}

/// The status of each job, by id.
pub fn statuses(connection: &mut PgConnection) -> Vec<JobStatus> {
    use procrastinate::schema::procrastinate_jobs::dsl::{id, procrastinate_jobs, status};
    procrastinate_jobs.select(status).order(id).load(connection).unwrap()
}

/// The labels of a job's events, oldest first.
pub fn events(connection: &mut PgConnection, id: JobId) -> Vec<String> {
    ProcrastinateEvent::query()
        .filter(ProcrastinateEvent::of_job(id))
        .order(ProcrastinateEvent::oldest_first())
        .load(connection)
        .unwrap()
        .into_iter()
        .map(|event| event.event_type.unwrap().to_string())
        .collect()
}

/// What is kept of a job's failed attempts, each as its number and the error.
pub fn errors(connection: &mut PgConnection, id: JobId) -> Vec<String> {
    ProcrastinateJobError::query()
        .filter(ProcrastinateJobError::of_job(id))
        .order(ProcrastinateJobError::oldest_first())
        .load(connection)
        .unwrap()
        .into_iter()
        .map(|error: ProcrastinateJobError| format!("{}: {}", error.attempt, error.error))
        .collect()
}

/// The rows of a query, each as the texts of its columns with bars between: for what no model covers.
pub fn rows(connection: &mut PgConnection, query: &str) -> Vec<String> {
    try_rows(connection, query).unwrap_or_else(|error| panic!("{error} in:\n{query}"))
}

/// As [`rows`], where an error is what the test is about.
pub fn try_rows(connection: &mut PgConnection, query: &str) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        columns: String,
    }
    let columns = "ARRAY(SELECT coalesce(value, 'NULL') FROM json_each_text(row_to_json(answer)))";
    let query = format!("SELECT array_to_string({columns}, ' | ') AS columns FROM ({query}) AS answer");
    Ok(diesel::sql_query(query).load::<Row>(connection)?.into_iter().map(|row| row.columns).collect())
}

/// All jobs, by id.
pub fn jobs(connection: &mut PgConnection) -> Vec<ProcrastinateJob> {
    ProcrastinateJob::query().order(procrastinate::schema::procrastinate_jobs::id).load(connection).unwrap()
}

/// The workers that are registered, by id.
pub fn workers(connection: &mut PgConnection) -> Vec<ProcrastinateWorker> {
    ProcrastinateWorker::query().order(procrastinate::schema::procrastinate_workers::id).load(connection).unwrap()
}

/// A worker that runs in the background until it is stopped.
pub struct Running {
    stop: oneshot::Sender<()>,
    result: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub fn start(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel();
        let worker = worker.with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        Self { stop, result: tokio::spawn(worker.run()) }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.result.is_finished()
    }

    /// Asks it to stop, without waiting.
    pub fn ask_to_stop(self) -> JoinHandle<Result<(), Error>> {
        self.stop.send(()).unwrap();
        self.result
    }

    /// Stops it, and waits until it has.
    pub async fn stop(self) -> Result<(), Error> {
        within_patience(self.ask_to_stop()).await.unwrap()
    }
}

/// Lets this layer receive what is logged on this thread, as long as the guard lives.
pub fn log_to(layer: impl Layer<Registry> + Send + Sync) -> DefaultGuard {
    // With only one subscriber, tracing asks the thread that logs a line first, which may have none, and then never
    // logs this line on any thread.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    // A test on another thread that registered an event while this layer was added has switched that event off.
    tracing::callsite::rebuild_interest_cache();
    guard
}

/// What the future comes to; a test fails that waits too long.
pub async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this did not happen in time")
}

/// Waits for a condition without a notification: checks it repeatedly.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// So many hours.
pub fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3_600)
}
