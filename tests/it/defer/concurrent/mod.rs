//! Calls of `App::defer` that run at the same time: their jobs travel in one statement.
//!
//! The first call is held in the database by a lock on the table. Calls that are polled once meanwhile wait for it.

mod answers;
mod callers;
mod travelling;

use std::pin::Pin;

use diesel::PgConnection;
use futures_util::FutureExt;
use procrastinate::{App, Error, JobId, JobToDefer, task};
use throwaway_postgres::Database;
use tokio::task::JoinHandle;

use crate::support::{connect, connector, database, eventually, rows, sql};

#[task(queue = "mails")]
async fn send(to: i64) {
    let _ = to;
}

/// How many statements wait for the lock on the table. Other databases can have a table with the same ID.
const WAITING: &str = "
    SELECT count(*) FROM pg_locks
    WHERE NOT granted AND relation = 'procrastinate_jobs'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

type Call<'c> = Pin<Box<dyn Future<Output = Result<JobId, Error>> + Send + 'c>>;

/// Calls that each have been polled once, so that they wait.
fn start(app: &App, jobs: impl IntoIterator<Item = JobToDefer>) -> Vec<Call<'_>> {
    let started = jobs.into_iter().map(|job| {
        let mut call: Call<'_> = Box::pin(app.defer(job));
        assert!(call.as_mut().now_or_never().is_none());
        call
    });
    started.collect()
}

/// An application and its database, where nobody can insert a job.
struct Held {
    database: Database,
    app: App,
    holder: PgConnection,
}

impl Held {
    async fn new() -> Self {
        let database = database();
        let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
        Self::with(database, app)
    }

    fn with(database: Database, app: App) -> Self {
        let mut held = Self { holder: connect(&database), database, app };
        held.hold();
        held
    }

    fn hold(&mut self) {
        sql(&mut self.holder, "BEGIN; LOCK TABLE procrastinate_jobs IN SHARE MODE");
    }

    fn release(&mut self) {
        sql(&mut self.holder, "COMMIT");
    }

    /// Defers a job whose statement waits for the lock.
    async fn first(&mut self, job: JobToDefer) -> JoinHandle<Result<JobId, Error>> {
        let app = self.app.clone();
        let first = tokio::spawn(async move { app.defer(job).await });
        self.until_waiting().await;
        first
    }

    async fn until_waiting(&mut self) {
        eventually("the statement waits", || self.is_waiting()).await;
    }

    fn is_waiting(&mut self) -> bool {
        rows(&mut self.holder, WAITING) == ["1"]
    }

    /// How many jobs each statement has stored, in the order of the jobs. Each is a transaction.
    fn statements(&mut self) -> Vec<String> {
        let query = "SELECT count(*) FROM procrastinate_jobs GROUP BY xmin::text ORDER BY min(id)";
        rows(&mut connect(&self.database), query)
    }
}
