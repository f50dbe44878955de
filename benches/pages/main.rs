//! How long the admin pages take on a large database, and what visitors cost.
//!
//! ```text
//! cargo bench --features admin --bench pages                      two million jobs, in about ten minutes
//! cargo bench --features admin --bench pages -- --jobs 100000     fewer
//! ```
//!
//! It runs on a private PostgreSQL server. Each page is asked for over HTTP, ten times after a first time. Then ten
//! visitors look at pages for a minute, and each of them refreshes as the script of the pages does.
//!
//! | file | contents |
//! |---|---|
//! | `database` | the server, and its jobs and events |
//! | `visitors` | requests, and what visitors cost |
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it prints the tables")]
#![allow(clippy::print_stderr, reason = "it prints the progress")]

mod database;
mod visitors;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use database::LargeDatabase;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::admin::{Access, AdminPages};
use procrastinate::{App, DieselConnector};
use tokio::net::TcpListener;
use tokio::time::sleep;
use visitors::get;

/// The result of everything here. An error is only printed.
type Measured<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How often each page is asked for.
const TIMES: usize = 10;

/// The overview is read again when it is older than that.
const OLD: Duration = Duration::from_secs(61);

/// Pages of each kind. The jobs that match a filter are many, few, or none.
const PAGES: [(&str, &str); 22] = [
    ("jobs", "/jobs"),
    ("jobs, the last page", "/jobs?after=0"),
    ("pending jobs", "/jobs?status=todo"),
    ("failed jobs", "/jobs?status=failed"),
    ("jobs of a queue", "/jobs?queue=queue-7"),
    ("pending jobs of a queue", "/jobs?status=todo&queue=queue-7"),
    ("failed jobs of a task", "/jobs?status=failed&task=app.task_11"),
    ("jobs of a task that does not exist", "/jobs?task=none"),
    ("jobs of a lock", "/jobs?lock=lock+5000"),
    ("jobs with a text", "/jobs?text=customer+77"),
    ("jobs without a text", "/jobs?text=none"),
    ("jobs that ended in a time", "/jobs?ended_since=2d&ended_before=1d"),
    ("pending jobs older than a time", "/jobs?status=todo&created_before=1h"),
    ("a finished job", "/jobs/1001"),
    ("a pending job with a lock", "/jobs/1000"),
    ("a pending job without one", "/jobs/1940"),
    ("queues", "/queues"),
    ("tasks", "/tasks"),
    ("locks", "/locks"),
    ("schedules", "/schedules"),
    ("workers", "/workers"),
    ("actions", "/actions"),
];

#[tokio::main]
async fn main() -> Measured<()> {
    let jobs = jobs()?;
    let database = LargeDatabase::create(jobs).await?;
    println!("{}\n", database.introduction().await?);

    println!("| page | ms: the first time | median of {TIMES} | slowest |\n|---|---|---|---|");
    let address = serve(&database).await?;
    let first = get(address, "/").await?;
    row("overview", first, &mut times(address, "/").await?);
    sleep(OLD).await;
    row("overview, after a minute without visitors", get(address, "/").await?, &mut times(address, "/").await?);
    let (running, late) = (format!("/jobs/{}", jobs - 1), format!("/jobs/{}", jobs / 2 + 100));
    let of_jobs = [("a job that runs", &*running), ("a pending job behind many", &late)];
    for (name, page) in PAGES.into_iter().chain(of_jobs) {
        let first = get(address, page).await?;
        row(name, first, &mut times(address, page).await?);
    }
    println!("\n{}", visitors::cost(address, &database).await?);
    Ok(())
}

/// How many jobs the command line asks for.
fn jobs() -> Measured<u32> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let jobs = match (words.next().as_deref(), words.next()) {
        (None, _) => 2_000_000,
        (Some("--jobs"), Some(jobs)) => jobs.parse()?,
        (Some(word), _) => return Err(format!("`{word}` is not an option; there is only `--jobs NUMBER`").into()),
    };
    // So that the jobs with certain IDs have the status that their names say.
    if jobs < 10_000 || jobs % 1_000 != 0 {
        return Err(format!("--jobs {jobs} must be a multiple of 1,000, and at least 10,000").into());
    }
    Ok(jobs)
}

/// Serves the pages of the database.
async fn serve(database: &LargeDatabase) -> Measured<SocketAddr> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let app = App::builder(DieselConnector::new(Pool::builder().max_size(4).build(manager).await?)).build()?;
    let pages = AdminPages::new(&app).access(|_| Access::operator("ann")).router();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, Router::new().fallback_service(pages)).await });
    Ok(address)
}

async fn times(address: SocketAddr, page: &str) -> Measured<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        times.push(get(address, page).await?);
    }
    Ok(times)
}

fn row(name: &str, first: Duration, times: &mut [Duration]) {
    times.sort();
    let [first, median, slowest] = [first, times[TIMES / 2], times[TIMES - 1]].map(|time| time.as_secs_f64() * 1e3);
    println!("| {name} | {first:.1} | {median:.1} | {slowest:.1} |");
}
